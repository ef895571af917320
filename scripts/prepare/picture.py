"""A picture of a prepared subject: each modality in three planes, with the outlines of template and brain."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from common.pages.volumes import AXES, grey_levels
from common.prepare.subject import Prepared

__all__ = ["draw"]

TEMPLATE, BRAIN = "#56b4e9", "#e69f00"  # blue, orange: also told apart by the colour-blind
INCHES, DOTS = 2.6, 110  # of a panel; per inch


def draw(prepared: Prepared, path: Path, title: str) -> None:
    """Draw the heads through the middle of the brain, before the brain was extracted.

    Args:
        prepared: the subject.
        path: a PNG file.
        title: of the picture.
    """
    flips = np.sign(np.diag(next(iter(prepared.heads.values())).affine)[:3]).astype(int)
    brain, template = (_ras(mask, flips) for mask in (prepared.brain, prepared.template))
    centre = [int(np.median(indices)) for indices in np.nonzero(brain)]
    rows = len(prepared.heads)
    figure = Figure(figsize=(3 * INCHES, rows * INCHES + 0.5), layout="constrained", facecolor="white")
    panels = figure.subplots(rows, 3, squeeze=False)
    for row, (modality, head) in zip(panels, prepared.heads.items(), strict=True):
        levels = grey_levels(_ras(head.array, flips))
        spacing = head.grid.spacing
        for number, (panel, plane) in enumerate(zip(row, AXES, strict=True)):
            at = centre[2 - number]
            vertical, horizontal = AXES[plane]
            aspect = spacing[vertical] / spacing[horizontal]
            panel.imshow(_slice(levels, plane, at), cmap="gray", vmin=0, vmax=255, origin="lower", aspect=aspect)
            for mask, colour in ((template, TEMPLATE), (brain, BRAIN)):
                cut = _slice(mask, plane, at)
                if cut.any() and not cut.all():
                    panel.contour(cut, levels=[0.5], colors=colour, linewidths=0.8)
            panel.set(xticks=[], yticks=[])
        row[0].set_ylabel(modality)
    lines = [Line2D([], [], color=colour) for colour in (TEMPLATE, BRAIN)]
    figure.legend(lines, ["template", "brain found"], loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=DOTS)


def _slice(volume: NDArray, plane: str, at: int) -> NDArray:
    """A slice [rows, columns] of a volume [x, y, z] in RAS+; x is mirrored, as in radiology."""
    if plane == "sagittal":
        return volume[at].T
    return (volume[::-1, :, at] if plane == "axial" else volume[::-1, at]).T


def _ras(array: NDArray, flips: NDArray[np.int_]) -> NDArray:
    """The array with its axes towards right, front and top."""
    return array[tuple(slice(None, None, step) for step in flips)]
