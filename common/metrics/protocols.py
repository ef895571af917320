"""Scoring protocols: BraTS 2023, ATLAS v2.0, ISLES'22, and Dice with or without lesions for custom labels.

If the reference lacks the region, Dice is 1 for an empty prediction, else 0, as in the challenges. Dice has two means:
over all cases (`dice`), and over cases with the region in the reference (`dice_present`), as in the paper (DIFF-23).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..components import Connectivity, Mask
from ..errors import InputError, choice
from .lesions import Lesion, match
from .measures import Spacing, as_masks, count_voxels, dice, hd95, spacing_of

PRESENT = "dice_present"  # Dice over the cases with the region in the reference (DIFF-23)
PENALTY = 374.0  # mm; HD95 of a missed lesion or a false component, from BraTS 2023's scoring code

Lesions = tuple[Lesion, ...]


@dataclass(frozen=True)
class Scores:
    """The scores of a region: value of each metric by name, lesions, and volumes of prediction and reference, mm3.

    `lesions` has the reference lesions, then the false components, each from large to small.
    """

    values: Mapping[str, float]
    lesions: Lesions = ()
    volumes: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Protocol:
    """Definition of a scoring protocol: how it scores a predicted region against a reference.

    `function` maps prediction, reference (boolean masks [x, y, z]), spacing and `settings` to values and lesions. Every
    protocol scores conventions that no protocol lists, such as custom regions.
    """

    name: str  # on command lines, such as isles
    units: Mapping[str, str]  # of the metrics, in the order of tables; 1 for a fraction, of which more is better
    function: Callable[..., tuple[Mapping[str, float], Lesions]]
    conventions: tuple[str, ...] = ()  # label conventions that it scores, the challenge's first; empty: all
    has_lesions: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)  # arguments of `function`, in records
    challenges: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # more of them, the default's first

    def measure(self, prediction: ArrayLike, reference: ArrayLike, spacing: Sequence[float] = (1, 1, 1)) -> Scores:
        """Score a region; the arguments are those of `common.metrics.hd95`."""
        x, y, z = map(float, spacing)
        masks = as_masks(prediction, reference)
        values, lesions = self.function(*masks, (x, y, z), **self.settings)
        predicted, truth = (count_voxels(mask) * float(np.prod((x, y, z))) for mask in masks)
        return Scores(values, lesions, (predicted, truth))

    def score(
        self, predictions: Mapping[str, Any], references: Mapping[str, Any], affine: ArrayLike
    ) -> dict[str, Scores]:
        """Score all regions of a case, from masks by region and the affine [4, 4] of their grid."""
        spacing = spacing_of(affine)
        return {region: self.measure(predictions[region], references[region], spacing) for region in references}


def by_metric(scores: Sequence[Scores], protocol: Protocol) -> dict[str, list[float]]:
    """Return a region's values in all cases, by metric; `dice_present` omits the cases without the region."""
    values = {}
    for name in protocol.units:
        values[name] = [measured.values[name] for measured in scores]
        if name == "dice":
            values[PRESENT] = [measured.values[name] for measured in scores if measured.volumes[1] > 0]
    return values


def by_components(
    prediction: Mask, reference: Mask, spacing: Spacing, connectivity: Connectivity, in_ml: bool = False
) -> tuple[dict[str, float], Lesions]:
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


def brats(
    prediction: Mask,
    reference: Mask,
    spacing: Spacing,
    connectivity: Connectivity,
    penalty_mm: float,
    dilations: int,
    smallest_mm3: float,
    challenge: str,  # only for records
) -> tuple[dict[str, float], Lesions]:
    """Score a region, lesion by lesion (see `match`), as the BraTS 2023 challenges do.

    Components that touch only lesions too small to score are ignored. The spacing does not affect the dilation.
    """
    lesions, _ = match(prediction, reference, spacing, connectivity, dilations, smallest_mm3, penalty_mm)
    scored = [lesion for lesion in lesions if lesion.is_scored]
    metrics = {
        "lesionwise_dice": sum(lesion.dice for lesion in scored) / len(scored) if scored else 1.0,
        "lesionwise_hd95": sum(lesion.hd95 for lesion in scored) / len(scored) if scored else 0.0,
        "dice": dice(prediction, reference),
        "hd95": hd95_of(prediction, reference, spacing),
    }
    return metrics, lesions


