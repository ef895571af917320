"""Distances between the surfaces of two masks: their 95th percentile, weighted by surface area.

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


class Surface(NamedTuple):
    """Surface elements: positions [N, 3] in voxels, half a voxel below the element, and areas [N] in mm2."""

    places: NDArray[np.int64]
    areas: NDArray[np.float64]


def surface_of(mask: NDArray[np.bool_], spacing: Spacing, origin: tuple[int, int, int] = (0, 0, 0)) -> Surface:
    """The surface of a mask; outside the array everything counts as background.

    Args:
        mask: [x, y, z].
        spacing: voxel spacing, mm.
        origin: position of the mask in its volume, voxels.
    """
    box = box_of(mask)
    if not mask[box].size:
        return Surface(np.empty((0, 3), dtype=np.int64), np.empty(0))
    codes: NDArray[Any] = np.pad(mask[box].view(np.uint8), 1)
    codes = codes[:, :, :-1] << 1 | codes[:, :, 1:]
    codes = codes[:, :-1] << 2 | codes[:, 1:]
    codes = codes[:-1] << 4 | codes[1:]  # one bit per voxel around an element; the last voxel has the lowest bit
    places = np.argwhere((codes != 0) & (codes != 255))
    areas = _areas(spacing)[codes[tuple(places.T)]]
    return Surface(places + [side.start + start for side, start in zip(box, origin, strict=True)], areas)


@lru_cache(maxsize=64)
def _areas(spacing: Spacing) -> NDArray[np.float64]:
    """The area of the triangles in mm2, for each of the 256 patterns of eight voxels."""
    from monai.metrics.utils import _get_neighbour_code_to_normals_table  # imported here: MONAI takes seconds

    # MONAI's own function computes areas in float32, which can move a 95th percentile to the next distance
    normals = _get_neighbour_code_to_normals_table().double().numpy()
    x, y, z = spacing
    return np.linalg.norm(normals * [y * z, x * z, x * y], axis=-1).sum(axis=1)


def percentile_distance(first: Surface, second: Surface, spacing: Spacing, percent: float = 95) -> float:
    """The robust Hausdorff distance in mm: the larger of both directions' percentiles.

    A percentile is the smallest distance that covers at least that share of the surface's area. Infinite if one surface
    is empty, 0 if both are.
    """
    if not len(first.places) and not len(second.places):
        return 0.0
    if not len(first.places) or not len(second.places):
        return float("inf")
    there, back = _distances(first, second, spacing), _distances(second, first, spacing)
    return max(_percentile(there, first.areas, percent), _percentile(back, second.areas, percent))


def _distances(source: Surface, target: Surface, spacing: Spacing) -> NDArray[np.float64]:
    """The distance from each element of the source to the nearest element of the target, mm."""
    from scipy.spatial import cKDTree  # here, as it is slow to import

    distances = np.zeros(len(source.places))
    first, second = (surface.places @ (1 << 40, 1 << 20, 1) for surface in (source, target))  # one number per element
    differs = ~np.isin(first, second, assume_unique=True)  # similar masks share most elements: distance 0
    if differs.any():
        places = source.places[differs]
        _, nearest = cKDTree(target.places * spacing, balanced_tree=False, compact_nodes=False).query(places * spacing)
        # Subtract whole voxels, then scale: equal distances stay equal, as in a distance transform
        x, y, z = ((places - target.places[nearest]) * spacing).T
        distances[differs] = np.sqrt(x * x + y * y + z * z)
    return distances


def _percentile(distances: NDArray[np.float64], areas: NDArray[np.float64], percent: float) -> float:
    order = np.lexsort((areas, distances))
    sizes = areas[order]
    place = int(np.searchsorted(np.cumsum(sizes) / sizes.sum(), percent / 100))
    return float(distances[order][min(place, len(order) - 1)])
