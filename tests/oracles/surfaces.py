"""Surface distances as DeepMind's `surface-distance` defines them (Nikolov et al., 2021), on whole volumes.

Rewritten from the definition, as the package's functions need an older NumPy; only its table of areas is used.
"""

import numpy as np
from scipy import ndimage
from surface_distance.lookup_tables import create_table_neighbour_code_to_surface_area

# A voxel and the voxels before it along each axis, numbered as in the table: the first has the highest bit
BITS = np.array([[[128, 64], [32, 16]], [[8, 4], [2, 1]]])


def hd95(prediction, reference, spacing):
    """The larger of both directions' 95th percentiles, in mm; 0 if both masks are empty, infinite if one is."""
    if not prediction.any() and not reference.any():
        return 0.0
    return max(percentile(*ways, 0.95) for ways in distances(prediction, reference, spacing))


def distances(prediction, reference, spacing):
    """(distances, areas) from the prediction's elements to the reference's surface, then the other way."""
    table = create_table_neighbour_code_to_surface_area(spacing)
    (first, first_areas), (second, second_areas) = elements(prediction, table), elements(reference, table)
    return [
        (distances_to(second, spacing)[first], first_areas[first]),
        (distances_to(first, spacing)[second], second_areas[second]),
    ]


def elements(mask, table):
    """Mask of the surface elements, and the area at each position; the volume is padded by background."""
    codes = ndimage.correlate(np.pad(mask, 1).astype(np.int64), BITS, mode="constant", cval=0)
    return (codes > 0) & (codes < 255), table[codes]


def distances_to(surface, spacing):
    if not surface.any():
        return np.full(surface.shape, np.inf)
    return ndimage.distance_transform_edt(~surface, sampling=spacing)


def percentile(distances, areas, share):
    """The smallest distance that covers this share of the area; ties in order of area."""
    if not len(distances):
        return np.inf
    ordered = np.array(sorted(zip(distances, areas, strict=True)))
    shares = np.cumsum(ordered[:, 1]) / np.sum(ordered[:, 1])
    reached = [distance for distance, so_far in zip(ordered[:, 0], shares, strict=True) if so_far >= share]
    return reached[0] if reached else ordered[-1, 0]
