"""Protocols over connected components: ATLAS v2.0, ISLES'22, and `lesions` for custom labels; and Dice alone."""

from dataclasses import replace
from functools import partial

import numpy as np

from ...components import Connectivity, Mask
from ..cards import DICE, Metric, Protocol
from ..lesions import Lesion, match
from ..measures import Spacing, count_voxels, dice

LESION_F1 = Metric(
    "lesion_f1",
    "Lesion F1",
    "1 if each lesion is found and none is false. TP / (TP + (FP + FN) / 2): components of the reference that share a "
    "voxel with the prediction (TP), those that do not (FN), and predicted components that share none with the "
    "reference (FP), of any size; 1 if both masks are empty.",
)
COUNT_DIFFERENCE = Metric(
    "lesion_count_difference",
    "Difference of lesion counts",
    "Absolute difference of the numbers of components.",
    "lesions",
    digits=2,
    more_is_better=False,
)
VOXEL_DIFFERENCE = Metric(
    "volume_difference",
    "Volume difference",
    "Absolute difference of the numbers of voxels.",
    "voxels",
    digits=0,
    more_is_better=False,
)
ML_DIFFERENCE = VOXEL_DIFFERENCE._replace(meaning="Absolute difference of the volumes.", unit="ml", digits=2)


def by_components(
    prediction: Mask, reference: Mask, spacing: Spacing, connectivity: Connectivity, in_ml: bool = False
) -> tuple[dict[str, float], tuple[Lesion, ...]]:
    """Score a region by its components; the volume difference is in voxels or, with `in_ml`, in millilitres."""
    lesions, components = match(prediction, reference, spacing, connectivity)
    hits, references = (sum(getattr(lesion, name) for lesion in lesions) for name in ("is_found", "is_reference"))
    unit = float(np.prod(spacing)) / 1000 if in_ml else 1.0
    metrics = {
        "dice": dice(prediction, reference),
        "lesion_f1": hits / (hits + (len(lesions) - hits) / 2) if lesions else 1.0,
        "lesion_count_difference": float(abs(components - references)),
        "volume_difference": float(abs(count_voxels(prediction) - count_voxels(reference))) * unit,
    }
    return metrics, lesions


def region_dice(prediction: Mask, reference: Mask, spacing: Spacing) -> tuple[dict[str, float], tuple[()]]:
    """Score a region by its Dice."""
    return {"dice": dice(prediction, reference)}, ()


ATLAS = Protocol(
    name="atlas",
    title="ATLAS v2.0",
    meaning="A lesion is a 6-connected component of the reference; it is found if it shares a voxel with the "
    "prediction.",
    conventions=("atlas",),
    metrics=(DICE, LESION_F1, COUNT_DIFFERENCE, VOXEL_DIFFERENCE),
    function=partial(by_components, connectivity=6),
    settings={"connectivity": 6},
)
ISLES = replace(
    ATLAS,
    name="isles",
    title="ISLES'22",
    meaning=ATLAS.meaning.replace("6-connected", "26-connected"),
    metrics=(DICE, LESION_F1, COUNT_DIFFERENCE, ML_DIFFERENCE),
    function=partial(by_components, connectivity=26, in_ml=True),
    settings={"connectivity": 26},
)
PROTOCOLS = (
    ATLAS,
    ISLES,
    replace(ISLES, name="lesions", title="Dice and lesion F1", conventions=()),  # not from a challenge
    Protocol(
        name="dice",
        title="Dice of the region",
        meaning="Each region counts as a whole, without regard to lesions.",
        conventions=(),
        metrics=(DICE,),
        function=region_dice,
        has_lesions=False,
    ),
)
