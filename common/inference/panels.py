"""Draw slices of volumes as pixels, with the same grey scale and orientation in all pictures.

Slices follow the radiological convention: the patient's right, or anterior, is on the left of the picture.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

AXES = {"axial": (1, 0), "coronal": (2, 0), "sagittal": (2, 1)}  # axes of the volume along rows and columns of a slice
PLANES = tuple(AXES)
SIDES = {"axial": "RL", "coronal": "RL", "sagittal": "AP"}  # the patient's sides on the left and right of the picture
GREYS = 64  # grey levels; pictures are a third smaller than with 256
LETTERS = 224  # grey level of the patient's sides

Outlines = Mapping[str, NDArray[np.bool_]]  # masks [x, y, z] by colour, #rrggbb


def window_of(volume: NDArray[Any]) -> tuple[float, float]:
    """Return the intensities drawn black and white: percentiles 0.5 and 99.8 of finite non-zero voxels, or 0 and 1."""
    voxels = volume[np.isfinite(volume) & (volume != 0)]
    low, high = np.percentile(voxels, (0.5, 99.8)) if voxels.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-6))


def grey_levels(volume: NDArray[Any], like: NDArray[Any] | None = None) -> NDArray[np.uint8]:
    """Return grey levels, 0 to 255, by `window_of(like)` (default: the volume); 0 and non-finite voxels are black."""
    low, high = window_of(volume if like is None else like)
    shown = np.where(np.isfinite(volume) & (volume != 0), volume, low)
    return np.asarray(np.clip((shown - low) / (high - low), 0, 1) * 255, dtype=np.uint8)


def plane_of(volume: NDArray[Any], plane: str, at: int) -> NDArray[Any]:
    """Return a slice of a volume [x, y, z] in RAS orientation as displayed: [rows, columns], the top row first."""
    return np.asarray(volume).take(at, axis=2 - PLANES.index(plane)).T[::-1, ::-1]


def centre_of(mask: NDArray[Any]) -> tuple[int, int, int]:
    """Return the median voxel (x, y, z) of a mask in its largest axial slice; the volume's centre for an empty mask."""
    if not mask.any():
        x, y, z = (side // 2 for side in mask.shape)
        return x, y, z
    z = int(mask.sum(axis=(0, 1)).argmax())
    x, y = (int(np.median(indices)) for indices in np.nonzero(mask[:, :, z]))
    return x, y, z


def panel(
    levels: NDArray[np.uint8],
    plane: str,
    at: int,
    spacing: ArrayLike = (1, 1, 1),
    outlines: Outlines | None = None,
    edge: int | None = None,
) -> NDArray[np.uint8]:
    """Draw a slice with outlines of masks, later masks on top, as RGB [rows, columns, 3].

    `levels` is [x, y, z] in RAS orientation (see `grey_levels`), `at` the slice's index, `spacing` in mm. `edge` is the
    number of pixels along the volume's longest edge; None draws a pixel per voxel. Unless `edge` is None, the upper
    corners have the patient's sides (`SIDES`): R and L, or A and P for anterior and posterior.
    """
    from PIL import Image  # imported here and below to keep `--help` fast

    axes, sizes = AXES[plane], np.asarray(spacing) * levels.shape
    scale = None if edge is None else edge / sizes.max()
    rows, columns = (levels.shape[axis] if scale is None else max(1, round(scale * sizes[axis])) for axis in axes)

    def cut(volume: NDArray[Any], method: Image.Resampling) -> NDArray[Any]:
        pixels = Image.fromarray(np.ascontiguousarray(plane_of(volume, plane, at)))
        return np.asarray(pixels.resize((columns, rows), method))

    step = 256 // GREYS
    picture = np.repeat((cut(levels, Image.Resampling.BOX) // step * step)[..., None], 3, axis=-1)
    for colour, mask in (outlines or {}).items():
        inside = cut(mask.astype(np.uint8), Image.Resampling.NEAREST) > 0
        picture[_outline(inside)] = list(bytes.fromhex(colour[1:]))
    return picture if edge is None else _with_sides(picture, SIDES[plane], max(8, edge // 11))


def _with_sides(picture: NDArray[np.uint8], sides: str, size: int) -> NDArray[np.uint8]:
    """Return an RGB picture with two letters in the upper corners, in a font of `size` pixels."""
    from PIL import Image, ImageDraw, ImageFont

    image, font, margin = Image.fromarray(picture), ImageFont.load_default(size), size // 4
    draw = ImageDraw.Draw(image)
    draw.fontmode = "1"  # no greys, which would cost a palette's colours
    draw.text((margin, margin), sides[0], (LETTERS,) * 3, font, anchor="lt")
    draw.text((picture.shape[1] - margin, margin), sides[1], (LETTERS,) * 3, font, anchor="rt")
    return np.array(image)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask with a neighbour outside the mask or the picture."""
    inner = np.pad(mask, 1)
    inside = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    return np.asarray(mask & ~inside)


def png(*frames: NDArray[np.uint8], period: int = 1000) -> bytes:
    """Encode an RGB picture [rows, columns, 3], or an animation of several, as PNG; up to 256 colours get a palette.

    Several pictures of the same size become an endless animation, each shown for `period` milliseconds.
    """
    from PIL import Image

    packed = np.stack(frames).astype(np.int32) @ (1 << 16, 1 << 8, 1)
    colours, codes = np.unique(packed, return_inverse=True)
    if len(colours) <= 256:
        pictures = [Image.fromarray(code.astype(np.uint8), mode="P") for code in codes.reshape(packed.shape)]
        for picture in pictures:
            picture.putpalette(np.stack([colours >> 16, colours >> 8, colours], axis=-1).astype(np.uint8).tobytes())
    else:
        pictures = [Image.fromarray(np.ascontiguousarray(pixels)) for pixels in frames]
    content = BytesIO()
    turns: Any = (
        {"save_all": True, "append_images": pictures[1:], "duration": period, "loop": 0} if pictures[1:] else {}
    )
    pictures[0].save(content, format="PNG", optimize=True, **turns)
    return content.getvalue()


def side_by_side(panels: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Join panels of any height in a row, on a black background."""
    height = max(map(len, panels))
    above = [(height - len(pixels)) // 2 for pixels in panels]
    margins = [((top, height - len(pixels) - top), (1, 1), (0, 0)) for top, pixels in zip(above, panels, strict=True)]
    return np.concatenate([np.pad(pixels, margin) for pixels, margin in zip(panels, margins, strict=True)], axis=1)
