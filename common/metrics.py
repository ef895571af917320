"""What a segmentation is worth: Dice, HD95, normalised surface Dice, and the lesion-wise protocols of three challenges.

A protocol measures one region, a prediction against a reference, as its challenge does. They differ in what counts as
a lesion and as found, so the figures of one are never to be compared with another's:

* `atlas`: ATLAS v2.0. Lesions are 6-connected components; one is found if it shares a voxel with the prediction.
* `isles`: ISLES'22. As `atlas`, with 26-connected components and the volume difference in millilitres.
* `brats`: BraTS 2023, lesion-wise. Parts of the reference whose dilations meet are one lesion; each is scored against
  the predicted components that touch its dilation, whole.
* `dice`: no challenge's; Dice of the region alone, as in the paper's Table 4.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.lesions import Connectivity, Lesion, match
from common.preflight import InputError, chosen
from common.surfaces import Spacing, percentile_distance, surface_dice, surface_of

__all__ = [
    "CHALLENGES",
    "PENALTY",
    "Challenge",
    "Lesion",
    "Protocol",
    "Scores",
    "atlas",
    "brats",
    "dice",
    "hd95",
    "isles",
    "normalized_surface_dice",
    "protocol",
    "spacing_of",
]

Mask = NDArray[np.bool_]

SINGLE = 1e-7  # relative; an edge whose components are rounded to single precision is off by less: 2^-24
PENALTY = 374.0  # mm; HD95 of a missed lesion and of a false one: BraTS 2023's scoring code


class Challenge(NamedTuple):
    """What the scoring code of one BraTS 2023 challenge sets differently."""

    dilations: int  # of the reference
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
    """What a protocol measures in a region.

    Attributes:
        values: figures by the metric's name; `Protocol.units` has their units.
        lesions: those of the reference, then the predicted components that hit none; larger ones first.
        volumes: of the prediction and the reference, mm3.
    """

    values: Mapping[str, float]
    lesions: tuple[Lesion, ...] = ()
    volumes: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Protocol:
    """A way to score a region.

    Attributes:
        name: atlas, isles, brats or dice.
        measure: (prediction, reference, spacing) -> `Scores`; arguments and errors are those of `atlas`.
        units: of the figures by name; 1 is a share.
        ranked: the figures that rank systems, and whether more is better.
        settings: what it holds fixed, for a record.
    """

    name: str
    measure: Callable[[Any, Any, Sequence[float]], Scores]
    units: Mapping[str, str]
    ranked: Mapping[str, bool]
    settings: Mapping[str, Any] = field(default_factory=dict)


def protocol(name: str, challenge: str | None = None, tolerance: float | None = None) -> Protocol:
    """A protocol by its name.

    Args:
        name: atlas, isles, brats or dice.
        challenge: of brats: GLI (also for None), MET, MEN, SSA or PED.
        tolerance: mm; where one is given, `nsd` is measured too: the normalised surface Dice at this tolerance.

    Raises:
        InputError: the name or the challenge is unknown, a challenge is given for another protocol than brats, or the
            tolerance is not a number above zero.

    Example:
        >>> protocol("brats", "MET").settings["dilations"]
        1
    """
    found: Protocol = chosen("protocol", name, PROTOCOLS)
    if challenge is not None and name != "brats":
        raise InputError(f"--challenge={challenge}: the protocol {name} has none; expected it with brats alone")
    if name == "brats":
        challenge = "GLI" if challenge is None else challenge
        measure = partial(brats, challenge=challenge)
        dilations, smallest = chosen("challenge", challenge, CHALLENGES)
        settings = {"challenge": challenge, "dilations": dilations, "smallest_mm3": smallest}
        found = replace(found, measure=measure, settings={**found.settings, **settings})
    return found if tolerance is None else _with_surface_dice(found, tolerance)


def spacing_of(affine: ArrayLike) -> Spacing:
    """The voxels' spacing in mm, from an affine [4, 4].

    NIfTI holds single precision: 0.7 becomes 0.699999988, and the edge of an oblique grid gets an error of the same
    size. What is returned is the shortest decimal within `SINGLE` of it.
    """
    x, y, z = (_decimal(float(edge)) for edge in np.linalg.norm(np.asarray(affine, float)[:3, :3], axis=0))
    return x, y, z


def dice(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Dice of two masks, 2 |P and R| / (|P| + |R|), from 0 to 1; 1 where both are empty.

    Args:
        prediction: array or tensor of any shape; bool, or numbers that are 0 or 1.
        reference: of the same shape.

    Raises:
        InputError: another value than 0 and 1, or two shapes.

    Example:
        >>> dice([1, 1, 0], [0, 1, 0])
        0.6666666666666666
    """
    return _dice(*_masks(prediction, reference))


