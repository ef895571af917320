"""Distance between the surfaces of two masks: the 95th percentile, weighted by surface area.

A surface has an element wherever eight neighbouring voxels (2 x 2 x 2) are neither all inside nor all outside the mask;
the element's area is the area of its marching cubes triangles. Distances run from element to element. These are the
definitions of DeepMind's `surface-distance` (Nikolov et al., 2021), which the BraTS challenge uses.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..components import box_of

Spacing = tuple[float, float, float]
SHARE = 0.95  # of the surface area, for the percentile


class Surface(NamedTuple):
    """Surface elements."""

    positions: NDArray[np.int64]  # [N, 3], voxels, half a voxel below the element on each axis
    areas: NDArray[np.float64]  # [N], mm2


def surface_of(mask: NDArray[np.bool_], spacing: Spacing, origin: tuple[int, int, int] = (0, 0, 0)) -> Surface:
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
