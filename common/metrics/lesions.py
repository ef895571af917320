"""Match predicted components with reference lesions, for the lesion-wise protocols of `common.metrics`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cc3d
import numpy as np

from ..components import Box, Connectivity, Labels, Mask, box_of, components
from .measures import Spacing, Surface, dice, percentile_distance, surface_of


@dataclass(frozen=True)
class Lesion:
    """A lesion of the reference, or a false component: a predicted component that hits no lesion."""

    is_reference: bool
    volume: float  # mm3
    centre: tuple[int, int, int]  # voxel at the centre of mass
    is_scored: bool  # large enough to count
    is_found: bool  # hit by the prediction
    dice: float  # of the lesion and the union of all components that hit it; 0 without a hit
    hd95: float  # of the same pair, mm; the penalty without a hit


def match(
    prediction: Mask,
    reference: Mask,
    spacing: Spacing,
    connectivity: Connectivity,
    dilations: int = 0,
    smallest: float = 0.0,
    penalty: float = np.inf,
) -> tuple[tuple[Lesion, ...], int]:
    """Match the components of a prediction with the lesions of a reference.

    Parts of the reference that join when it is dilated `dilations` times are a single lesion. A component hits a lesion
    if it shares a voxel with the dilated lesion; it may hit several lesions, and counts in full for each. Reference
    lesions of at most `smallest` mm3 are not scored. `penalty` is the HD95 in mm of a missed lesion or a false
    component; found lesions can have a larger HD95, as in the challenges' code.

    Returns:
        Reference lesions, then false components, each from large to small; and the number of predicted components.
    """
    either = prediction | reference
    box = box_of(either, dilations)
    if not either[box].size:
        return (), 0
    labels = components(prediction[box], connectivity)
    lesions = components(dilate(reference[box], dilations), connectivity) * reference[box]
    corner, mm3 = [side.start for side in box], float(np.prod(spacing))
    predicted, actual = (_parts(volume, corner, mm3, penalty) for volume in (labels, lesions))
    matched, surfaces = [], dict[tuple[int, ...], Surface]()
    for number, (box, part) in actual.items():
        around = _around([box], dilations)
        grown = dilate(lesions[around] == number, dilations)
        hits = tuple(np.unique(labels[around][grown & (labels[around] > 0)]).tolist())
        lesion = replace(part, is_reference=True, is_scored=part.volume > smallest)
        if hits:
            both = _around([box, *(predicted[label][0] for label in hits)])
            found, truth, origin = np.isin(labels[both], hits), lesions[both] == number, [side.start for side in both]
            if hits not in surfaces:
                surfaces[hits] = surface_of(found, spacing, origin)
            distance = percentile_distance(surfaces[hits], surface_of(truth, spacing, origin), spacing)
            lesion = replace(lesion, is_found=True, dice=dice(found, truth), hd95=distance)
        matched.append(lesion)
    false = [part for label, (_, part) in predicted.items() if not any(label in hits for hits in surfaces)]
    order = [sorted(group, key=lambda lesion: (-lesion.volume, lesion.centre)) for group in (matched, false)]
    return (*order[0], *order[1]), len(predicted)


def dilate(mask: Mask, times: int) -> Mask:
    """Dilate a mask repeatedly by the 18 neighbours that share a face or an edge, within its array."""
    from scipy import ndimage  # imported here, as it loads slowly

    structure = ndimage.generate_binary_structure(3, 2)
    return np.asarray(ndimage.binary_dilation(mask, structure, times)) if times else mask


def _parts(labels: Labels, corner: Sequence[int], mm3: float, penalty: float) -> dict[int, tuple[Box, Lesion]]:
    """Return the box in the label array and the description, as if it were a false component, of each label."""
    statistics = cc3d.statistics(labels)
    parts = {}
    for label in range(1, len(statistics["voxel_counts"])):
        x, y, z = (round(float(value)) for value in corner + statistics["centroids"][label])
        volume = int(statistics["voxel_counts"][label]) * mm3
        parts[label] = statistics["bounding_boxes"][label], Lesion(False, volume, (x, y, z), True, False, 0.0, penalty)
    return parts


def _around(boxes: Sequence[Box], margin: int = 0) -> Box:
    """Return the smallest box around several boxes, widened by a margin; it may extend beyond the end of an axis."""
    sides = [
        slice(max(0, min(side.start for side in axis) - margin), max(side.stop for side in axis) + margin)
        for axis in zip(*boxes, strict=True)
    ]
    return sides[0], sides[1], sides[2]
