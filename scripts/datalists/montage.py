"""Thumbnails of subjects for the page of a check; drawn while a subject's files are open."""

from io import BytesIO

import numpy as np

__all__ = ["LESION", "outline", "thumbnail"]

EDGE = 96  # pixels of the longest edge of a thumbnail
LESION = (209, 73, 91)  # red, green, blue
GREYS = 255  # of the palette's 256 colours; the last one is LESION


def thumbnail(volume: np.ndarray, spacing: np.ndarray, label: np.ndarray | None) -> bytes:
    """An axial slice as PNG: the label's largest, or else the one in the middle of the tissue.

    Args:
        volume: [x, y, z] in RAS orientation, finite.
        spacing: mm.
        label: [x, y, z], of which all but 0 is outlined; None for none.

    Returns:
        The picture in radiological convention: left is the patient's right, anterior is on top.
    """
    from PIL import Image  # here, as `--help` need not wait for it

    mask = np.zeros(volume.shape, bool) if label is None else label != 0
    areas = mask.sum(axis=(0, 1))
    at = int(areas.argmax()) if areas.any() else _middle(volume)
    pixels = volume[:, :, at]
    low, high = np.percentile(pixels, (0.5, 99.8))
    levels = np.clip((pixels - low) / max(high - low, 1e-6), 0, 1) * (GREYS - 1)
    size = spacing[:2] * volume.shape[:2]
    columns, rows = (max(1, round(edge)) for edge in EDGE * size / size.max())
    grey = Image.fromarray(_upright(levels.astype(np.uint8))).resize((columns, rows), Image.Resampling.BILINEAR)
    inside = Image.fromarray(_upright(mask[:, :, at])).resize((columns, rows), Image.Resampling.NEAREST)
    picture = Image.fromarray(np.where(outline(np.asarray(inside)), GREYS, np.asarray(grey)).astype(np.uint8), mode="P")
    picture.putpalette([level for grey in range(GREYS) for level in (grey,) * 3] + list(LESION))
    content = BytesIO()
    picture.save(content, format="PNG", optimize=True)
    return content.getvalue()


def _middle(volume: np.ndarray) -> int:
    """The axial slice that has half of the tissue below it; the volume's middle where nothing differs from air."""
    low, high = np.percentile(volume[::2, ::2, ::2], (0.5, 99.8))
    below = np.cumsum((volume > low + 0.1 * (high - low)).sum(axis=(0, 1)))
    return int(np.searchsorted(below, below[-1] / 2)) if below[-1] else volume.shape[2] // 2


def _upright(plane: np.ndarray) -> np.ndarray:
    """A slice [x, y] as rows from anterior to posterior, each from the patient's right to the left."""
    return np.ascontiguousarray(plane[::-1, ::-1].T)


def outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask with a neighbour outside the mask or the picture."""
    inner = np.pad(mask, 1)
    inside = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    return mask & ~inside
