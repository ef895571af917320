"""Match predicted components with reference lesions, for the lesion-wise protocols of `common.metrics`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cc3d
import numpy as np

from ..components import Box, Connectivity, Labels, Mask, box_of, components
from .measures import Spacing, Surface, percentile_distance, surface_of


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


class _Part(NamedTuple):
    """A component or lesion of a label array, cropped from a volume at `corner`."""

    label: int
    voxels: int
    centre: tuple[int, int, int]  # voxel of the volume
    box: Box  # in the label array


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
    corner = [side.start for side in box]
    labels = components(prediction[box], connectivity)
    lesions = components(dilate(reference[box], dilations), connectivity) * reference[box]
    predicted = _parts(labels, corner)
    mm3 = float(np.prod(spacing))
    surfaces: dict[tuple[int, ...], Surface] = {}
    actual, hit_labels = [], set[int]()
    for part in _parts(lesions, corner).values():
        hits = _hits(labels, lesions, part, dilations)
        dice, hd95 = 0.0, penalty
        if hits:
            parts = [predicted[label] for label in hits]
            if hits not in surfaces:
                surfaces[hits] = _surface(labels, parts, spacing)
            truth = _surface(lesions, [part], spacing)
            shared = (lesions[part.box] == part.label) & np.isin(labels[part.box], hits)
            dice = 2 * int(np.count_nonzero(shared)) / (sum(hit.voxels for hit in parts) + part.voxels)
            hd95 = percentile_distance(surfaces[hits], truth, spacing)
            hit_labels.update(hits)
        volume = part.voxels * mm3
        actual.append(Lesion(True, volume, part.centre, volume > smallest, bool(hits), dice, hd95))
    false = [
        Lesion(False, part.voxels * mm3, part.centre, True, False, 0.0, penalty)
        for label, part in predicted.items()
        if label not in hit_labels
    ]
    order = [sorted(group, key=lambda lesion: (-lesion.volume, lesion.centre)) for group in (actual, false)]
    return (*order[0], *order[1]), len(predicted)


def dilate(mask: Mask, times: int) -> Mask:
    """Dilate a mask repeatedly by the 18 neighbours that share a face or an edge, within its array."""
    from scipy import ndimage  # imported here, as it loads slowly

    structure = ndimage.generate_binary_structure(3, 2)
    return np.asarray(ndimage.binary_dilation(mask, structure, times)) if times else mask


def _parts(labels: Labels, corner: Sequence[int]) -> dict[int, _Part]:
    statistics = cc3d.statistics(labels)
    parts = {}
    for label in range(1, len(statistics["voxel_counts"])):
        x, y, z = (round(float(value)) for value in corner + statistics["centroids"][label])
        voxels = int(statistics["voxel_counts"][label])
        parts[label] = _Part(label, voxels, (x, y, z), statistics["bounding_boxes"][label])
    return parts


def _hits(labels: Labels, lesions: Labels, part: _Part, dilations: int) -> tuple[int, ...]:
    """Return the labels of predicted components that share a voxel with the dilated lesion."""
    box = _around([part.box], dilations)
    grown = dilate(lesions[box] == part.label, dilations)
    return tuple(np.unique(labels[box][grown & (labels[box] > 0)]).tolist())


def _around(boxes: Sequence[Box], margin: int = 0) -> Box:
    """Return the smallest box around several boxes, widened by a margin; it may extend beyond the end of an axis."""
    sides = [
        slice(max(0, min(side.start for side in axis) - margin), max(side.stop for side in axis) + margin)
        for axis in zip(*boxes, strict=True)
    ]
    return sides[0], sides[1], sides[2]


def _surface(labels: Labels, parts: Sequence[_Part], spacing: Spacing) -> Surface:
    box = _around([part.box for part in parts])
    mask: Mask = np.isin(labels[box], [part.label for part in parts])
    return surface_of(mask, spacing, origin=(box[0].start, box[1].start, box[2].start))