def hd95(prediction: ArrayLike, reference: ArrayLike, spacing: Sequence[float] = (1, 1, 1)) -> float:
    """The 95th percentile of the Hausdorff distance in mm, weighted by surface area: see `common.surfaces`.

    Args:
        prediction: array or tensor [x, y, z]; bool, or numbers that are 0 or 1.
        reference: of the same shape.
        spacing: of the voxels, mm.

    Returns:
        0 where both masks are empty, infinity where one is.

    Raises:
        InputError: another value than 0 and 1, two shapes, not three axes, or a spacing that is not three numbers above
            zero.
    """
    size = _spacing(spacing)
    first, second = (surface_of(mask, size) for mask in _volumes(prediction, reference))
    return percentile_distance(first, second, size)


def normalized_surface_dice(
    prediction: ArrayLike, reference: ArrayLike, spacing: Sequence[float] = (1, 1, 1), tolerance: float = 1.0
) -> float:
    """The share of both surfaces' area that is within a tolerance of the other surface (Nikolov et al., 2021).

    Args:
        prediction: array or tensor [x, y, z]; bool, or numbers that are 0 or 1.
        reference: of the same shape.
        spacing: of the voxels, mm.
        tolerance: mm.

    Returns:
        From 0 to 1; 1 where both masks are empty, 0 where one is.

    Raises:
        InputError: as for `hd95`, or the tolerance is not a number above zero.
    """
    size = _spacing(spacing)
    first, second = (surface_of(mask, size) for mask in _volumes(prediction, reference))
    return surface_dice(first, second, size, _tolerance(tolerance))


def atlas(prediction: ArrayLike, reference: ArrayLike, spacing: Sequence[float] = (1, 1, 1)) -> Scores:
    """Score a region as the ATLAS v2.0 challenge does, by 6-connected components.

    Args:
        prediction: array or tensor [x, y, z]; bool, or numbers that are 0 or 1.
        reference: of the same shape.
        spacing: of the voxels, mm; for the lesions' volumes and distances, not for the challenge's figures.

    Returns:
        dice; lesion_f1 = TP / (TP + (FP + FN) / 2) of reference components that share a voxel with the prediction (TP)
        or do not (FN), and predicted ones that share none with the reference (FP); lesion_count_difference, in
        components; volume_difference, in voxels. Differences are absolute. Dice and F1 of two empty masks are 1.

    Raises:
        InputError: as for `hd95`.
    """
    return _by_components(prediction, reference, spacing, 6, volume_unit=lambda voxel: 1.0)


def isles(prediction: ArrayLike, reference: ArrayLike, spacing: Sequence[float] = (1, 1, 1)) -> Scores:
    """Score a region as the ISLES'22 challenge does: as `atlas`, but by 26-connected components and volumes in ml.

    Args:
        prediction: array or tensor [x, y, z]; bool, or numbers that are 0 or 1.
        reference: of the same shape.
        spacing: of the voxels, mm.

    Raises:
        InputError: as for `hd95`.
    """
    return _by_components(prediction, reference, spacing, 26, volume_unit=lambda voxel: voxel / 1000)


def brats(
    prediction: ArrayLike, reference: ArrayLike, spacing: Sequence[float] = (1, 1, 1), challenge: str = "GLI"
) -> Scores:
    """Score a region as the BraTS 2023 challenges do, lesion by lesion.

    The reference is dilated; parts of it whose dilations are one component are one lesion. The predicted components
    that touch the dilation of a lesion alone are compared with it, whole; one may count for several lesions. Those that
    touch none are false. Lesions up to a volume are left out; what touches only those is neither hit nor false.

    Args:
        prediction: array or tensor [x, y, z]; bool, or numbers that are 0 or 1.
        reference: of the same shape.
        spacing: of the voxels, mm; for volumes and distances, not for the dilation.
        challenge: GLI, MET, MEN, SSA or PED: see `CHALLENGES`.

    Returns:
        lesionwise_dice, the lesions' sum over the number of lesions and false components; lesionwise_hd95, the mean
        over the same in mm, with `PENALTY` for each missed lesion and each false component; dice and hd95 of the whole
        region, with `PENALTY` where one mask is empty. With nothing to score Dice is 1 and HD95 is 0.

    Raises:
        InputError: as for `hd95`, or the challenge is unknown.
    """
    settings, size = chosen("challenge", challenge, CHALLENGES), _spacing(spacing)
    predicted, truth = _volumes(prediction, reference)
    lesions, _ = match(predicted, truth, size, 26, settings.dilations, settings.smallest, PENALTY)
    scored = [lesion for lesion in lesions if lesion.is_scored]
    count = len(scored)
    distance = percentile_distance(surface_of(predicted, size), surface_of(truth, size), size)
    values = {
        "lesionwise_dice": sum(lesion.dice for lesion in scored) / count if count else 1.0,
        "lesionwise_hd95": sum(lesion.hd95 for lesion in scored) / count if count else 0.0,
        "dice": _dice(predicted, truth),
        "hd95": distance if np.isfinite(distance) else PENALTY,
    }
    return Scores(values, lesions, _cubic_millimetres(predicted, truth, size))


