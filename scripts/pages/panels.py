"""Draw slices of volumes as pixels, with outlines and the patient's sides, and encode them as PNG."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from common.training.pictures import PLANES, SIDES, Pixels, plane_of

AXES = {"axial": (1, 0), "coronal": (2, 0), "sagittal": (2, 1)}  # axes of the volume along rows and columns of a slice
GREYS = 64  # grey levels; pictures are a third smaller than with 256
LETTERS = (224, 224, 224)  # colour of the patient's sides

Outlines = Mapping[str, NDArray[np.bool_]]  # masks [x, y, z] by colour, #rrggbb


def panel(levels: NDArray[np.uint8], plane: str, at: int, spacing: ArrayLike, outlines: Outlines, edge: int) -> Pixels:
    """Draw a slice with outlines of masks, later masks on top, and the patient's sides (`SIDES`) in the upper corners.

    `levels` is [x, y, z] in RAS orientation (see `grey_levels`), `at` the slice's index, `spacing` in mm. `edge` is the
    number of pixels along the volume's longest edge.
    """
    sizes = np.asarray(spacing) * levels.shape
    rows, columns = (max(1, round(edge / sizes.max() * sizes[axis])) for axis in AXES[plane])

    def cut(volume: NDArray[Any], method: Image.Resampling) -> NDArray[Any]:
        pixels = Image.fromarray(np.ascontiguousarray(plane_of(volume, plane, at)))
        return np.asarray(pixels.resize((columns, rows), method))

    step, size = 256 // GREYS, max(8, edge // 11)
    picture = np.repeat((cut(levels, Image.Resampling.BOX) // step * step)[..., None], 3, axis=-1)
    for colour, mask in outlines.items():
        inside = cut(mask.astype(np.uint8), Image.Resampling.NEAREST) > 0
        picture[inside & ~binary_erosion(inside)] = list(bytes.fromhex(colour[1:]))
    image, font, sides = Image.fromarray(picture), ImageFont.load_default(size), SIDES[plane]
    draw = ImageDraw.Draw(image)
    draw.fontmode = "1"  # sharp letters
    draw.text((size // 4, size // 4), sides[0], LETTERS, font, anchor="lt")
    draw.text((columns - size // 4, size // 4), sides[1], LETTERS, font, anchor="rt")
    return np.array(image)


def planes(
    levels: NDArray[np.uint8], centre: Sequence[int], spacing: ArrayLike, outlines: Outlines, edge: int
) -> list[Pixels]:
    """Draw axial, coronal and sagittal slices through a voxel (x, y, z); see `panel`."""
    return [panel(levels, plane, at, spacing, outlines, edge) for plane, at in zip(PLANES, centre[::-1], strict=True)]


def png(pixels: Pixels) -> bytes:
    """Encode an RGB picture as PNG."""
    content = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, format="PNG", optimize=True)
    return content.getvalue()
