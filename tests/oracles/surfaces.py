"""Surface distances after the definition of DeepMind's `surface-distance` (Nikolov et al., 2021), on whole volumes.

Written from the definition: the package's own functions need an older NumPy. Its table of areas is used as it is.
"""

import numpy as np
from scipy import ndimage
from surface_distance.lookup_tables import create_table_neighbour_code_to_surface_area

# A voxel and those before it along each axis, as the table numbers them: the first one's bit is the highest
BITS = np.array([[[128, 64], [32, 16]], [[8, 4], [2, 1]]])


def hd95(prediction, reference, spacing):
    """The larger one of both directions' 95th percentiles, in mm; 0 where both are empty, infinite where one is."""
    if not prediction.any() and not reference.any():
        return 0.0
    return max(percentile(*ways, 0.95) for ways in distances(prediction, reference, spacing))


def unweighted_hd95(prediction, reference, spacing):
    """The same where every element counts alike, whatever its area: a common mistake."""
    return max(percentile(ways[0], np.ones(len(ways[1])), 0.95) for ways in distances(prediction, reference, spacing))


def surface_dice(prediction, reference, spacing, tolerance):
    """The share of both surfaces' area that is within the tolerance of the other surface; 1 where both are empty."""
    if not prediction.any() and not reference.any():
        return 1.0
    ways = distances(prediction, reference, spacing)
    close = sum(area[distance <= tolerance].sum() for distance, area in ways)
    return close / sum(area.sum() for _, area in ways)


def distances(prediction, reference, spacing):
    """(distances, areas) of the prediction's elements to the reference's surface, then of the reference's elements."""
    table = create_table_neighbour_code_to_surface_area(spacing)
    (first, first_areas), (second, second_areas) = elements(prediction, table), elements(reference, table)
    return [
        (distances_to(second, spacing)[first], first_areas[first]),
        (distances_to(first, spacing)[second], second_areas[second]),
    ]


def elements(mask, table):
    """Where the surface is, and each place's area; the volume is widened, so that its edge ends the mask."""
    codes = ndimage.correlate(np.pad(mask, 1).astype(np.int64), BITS, mode="constant", cval=0)
    return (codes > 0) & (codes < 255), table[codes]


def distances_to(surface, spacing):
    if not surface.any():
        return np.full(surface.shape, np.inf)
    return ndimage.distance_transform_edt(~surface, sampling=spacing)


def percentile(distances, areas, share):
    """The first distance, in rising order, up to which this share of the area lies; equal ones by rising area."""
    if not len(distances):
        return np.inf
    ordered = np.array(sorted(zip(distances, areas, strict=True)))
    shares = np.cumsum(ordered[:, 1]) / np.sum(ordered[:, 1])
    reached = [distance for distance, so_far in zip(ordered[:, 0], shares, strict=True) if so_far >= share]
    return reached[0] if reached else ordered[-1, 0]