def _region_dice(prediction: ArrayLike, reference: ArrayLike, spacing: Sequence[float]) -> Scores:
    masks = _masks(prediction, reference)
    return Scores({"dice": _dice(*masks)}, volumes=_cubic_millimetres(*masks, _spacing(spacing)))


def _by_components(
    prediction: ArrayLike,
    reference: ArrayLike,
    spacing: Sequence[float],
    connectivity: Connectivity,
    volume_unit: Callable[[float], float],
) -> Scores:
    size = _spacing(spacing)
    predicted, truth = _volumes(prediction, reference)
    lesions, components = match(predicted, truth, size, connectivity)
    found, of_reference = (sum(getattr(each, name) for each in lesions) for name in ("is_found", "is_reference"))
    voxels = abs(_count(predicted) - _count(truth))
    values = {
        "dice": _dice(predicted, truth),
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


def _with_surface_dice(protocol: Protocol, tolerance: float) -> Protocol:
    measure = partial(_measure_surface_too, protocol.measure, _tolerance(tolerance))
    settings = {**protocol.settings, "tolerance_mm": tolerance}
    return replace(protocol, measure=measure, units={**protocol.units, "nsd": "1"}, settings=settings)


def _measure_surface_too(
    measure: Callable[[Any, Any, Sequence[float]], Scores],
    tolerance: float,
    prediction: ArrayLike,
    reference: ArrayLike,
    spacing: Sequence[float],
) -> Scores:
    scores = measure(prediction, reference, spacing)
    share = normalized_surface_dice(prediction, reference, spacing, tolerance)
    return replace(scores, values={**scores.values, "nsd": share})


def _dice(prediction: Mask, reference: Mask) -> float:
    total = _count(prediction) + _count(reference)
    return 2 * _count(prediction & reference) / total if total else 1.0


def _count(mask: Mask) -> int:
    """Voxels, as Python's own number: a checkpoint that holds a figure must not need NumPy's pickles."""
    return int(np.count_nonzero(mask))


def _cubic_millimetres(prediction: Mask, reference: Mask, spacing: Spacing) -> tuple[float, float]:
    voxel = float(np.prod(spacing))
    return _count(prediction) * voxel, _count(reference) * voxel


def _volumes(prediction: Any, reference: Any) -> tuple[Mask, Mask]:
    masks = _masks(prediction, reference)
    if masks[0].ndim != 3:
        raise InputError(f"prediction: shape {list(masks[0].shape)}; expected three axes, without channel or batch")
    return masks


def _masks(prediction: Any, reference: Any) -> tuple[Mask, Mask]:
    first, second = _mask(prediction, "prediction"), _mask(reference, "reference")
    if first.shape != second.shape:
        raise InputError(f"prediction: shape {list(first.shape)}; expected the reference's, {list(second.shape)}")
    return first, second


def _mask(values: Any, name: str) -> Mask:
    """An array or tensor of 0 and 1 as booleans; any other value could be a label or a probability."""
    array = values.detach() if hasattr(values, "detach") else np.asarray(values)
    mask = array.bool() if hasattr(array, "bool") else array.astype(bool, copy=False)
    odd = array != mask
    if odd.any():
        raise InputError(f"{name}: value {array[odd].ravel()[0]}; expected a mask of 0 and 1")
    return np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask)


def _spacing(spacing: Sequence[float]) -> Spacing:
    values = tuple(float(value) for value in spacing)
    if len(values) != 3 or not all(0 < value < np.inf for value in values):
        raise InputError(f"spacing {values}: expected three numbers above zero, in mm")
    return values


def _decimal(edge: float) -> float:
    decimals = (float(f"{edge:.{digits}g}") for digits in range(1, 10))
    return next((value for value in decimals if abs(value - edge) <= SINGLE * edge), edge)


def _tolerance(tolerance: float) -> float:
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 < tolerance < np.inf:
        raise InputError(f"--tolerance={tolerance}: expected a number of mm above zero")
    return float(tolerance)
