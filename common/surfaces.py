"""Distances between the surfaces of two masks, weighted by surface area: 95th percentile and normalised surface Dice.

A surface consists of elements, each where eight neighbouring voxels (2 x 2 x 2) are not all inside or all outside of
the mask; its area is that of the triangles which marching cubes put there. Distances run from element to element.
These are the definitions of DeepMind's `surface-distance` (Nikolov et al., 2021), which the BraTS challenge scores by.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["Surface", "box_of", "percentile_distance", "surface_dice", "surface_of"]

Spacing = tuple[float, float, float]
Box = tuple[slice, slice, slice]


class Surface(NamedTuple):
    """Surface elements: their places [N, 3] in voxels, half a voxel low, and their areas [N] in mm2."""

    places: NDArray[np.int64]
    areas: NDArray[np.float64]


def box_of(mask: NDArray[np.bool_], margin: int = 0) -> Box | None:
    """The smallest box that holds a mask, widened by a margin inside of the volume; None for an empty mask."""
    sides = []
    for axis in range(mask.ndim):
        inside = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        if not len(inside):
            return None
        sides.append(slice(max(0, int(inside[0]) - margin), int(inside[-1]) + 1 + margin))
    return sides[0], sides[1], sides[2]


def surface_of(mask: NDArray[np.bool_], spacing: Spacing, origin: tuple[int, int, int] = (0, 0, 0)) -> Surface:
    """The surface of a mask; a mask that reaches the edge of the volume ends there.

    Args:
        mask: [x, y, z].
        spacing: of the voxels, mm.
        origin: of the mask in its volume, voxels.
    """
    box = box_of(mask)
    if box is None:
        return Surface(np.empty((0, 3), dtype=np.int64), np.empty(0))
    codes: NDArray[Any] = np.pad(mask[box].view(np.uint8), 1)
    codes = codes[:, :, :-1] << 1 | codes[:, :, 1:]
    codes = codes[:, :-1] << 2 | codes[:, 1:]
    codes = codes[:-1] << 4 | codes[1:]  # one bit for each of the eight voxels around an element; the last one's is 1
    places = np.argwhere((codes != 0) & (codes != 255))
    areas = _areas(spacing)[codes[tuple(places.T)]]
    return Surface(places + [side.start + start for side, start in zip(box, origin, strict=True)], areas)


@lru_cache(maxsize=64)
def _areas(spacing: Spacing) -> NDArray[np.float64]:
    """The area of the triangles in mm2, for each of the 256 ways to set eight voxels."""
    from monai.metrics.utils import _get_neighbour_code_to_normals_table  # here, as MONAI takes seconds to import

    # MONAI's own function for areas computes them in float32, where a 95th percentile can tip to a neighbour
    normals = _get_neighbour_code_to_normals_table().double().numpy()
    x, y, z = spacing
    return np.linalg.norm(normals * [y * z, x * z, x * y], axis=-1).sum(axis=-1)


def percentile_distance(first: Surface, second: Surface, spacing: Spacing, percent: float = 95) -> float:
    """The robust Hausdorff distance in mm: the larger one of both directions' percentiles.

    The percentile is the distance within which that share of the surface's area lies, at least. Infinite where one
    surface is empty, 0 where both are.
    """
    if not len(first.places) and not len(second.places):
        return 0.0
    if not len(first.places) or not len(second.places):
        return float("inf")
    there, back = _distances(first, second, spacing), _distances(second, first, spacing)
    return max(_percentile(there, first.areas, percent), _percentile(back, second.areas, percent))


def surface_dice(first: Surface, second: Surface, spacing: Spacing, tolerance: float) -> float:
    """The share of both surfaces' area within a tolerance, in mm, of the other one; 1 where both are empty."""
    if not len(first.places) or not len(second.places):
        return float(len(first.places) == len(second.places))
    there, back = _distances(first, second, spacing), _distances(second, first, spacing)
    close = first.areas[there <= tolerance].sum() + second.areas[back <= tolerance].sum()
    return float(close / (first.areas.sum() + second.areas.sum()))


def _distances(source: Surface, target: Surface, spacing: Spacing) -> NDArray[np.float64]:
    """Of each element of the source to the nearest one of the target, mm."""
    distances = np.zeros(len(source.places))
    first, second = (surface.places @ (1 << 40, 1 << 20, 1) for surface in (source, target))  # one number a place
    apart = ~np.isin(first, second, assume_unique=True)  # where masks are alike, most elements are in both surfaces
    if apart.any():
        places = source.places[apart]
        _, nearest = cKDTree(target.places * spacing, balanced_tree=False, compact_nodes=False).query(places * spacing)
        # Whole voxels are subtracted before they are scaled: equal distances stay equal, as in a distance transform
        x, y, z = ((places - target.places[nearest]) * spacing).T
        distances[apart] = np.sqrt(x * x + y * y + z * z)
    return distances


def _percentile(distances: NDArray[np.float64], areas: NDArray[np.float64], percent: float) -> float:
    order = np.lexsort((areas, distances))
    sizes = areas[order]
    place = int(np.searchsorted(np.cumsum(sizes) / sizes.sum(), percent / 100))
    return float(distances[order][min(place, len(order) - 1)])
