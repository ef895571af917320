"""Pictures in three planes: a prepared subject with outlines of template and brain, a raw scan with its labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.data.regions import colours, regions_of
from common.files import atomic_write
from common.training.pictures import Pixels, centre_of, grey_levels, joined
from scripts.pages.panels import planes, png
from scripts.prepare.subject import Prepared
from scripts.prepare.volumes import Volume, canonical

COLOURS = {"template": "#56b4e9", "brain found": "#e69f00", "labels": "#cc79a7"}  # distinct for the colour-blind
EDGE = 286  # pixels of a panel's longest edge


def draw(prepared: Prepared, path: Path, title: str, labels: NDArray[Any] | None = None) -> None:
    """Draw each modality with skull and the outlines of template and brain, in three planes, as a PNG file.

    The planes go through the middle of the brain or of the labels [x, y, z] above 0, if any, which are outlined, too.
    The brain's intensities set black and white, as fat is far brighter than the brain in a FLAIR.
    """
    masks = {"template": prepared.template, "brain found": prepared.brain}
    if labels is not None and (labels > 0).any():
        masks["labels"] = labels > 0
    rows = {}
    for modality, head in prepared.heads.items():
        voxels, _ = canonical(head.array, head.affine)
        outlines = {COLOURS[name]: canonical(mask, head.affine)[0] for name, mask in masks.items()}
        *_, middle = outlines.values()
        centre = [int(np.median(indices)) for indices in np.nonzero(middle)]
        levels = grey_levels(voxels, like=voxels * outlines[COLOURS["brain found"]])
        rows[modality] = planes(levels, centre, head.spacing, outlines, EDGE)
    _write(path, rows, {name: COLOURS[name] for name in masks}, title)


def draw_labels(scan: Volume, labels: Volume, path: Path, title: str, convention: str) -> None:
    """Draw a scan and the outlines of its regions, in planes through the largest labelled slice, as a PNG file."""
    head, affine = canonical(scan.array, scan.affine)
    values, _ = canonical(labels.array, labels.affine)
    shades, regions = colours(convention), regions_of(convention)
    outlines = {shades[name]: np.isin(values, [*regions[name]]) for name in shades}
    place = centre_of(values > 0), Volume(head, affine).spacing
    drawn = {"scan": {}, "labels": outlines}
    rows = {label: planes(grey_levels(head), *place, masks, EDGE) for label, masks in drawn.items()}
    _write(path, rows, shades, title)


def _write(path: Path, rows: Mapping[str, Sequence[Pixels]], legend: Mapping[str, str], title: str) -> None:
    """Write a PNG file of labelled rows of panels."""
    with atomic_write(path) as file:
        file.write_bytes(png(joined(rows, legend=legend, title=title)))
