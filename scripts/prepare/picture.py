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
from common.prepare.subject import Prepared
from common.prepare.volumes import Volume

TEMPLATE, BRAIN = "#56b4e9", "#e69f00"  # blue and orange, distinguishable by the colour-blind
INCHES, DOTS = 2.6, 110  # inches per panel, dots per inch


def draw(prepared: Prepared, path: Path, title: str) -> None:
    """Draw the heads, skull included, in planes through the middle of the brain, as a PNG file."""
    steps = np.sign(np.diag(next(iter(prepared.heads.values())).affine)[:3]).astype(int)
    ras = tuple(slice(None, None, step) for step in steps)  # axes towards right, anterior and superior
    outlines = {TEMPLATE: prepared.template[ras], BRAIN: prepared.brain[ras]}
    centre = [int(np.median(indices)) for indices in np.nonzero(outlines[BRAIN])]
    rows = {
        modality: [
            panel(grey_levels(head.array[ras]), plane, at, head.grid.spacing, outlines, round(INCHES * DOTS))
            for plane, at in zip(PLANES, centre[::-1], strict=True)
        ]
        for modality, head in prepared.heads.items()
    }
    _write(path, rows, {"template": TEMPLATE, "brain found": BRAIN}, title)


def draw_labels(scan: Volume, labels: Volume, path: Path, title: str, convention: str) -> None:
    """Draw a scan and the outlines of its labelled regions, in planes through the largest labelled slice, as a PNG."""
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
    _write(path, rows, shades, title)


def _write(path: Path, rows: Mapping[str, Sequence[NDArray[Any]]], legend: Mapping[str, str], title: str) -> None:
    from common.drawing import pixels_of  # slow imports
    from common.inference.pictures import figure_of

    with atomic_write(path) as file:
        file.write_bytes(png(pixels_of(figure_of(rows, legend=legend, title=title, inches=INCHES), DOTS)))
