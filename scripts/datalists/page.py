"""The page of a check, findings.html, and its pictures; a part of `python -m scripts.datalists check`.

The page is self-contained, including its style, which it shares with `scripts.report`.
"""

import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from matplotlib.image import imsave

from common.data.headers import Problem
from common.inference.pictures import PLANES, centre_of, plane_of
from common.pages.templates import png_uri, render
from common.pages.volumes import AXES, grey_levels, read_volume
from scripts.datalists.examine import CHECKS

__all__ = ["draw", "page"]

EDGE = 128  # pixels of the longest edge of a volume in a picture
LESION, NOT_FINITE = (209, 73, 91), (255, 0, 255)  # red, green, blue


def page(result: Any, suspects: Sequence[Mapping[str, Any]], cohort: Sequence[Problem]) -> str:
    """The page as HTML.

    Args:
        result: a `scripts.datalists.check.Result`.
        suspects: "case", "problems" and "picture" of the subjects to show.
        cohort: problems of the whole cohort.
    """
    return render(
        Path(__file__).with_name("check.html.j2"),
        result=result,
        suspects=suspects,
        cohort=cohort,
        severities=CHECKS,
    )


def draw(order: tuple[Mapping[str, Any], str], root: str) -> tuple[str, str] | None:
    """Draw three planes of a file side by side.

    The planes run through the middle of the voxels that are not finite (magenta), or else of the label (red), or else
    of the volume. For a label, or a file that cannot be opened, the first readable image is drawn instead.

    Args:
        order: the case, and the file with the problem.
        root: folder of the files.

    Returns:
        The file that was drawn, and the picture as a data URI; None if nothing can be drawn.
    """
    case, file = order
    label = _volume(root, case.get("label"))
    for image in dict.fromkeys(filter(None, [file, *case["image"]])):
        volume = None if image == case.get("label") else _volume(root, image)
        if volume is not None:
            return image, _picture(*volume, label[0] if label is not None else None)
    return (case["label"], _picture(*label, label[0])) if label is not None else None


def _volume(root: str, file: str | None) -> tuple[np.ndarray, np.ndarray] | None:
    """[x, y, z] in the orientation nearest to RAS, and the spacing in mm."""
    if file is None:
        return None
    found = read_volume(os.path.join(root, file))  # noqa: PTH118
    return found and (found[0], nibabel.affines.voxel_sizes(found[1]))


def _picture(volume: np.ndarray, spacing: np.ndarray, label: np.ndarray | None) -> str:
    odd = ~np.isfinite(volume)
    mask = label > 0 if label is not None and label.shape == volume.shape else np.zeros_like(odd)
    x, y, z = centre_of((odd if odd.any() else mask)[None])
    grey = grey_levels(volume)
    scale = EDGE / (spacing * volume.shape).max()
    panels = []
    for plane, at in zip(PLANES, (z, y, x), strict=True):
        rows, columns = AXES[plane]
        edges = (spacing[rows] * volume.shape[rows] * scale, spacing[columns] * volume.shape[columns] * scale)
        colours = np.repeat(plane_of(grey, plane, at)[..., None], 3, axis=-1)
        colours[_outline(plane_of(mask, plane, at))] = LESION
        colours[plane_of(odd, plane, at)] = NOT_FINITE
        panels.append(_resampled(colours[::-1], edges))
    height = max(map(len, panels))
    padded = [_centred(panel, height) for panel in panels]
    content = BytesIO()
    imsave(content, np.concatenate(padded, axis=1).astype(np.uint8), format="png")
    return png_uri(content.getvalue())


def _centred(pixels: np.ndarray, height: int) -> np.ndarray:
    """Pad with black rows above and below, and with a black gap to the next panel."""
    above = (height - len(pixels)) // 2
    return np.pad(pixels, ((above, height - len(pixels) - above), (1, 1), (0, 0)))


def _outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask with a neighbour outside the mask or the picture."""
    inner = np.pad(mask, 1)
    inside = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    return mask & ~inside


def _resampled(pixels: np.ndarray, edges: tuple[float, float]) -> np.ndarray:
    """Resample to another number of rows and columns by nearest neighbour."""
    rows, columns = (max(1, round(edge)) for edge in edges)
    return pixels[np.arange(rows) * pixels.shape[0] // rows][:, np.arange(columns) * pixels.shape[1] // columns]
