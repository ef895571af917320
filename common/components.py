"""Connected components and bounding boxes of masks."""

from typing import Any, Literal

import cc3d
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Labels = NDArray[np.integer[Any]]
Box = tuple[slice, slice, slice]
Connectivity = Literal[6, 18, 26]  # number of neighbours of a voxel


def components(mask: Mask, connectivity: Connectivity) -> Labels:
    """Label the connected components of a mask [x, y, z] from 1; the background is 0."""
    # Not as booleans: cc3d 4.1.1 then allocates one label per eight voxels, too few if a side is odd
    labels: Labels = cc3d.connected_components(np.array(mask, dtype=np.uint8, order="C"), connectivity=connectivity)
    return labels


def box_of(mask: Mask, margin: int = 0) -> Box:
    """Return the bounding box of a mask [x, y, z], enlarged by `margin` voxels; empty slices for an empty mask.

    The box may extend beyond the end of an axis, where slicing clips it.
    """
    sides = []
    for axis in range(3):
        inside = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        if not len(inside):
            return slice(0, 0), slice(0, 0), slice(0, 0)
        sides.append(slice(max(0, int(inside[0]) - margin), int(inside[-1]) + 1 + margin))
    return sides[0], sides[1], sides[2]
