"""Dice and 95th percentile Hausdorff distance of a region.

A mask's surface has an element wherever eight neighbouring voxels (2 x 2 x 2) are neither all inside nor all outside;
the element's area is the area of its marching cubes triangles. Distances run from element to element. These are the
definitions of DeepMind's `surface-distance` (Nikolov et al., 2021), which the BraTS challenge uses.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..components import Mask, box_of
from ..errors import InputError

SINGLE = 1e-7  # relative tolerance of an edge rounded to single precision, whose error is below 2^-24
SHARE = 0.95  # of the surface area, for the percentile

Spacing = tuple[float, float, float]


def dice(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Return the Dice of two masks of any shape, 2 |P and R| / (|P| + |R|), from 0 to 1; 1 if both are empty.

    Masks are arrays or tensors of booleans, or of numbers that are 0 or 1. Raises `InputError` for other values and for
    different shapes.

    Example:
        >>> dice([1, 1, 0], [0, 1, 0])
        0.6666666666666666
    """
    first, second = as_masks(prediction, reference)
    total = count_voxels(first) + count_voxels(second)
    return 2 * count_voxels(first & second) / total if total else 1.0


def hd95(prediction: ArrayLike, reference: ArrayLike, spacing: Sequence[float] = (1, 1, 1)) -> float:
    """Return the 95th percentile Hausdorff distance in mm, weighted by surface area.

    The masks [x, y, z] are as for `dice`, `spacing` is that of the voxels in mm. The distance is 0 if both masks are
    empty, infinity if only one is.
    """
    x, y, z = map(float, spacing)
    first, second = (surface_of(mask, (x, y, z)) for mask in as_masks(prediction, reference))
    return percentile_distance(first, second, (x, y, z))


def spacing_of(affine: ArrayLike) -> Spacing:
    """Return the voxel spacing in mm of an affine [4, 4].

    NIfTI stores single precision: 0.7 becomes 0.699999988, and edges of oblique grids get errors of the same size. The
    result is the shortest decimal within `SINGLE` of the stored value.
    """
    x, y, z = (_decimal(float(edge)) for edge in np.linalg.norm(np.asarray(affine, float)[:3, :3], axis=0))
    return x, y, z


def _decimal(edge: float) -> float:
    decimals = (float(f"{edge:.{digits}g}") for digits in range(10))
    return next((value for value in decimals if abs(value - edge) <= SINGLE * edge), edge)


def count_voxels(mask: Mask) -> int:
    """Count voxels as a Python number; a NumPy number in a checkpoint would need NumPy to unpickle."""
    return int(np.count_nonzero(mask))


def as_masks(prediction: Any, reference: Any) -> tuple[Mask, Mask]:
    """Convert two arrays or tensors of 0 and 1 to boolean arrays; raise `InputError` for other values and shapes."""
    first, second = _as_mask(prediction, "prediction"), _as_mask(reference, "reference")
    if first.shape != second.shape:
        raise InputError(f"prediction: shape {list(first.shape)}; expected the reference's, {list(second.shape)}")
    return first, second


def _as_mask(values: Any, name: str) -> Mask:
    array = values.detach() if hasattr(values, "detach") else np.asarray(values)
    mask = array.bool() if hasattr(array, "bool") else array.astype(bool)
    if (array != mask).any():  # labels or probabilities
        raise InputError(f"{name}: expected a mask of 0 and 1")
    return np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask)


class Surface(NamedTuple):
    """Surface elements."""

    positions: NDArray[np.int64]  # [N, 3], voxels, half a voxel below the element on each axis
    areas: NDArray[np.float64]  # [N], mm2


def surface_of(mask: NDArray[np.bool_], spacing: Spacing, origin: Sequence[int] = (0, 0, 0)) -> Surface:
    """Return the surface of a mask [x, y, z]; voxels outside the array count as background.

    `spacing` is in mm; `origin` is the position of the mask in its volume, in voxels.
    """
    box = box_of(mask)
    if not mask[box].size:
        return Surface(np.empty((0, 3), dtype=np.int64), np.empty(0))
    codes: NDArray[Any] = np.pad(mask[box].view(np.uint8), 1)
    codes = codes[:, :, :-1] << 1 | codes[:, :, 1:]
    codes = codes[:, :-1] << 2 | codes[:, 1:]
    codes = codes[:-1] << 4 | codes[1:]  # a bit per voxel around an element; the last voxel has the lowest bit
    positions = np.argwhere((codes != 0) & (codes != 255))
    areas = _areas(spacing)[codes[tuple(positions.T)]]
    return Surface(positions + [side.start + start for side, start in zip(box, origin, strict=True)], areas)


@lru_cache(maxsize=64)
def _areas(spacing: Spacing) -> NDArray[np.float64]:
    """Return the triangles' area in mm2 for each of the 256 patterns of eight voxels."""
    from monai.metrics.utils import _get_neighbour_code_to_normals_table  # imported here, since MONAI takes seconds

    # MONAI's own function computes areas in float32, which can move a 95th percentile to the next distance
    normals = _get_neighbour_code_to_normals_table().double().numpy()
    x, y, z = spacing
    return np.linalg.norm(normals * [y * z, x * z, x * y], axis=-1).sum(axis=1)


def percentile_distance(first: Surface, second: Surface, spacing: Spacing) -> float:
    """Return the robust Hausdorff distance in mm: the larger 95th percentile of the two directions.

    The percentile is the smallest distance that covers at least 95 % of the surface area. The distance is infinite if
    only one surface is empty, 0 if both are.
    """
    if not len(first.positions) or not len(second.positions):
        return 0.0 if len(first.positions) == len(second.positions) else float("inf")
    forward, backward = _distances(first, second, spacing), _distances(second, first, spacing)
    return max(_percentile(forward, first.areas), _percentile(backward, second.areas))


def _distances(source: Surface, target: Surface, spacing: Spacing) -> NDArray[np.float64]:
    """Return the distance from each element of the source to the nearest element of the target, mm."""
    from scipy.spatial import cKDTree  # imported here, as it loads slowly

    distances = np.zeros(len(source.positions))
    first, second = (surface.positions @ (1 << 40, 1 << 20, 1) for surface in (source, target))  # a number per element
    differs = ~np.isin(first, second, assume_unique=True)  # similar masks share most elements: distance 0
    if differs.any():
        positions = source.positions[differs]
        tree = cKDTree(target.positions * spacing, balanced_tree=False, compact_nodes=False)
        _, nearest = tree.query(positions * spacing)
        # Subtract in voxels, then scale: equal distances stay equal, as in a distance transform
        x, y, z = ((positions - target.positions[nearest]) * spacing).T
        distances[differs] = np.sqrt(x * x + y * y + z * z)
    return distances


def _percentile(distances: NDArray[np.float64], areas: NDArray[np.float64]) -> float:
    order = np.lexsort((areas, distances))
    sizes = areas[order]
    return float(distances[order][np.searchsorted(np.cumsum(sizes) / sizes.sum(), SHARE)])