def hd95_of(prediction: Mask, reference: Mask, spacing: Spacing) -> float:
    """Return the HD95 of a region in mm; `PENALTY` if one mask is empty, 0 if both are."""
    distance = hd95(prediction, reference, spacing)
    return distance if np.isfinite(distance) else PENALTY


def region_dice(prediction: Mask, reference: Mask, spacing: Spacing) -> tuple[dict[str, float], Lesions]:
    """Score a region by its Dice."""
    return {"dice": dice(prediction, reference)}, ()


ATLAS = Protocol(
    name="atlas",
    units={"dice": "1", "lesion_f1": "1", "lesion_count_difference": "lesions", "volume_difference": "voxels"},
    function=by_components,
    conventions=("atlas",),
    settings={"connectivity": 6},
)
BRATS = Protocol(
    name="brats",
    units={"lesionwise_dice": "1", "lesionwise_hd95": "mm", "dice": "1", "hd95": "mm"},
    function=brats,
    conventions=("brats2023", "brats2024", "brats2024peds", "brats2021"),
    settings={"connectivity": 26, "penalty_mm": PENALTY},
    challenges={  # of their scoring code: dilations of the reference; lesions of at most `smallest_mm3` are not scored
        "GLI": {"dilations": 3, "smallest_mm3": 50.0},  # glioma
        "MET": {"dilations": 1, "smallest_mm3": 2.0},  # metastases
        "MEN": {"dilations": 1, "smallest_mm3": 50.0},  # meningioma
        "SSA": {"dilations": 3, "smallest_mm3": 50.0},  # glioma, Sub-Saharan Africa
        "PED": {"dilations": 3, "smallest_mm3": 50.0},  # paediatric
    },
)
ISLES = replace(
    ATLAS,
    name="isles",
    units={**ATLAS.units, "volume_difference": "ml"},
    function=partial(by_components, in_ml=True),
    settings={"connectivity": 26},
)
LESIONS = replace(ISLES, name="lesions", conventions=())  # not from a challenge
REGION = Protocol(name="dice", units={"dice": "1"}, function=region_dice, has_lesions=False)
PROTOCOLS = {card.name: card for card in (BRATS, ATLAS, ISLES, LESIONS, REGION)}
CHALLENGES = tuple(name for card in PROTOCOLS.values() for name in card.challenges)


def protocol(name: str | None, challenge: str | None = None, convention: str | None = None) -> Protocol:
    """Return a scoring protocol with the settings of a challenge, such as MET for brats; by default, of its first.

    Without a name, it is the first protocol that lists the label `convention`, else lesions.

    Example:
        >>> protocol("brats", "MET").settings["dilations"]
        1
        >>> protocol(None, convention="brats2021").name, protocol(None, convention="plaque=1").name
        ('brats', 'lesions')
    """
    if name is None:
        name = next((card.name for card in PROTOCOLS.values() if convention in card.conventions), "lesions")
    card: Protocol = choice("protocol", name, PROTOCOLS)
    if challenge is None and not card.challenges:
        return card
    challenge = next(iter(card.challenges)) if challenge is None else challenge
    settings = {**card.settings, "challenge": challenge, **choice("challenge", challenge, card.challenges)}
    return replace(card, settings=settings)


def check_convention(name: str, convention: str) -> None:
    """Raise InputError if the protocol does not score labels of the convention, but another protocol does."""
    scoring = [card.name for card in PROTOCOLS.values() if convention in card.conventions]
    if scoring and name not in scoring and PROTOCOLS[name].conventions:
        raise InputError(f"labels of {convention}", f"not scored by {name}", f"--protocol={' or '.join(scoring)}")
