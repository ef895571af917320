"""Lesion-wise protocols of three challenges, and plain Dice.

A protocol scores one region, a prediction against a reference, as its challenge does. Protocols differ in what counts
as a lesion and when it counts as found, so never compare figures of different protocols:

* `atlas`: ATLAS v2.0. Lesions are 6-connected components; a lesion is found if it shares a voxel with the prediction.
* `isles`: ISLES'22. As `atlas`, with 26-connected components and the volume difference in millilitres.
* `brats`: BraTS 2023, lesion-wise. Parts of the reference whose dilations meet are one lesion; each lesion is compared
  with the entire predicted components that touch its dilation.
* `dice`: Dice of the region alone, without regard to lesions; not from a challenge.

The figures of a case without the region, 1 or 0 for Dice, come from the challenges. Over cases there are two means of
Dice: of all cases (`dice`), and of those whose reference has the region (`dice_present`), as in the paper (DIFF-23).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ArgumentError, choice
from .lesions import Connectivity, Lesion, match
from .measures import Mask, as_masks, as_spacing, as_volumes, count_voxels, dice, hd95
from .surfaces import Spacing

PRESENT = "dice_present"  # Dice of the cases whose reference has the region; DIFF-23
PENALTY = 374.0  # mm; HD95 of a missed lesion or a false component, from BraTS 2023's scoring code


class Challenge(NamedTuple):
    """Settings in which the scoring code of the BraTS 2023 challenges differs."""

    dilations: int  # number of dilations of the reference
    smallest: float  # mm3; reference lesions up to this volume are not scored


CHALLENGES = {
    "GLI": Challenge(3, 50.0),  # glioma
    "MET": Challenge(1, 2.0),  # metastases
    "MEN": Challenge(1, 50.0),  # meningioma
    "SSA": Challenge(3, 50.0),  # glioma, Sub-Saharan Africa
    "PED": Challenge(3, 50.0),  # paediatric
}


@dataclass(frozen=True)
class Scores:
    """The scores of one region.

    Attributes:
        values: figures by metric; `Protocol.units` has their units.
        lesions: lesions of the reference, then predicted components that hit none, each from large to small.
        volumes: volumes of the prediction and of the reference, mm3.
    """

    values: Mapping[str, float]
    lesions: tuple[Lesion, ...] = ()
    volumes: tuple[float, float] = (0.0, 0.0)

    @property
    def is_present(self) -> bool:
        """Whether the reference has the region; only then does the case count in `dice_present`."""
        return self.volumes[1] > 0


@dataclass(frozen=True)
class Protocol:
    """A way to score a region.

    Attributes:
        name: atlas, isles, brats or dice.
        measure: (prediction, reference, spacing) -> `Scores`; arguments and errors as for `atlas`.
        units: unit of each figure by name; 1 marks a fraction.
        ranked: figures that rank systems, and whether higher is better.
        settings: fixed settings, for records.
    """

    name: str
    measure: Callable[[Any, Any, Sequence[float]], Scores]
    units: Mapping[str, str]
    ranked: Mapping[str, bool]
    settings: Mapping[str, Any] = field(default_factory=dict)


def figures(scores: Sequence[Scores], protocol: Protocol) -> dict[str, list[float]]:
    """The values of a region that make its means: each metric over all cases, and `PRESENT` after `dice`.

    Args:
        scores: Scores of the region, one for each case.
        protocol: Scoring protocol.
    """
    found = {}
    for metric in protocol.units:
        found[metric] = [measured.values[metric] for measured in scores]
        if metric == "dice":
            found[PRESENT] = [measured.values[metric] for measured in scores if measured.is_present]
    return found


def protocol(name: str, challenge: str | None = None) -> Protocol:
    """Get a protocol by its name.

    Args:
        name: atlas, isles, brats or dice.
        challenge: BraTS challenge, for brats only: GLI (the default), MET, MEN, SSA or PED.

    Raises:
        ArgumentError: the name or the challenge is unknown, or a challenge is given for a protocol other than brats.

    Example:
        >>> protocol("brats", "MET").settings["dilations"]
        1
    """
    found: Protocol = choice("protocol", name, PROTOCOLS)
    if challenge is not None and name != "brats":
        raise ArgumentError(f"challenge={challenge}: the protocol {name} has no challenges; only brats has")
    if name == "brats":
        challenge = "GLI" if challenge is None else challenge
        measure = partial(brats, challenge=challenge)
        dilations, smallest = choice("challenge", challenge, CHALLENGES)
        settings = {"challenge": challenge, "dilations": dilations, "smallest_mm3": smallest}
        found = replace(found, measure=measure, settings={**found.settings, **settings})
    return found


def atlas(prediction: ArrayLike, reference: ArrayLike, spacing: Sequence[float] = (1, 1, 1)) -> Scores:
    """Score a region as the ATLAS v2.0 challenge does, by 6-connected components.

    Args:
        prediction: array or tensor [x, y, z]; bool, or numbers that are 0 or 1.
        reference: array or tensor of the same shape.
        spacing: voxel spacing, mm; affects the lesions' volumes and distances, not the challenge's figures.

    Returns:
        dice; lesion_f1 = TP / (TP + (FP + FN) / 2), where TP counts the reference's components that share a voxel with
        the prediction, FN those that do not, and FP the predicted components that share none with the reference;
        lesion_count_difference, in components; volume_difference, in voxels. Differences are absolute. Dice and F1 of
        two empty masks are 1.

    Raises:
        InputError: as for `hd95`.
    """
    return _by_components(prediction, reference, spacing, 6, volume_unit=lambda voxel: 1.0)


def isles(prediction: ArrayLike, reference: ArrayLike, spacing: Sequence[float] = (1, 1, 1)) -> Scores:
    """Score a region as the ISLES'22 challenge does: as `atlas`, but with 26-connected components and volumes in ml.

    Args:
        prediction: array or tensor [x, y, z]; bool, or numbers that are 0 or 1.
        reference: array or tensor of the same shape.
        spacing: voxel spacing, mm.

    Raises:
        InputError: as for `hd95`.
    """
    return _by_components(prediction, reference, spacing, 26, volume_unit=lambda voxel: voxel / 1000)


def brats(
    prediction: ArrayLike, reference: ArrayLike, spacing: Sequence[float] = (1, 1, 1), challenge: str = "GLI"
) -> Scores:
    """Score a region as the BraTS 2023 challenges do, lesion by lesion.

    The reference is dilated; its parts whose dilations form one component are one lesion. A lesion is compared with
    the entire predicted components that touch its own dilation; a component may count for several lesions. Components
    that touch no lesion are false. Lesions up to a certain volume are ignored, and so are components that touch only
    those.

    Args:
        prediction: array or tensor [x, y, z]; bool, or numbers that are 0 or 1.
        reference: array or tensor of the same shape.
        spacing: voxel spacing, mm; affects volumes and distances, not the dilation.
        challenge: GLI, MET, MEN, SSA or PED: see `CHALLENGES`.

    Returns:
        lesionwise_dice, the mean over lesions and false components, which count 0; lesionwise_hd95, the mean over the
        same in mm, with `PENALTY` for each missed lesion and each false component; dice and hd95 of the whole region,
        with `PENALTY` if one mask is empty. With nothing to score, Dice is 1 and HD95 is 0.

    Raises:
        InputError: as for `hd95`, or the challenge is unknown.
    """
    settings, size = choice("challenge", challenge, CHALLENGES), as_spacing(spacing)
    predicted, truth = as_volumes(prediction, reference)
    lesions, _ = match(predicted, truth, size, 26, settings.dilations, settings.smallest, PENALTY)
    scored = [lesion for lesion in lesions if lesion.is_scored]
    count = len(scored)
    distance = hd95(predicted, truth, size)
    values = {
        "lesionwise_dice": sum(lesion.dice for lesion in scored) / count if count else 1.0,
        "lesionwise_hd95": sum(lesion.hd95 for lesion in scored) / count if count else 0.0,
        "dice": dice(predicted, truth),
        "hd95": distance if np.isfinite(distance) else PENALTY,
    }
    return Scores(values, lesions, _cubic_millimetres(predicted, truth, size))


def _region_dice(prediction: ArrayLike, reference: ArrayLike, spacing: Sequence[float]) -> Scores:
    masks = as_masks(prediction, reference)
    return Scores({"dice": dice(*masks)}, volumes=_cubic_millimetres(*masks, as_spacing(spacing)))


def _by_components(
    prediction: ArrayLike,
    reference: ArrayLike,
    spacing: Sequence[float],
    connectivity: Connectivity,
    volume_unit: Callable[[float], float],
) -> Scores:
    size = as_spacing(spacing)
    predicted, truth = as_volumes(prediction, reference)
    lesions, components = match(predicted, truth, size, connectivity)
    found, of_reference = (sum(getattr(each, name) for each in lesions) for name in ("is_found", "is_reference"))
    voxels = abs(count_voxels(predicted) - count_voxels(truth))
    values = {
        "dice": dice(predicted, truth),
        "lesion_f1": found / (found + (len(lesions) - found) / 2) if lesions else 1.0,
        "lesion_count_difference": float(abs(components - of_reference)),
        "volume_difference": voxels * volume_unit(float(np.prod(size))),
    }
    return Scores(values, lesions, _cubic_millimetres(predicted, truth, size))


BY_COMPONENTS = {"dice": True, "lesion_f1": True, "lesion_count_difference": False, "volume_difference": False}
PROTOCOLS = {
    "atlas": Protocol(
        "atlas",
        atlas,
        {"dice": "1", "lesion_f1": "1", "lesion_count_difference": "lesions", "volume_difference": "voxels"},
        BY_COMPONENTS,
        {"connectivity": 6},
    ),
    "isles": Protocol(
        "isles",
        isles,
        {"dice": "1", "lesion_f1": "1", "lesion_count_difference": "lesions", "volume_difference": "ml"},
        BY_COMPONENTS,
        {"connectivity": 26},
    ),
    "brats": Protocol(
        "brats",
        brats,
        {"lesionwise_dice": "1", "lesionwise_hd95": "mm", "dice": "1", "hd95": "mm"},
        {"lesionwise_dice": True, "lesionwise_hd95": False},
        {"connectivity": 26, "penalty_mm": PENALTY},
    ),
    "dice": Protocol("dice", _region_dice, {"dice": "1"}, {"dice": True}),
}


def _cubic_millimetres(prediction: Mask, reference: Mask, spacing: Spacing) -> tuple[float, float]:
    voxel = float(np.prod(spacing))
    return count_voxels(prediction) * voxel, count_voxels(reference) * voxel
