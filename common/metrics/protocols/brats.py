"""BraTS 2023, lesion-wise: glioma, metastases, meningioma, Sub-Saharan Africa, paediatric."""

import numpy as np

from ...components import Mask
from ..cards import DICE, Metric, Protocol
from ..lesions import Lesion, match
from ..measures import Spacing, dice, hd95

PENALTY = 374.0  # mm; HD95 of a missed lesion or a false component, from BraTS 2023's scoring code
# Settings of the challenges' scoring code: dilations of the reference; lesions of at most `smallest_mm3` are not scored
CHALLENGES = {
    "GLI": {"dilations": 3, "smallest_mm3": 50.0},  # glioma
    "MET": {"dilations": 1, "smallest_mm3": 2.0},  # metastases
    "MEN": {"dilations": 1, "smallest_mm3": 50.0},  # meningioma
    "SSA": {"dilations": 3, "smallest_mm3": 50.0},  # glioma, Sub-Saharan Africa
    "PED": {"dilations": 3, "smallest_mm3": 50.0},  # paediatric
}
HD95 = Metric(
    "hd95",
    "HD95",
    "How far the two outlines lie apart: 95 % of the surface area lies within this distance, in the worse of both "
    "directions (robust Hausdorff distance); "
    f"{PENALTY:g} mm if one mask is empty, 0 if both are.",
    "mm",
    digits=1,
    more_is_better=False,
)


def hd95_of(prediction: Mask, reference: Mask, spacing: Spacing) -> float:
    """Return the HD95 of a region in mm; `PENALTY` if one mask is empty, 0 if both are."""
    distance = hd95(prediction, reference, spacing)
    return distance if np.isfinite(distance) else PENALTY


def brats(
    prediction: Mask, reference: Mask, spacing: Spacing, dilations: int, smallest_mm3: float
) -> tuple[dict[str, float], tuple[Lesion, ...]]:
    """Score a region, lesion by lesion (see `match`), as the BraTS 2023 challenges do.

    Components that touch only lesions too small to score are ignored. The spacing does not affect the dilation.
    """
    lesions, _ = match(prediction, reference, spacing, 26, dilations, smallest_mm3, PENALTY)
    scored = [lesion for lesion in lesions if lesion.is_scored]
    metrics = {
        "lesionwise_dice": sum(lesion.dice for lesion in scored) / len(scored) if scored else 1.0,
        "lesionwise_hd95": sum(lesion.hd95 for lesion in scored) / len(scored) if scored else 0.0,
        "dice": dice(prediction, reference),
        "hd95": hd95_of(prediction, reference, spacing),
    }
    return metrics, lesions


BRATS = Protocol(
    name="brats",
    title="BraTS 2023, lesion-wise",
    meaning="A lesion is the part of the reference inside one 26-connected component of its dilation, by the 18 "
    "neighbours of each voxel. Each lesion is scored separately, against all predicted components that touch its "
    "dilation, each component in full. Lesions of the reference of at most {smallest_mm3:g} mm³ are not scored; false "
    "components of any size are.",
    conventions=("brats2023", "brats2024", "brats2024peds", "brats2021"),
    metrics=(
        Metric(
            "lesionwise_dice",
            "Lesion-wise Dice",
            "Dice lesion by lesion: every missed or false lesion counts equally, whatever its size. Mean over scored "
            "lesions and false components; missed lesions and false components count 0. 1 if there are none.",
        ),
        Metric(
            "lesionwise_hd95",
            "Lesion-wise HD95",
            f"HD95 lesion by lesion: missed lesions and false components count {PENALTY:g} mm. 0 if there are none.",
            "mm",
            digits=1,
            more_is_better=False,
        ),
        DICE,
        HD95,
    ),
    function=brats,
    settings={"connectivity": 26, "penalty_mm": PENALTY},
    challenges=CHALLENGES,
)
PROTOCOLS = (BRATS,)
