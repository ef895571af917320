"""Pictures in three planes: a prepared subject with outlines of template and brain, a raw scan with its labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.data.regions import colours, regions_of
from common.data.volumes import canonical
from common.files import atomic_write
from common.inference.panels import PLANES, centre_of, grey_levels, panel, png
from scripts.prepare.subject import Prepared
from scripts.prepare.volumes import Volume

TEMPLATE, BRAIN, LABELS = "#56b4e9", "#e69f00", "#cc79a7"  # blue, orange, purple: distinct for the colour-blind
INCHES, DOTS = 2.6, 110  # inches per panel, dots per inch
PERIOD = 800  # milliseconds of each picture of a flicker


def draw(prepared: Prepared, path: Path, title: str, labels: NDArray[Any] | None = None) -> None:
    """Draw each modality with skull and the outlines of template and brain, in three planes, as a PNG file.

    The planes go through the middle of the brain or of the labels [x, y, z] above 0, if any, which are outlined, too.
    """
    outlines = {TEMPLATE: prepared.template, BRAIN: prepared.brain}
    legend = {"template": TEMPLATE, "brain found": BRAIN}
    if labels is not None and (labels > 0).any():
        outlines[LABELS] = labels > 0
        legend["labels"] = LABELS
    rows = {modality: _panels(prepared, modality, outlines) for modality in prepared.heads}
    _write(path, [rows], legend, title)


def draw_flicker(prepared: Prepared, reference: str, path: Path, title: str) -> None:
    """Draw an animated PNG of the reference and each registered modality in turn: misaligned parts move."""
    outlines = {BRAIN: prepared.brain}
    registered = [modality for modality in prepared.heads if modality != reference]
    frames = [
        {f"{reference}, {modality}": _panels(prepared, drawn or modality, outlines) for modality in registered}
        for drawn in (reference, None)
    ]
    _write(path, frames, {"brain found": BRAIN}, title)


def _panels(prepared: Prepared, modality: str, outlines: Mapping[str, NDArray[Any]]) -> list[NDArray[np.uint8]]:
    """Return three planes of a head, through the middle of the last mask in `outlines` (a mask for each colour).

    The brain's intensities set black and white, as fat is far brighter than the brain in a FLAIR.
    """
    head = prepared.heads[modality]
    steps = np.sign(np.diag(head.affine)[:3]).astype(int)
    ras = tuple(slice(None, None, step) for step in steps)  # axes towards right, anterior and superior
    masks = {colour: mask[ras] for colour, mask in outlines.items()}
    centre = [int(np.median(indices)) for indices in np.nonzero([*masks.values()][-1])]
    voxels, edge = head.array[ras], round(INCHES * DOTS)
    levels = grey_levels(voxels, like=voxels * masks[BRAIN])
    return [
        panel(levels, plane, at, head.grid.spacing, masks, edge) for plane, at in zip(PLANES, centre[::-1], strict=True)
    ]


def draw_labels(scan: Volume, labels: Volume, path: Path, title: str, convention: str) -> None:
    """Draw a scan and the outlines of its regions, in planes through the largest labelled slice, as a PNG file."""
    head, affine = canonical(scan.array, scan.affine)
    values, _ = canonical(labels.array, labels.affine)
    shades, regions = colours(convention), regions_of(convention)
    outlines = {shades[name]: np.isin(values, [*regions[name]]) for name in shades}
    levels, spacing = grey_levels(head), Volume(head, affine).spacing
    planes = [*zip(PLANES, centre_of(values > 0)[::-1], strict=True)]
    rows = {
        name: [panel(levels, plane, at, spacing, drawn, round(INCHES * DOTS)) for plane, at in planes]
        for name, drawn in {"scan": {}, "labels": outlines}.items()
    }
    _write(path, [rows], shades, title)


def _write(
    path: Path, frames: Sequence[Mapping[str, Sequence[NDArray[Any]]]], legend: Mapping[str, str], title: str
) -> None:
    """Write a PNG file of labelled rows of panels; several frames make an animated PNG file."""
    from common.drawing import pixels_of  # slow imports
    from common.inference.pictures import figure_of

    figures = (figure_of(rows, legend=legend, title=title, inches=INCHES) for rows in frames)
    pixels = [pixels_of(figure, DOTS) for figure in figures]
    with atomic_write(path) as file:
        file.write_bytes(png(*pixels, period=PERIOD))
