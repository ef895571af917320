"""Picture of a prepared subject: three planes of each modality, with outlines of template and brain."""

from pathlib import Path

import numpy as np

from common.files import atomic_write
from common.inference.panels import PLANES, grey_levels, panel, png
from common.prepare.subject import Prepared

TEMPLATE, BRAIN = "#56b4e9", "#e69f00"  # blue and orange, distinguishable by the colour-blind
INCHES, DOTS = 2.6, 110  # inches per panel, dots per inch


def draw(prepared: Prepared, path: Path, title: str) -> None:
    """Draw the heads in planes through the middle of the brain as a PNG file, without brain extraction."""
    from common.drawing import pixels_of  # slow imports
    from common.inference.pictures import figure_of

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
    legend = {"template": TEMPLATE, "brain found": BRAIN}
    with atomic_write(path) as file:
        file.write_bytes(png(pixels_of(figure_of(rows, legend=legend, title=title, inches=INCHES), DOTS)))
