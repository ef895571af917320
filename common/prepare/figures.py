"""Measure how well a subject was prepared, without a truth, and compare with limits."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it
from common.errors import InputError
from common.metrics.measures import dice
from common.prepare import registration
from common.prepare.targets import template_brain
from common.prepare.volumes import Volume, from_image, matrix_of, to_image, to_transform
from numpy.typing import NDArray

__all__ = ["FIGURES", "LIMITS", "Figures", "information", "lines", "measure", "outside", "rows"]

FIGURES = {  # name -> unit, meaning
    "overlap": ("1", "Dice of the brain found and the template's brain"),
    "volume": ("mL", "of the brain, in the scan"),
    "scale": ("1", "of the template relative to the scan, as a length"),
    "coverage": ("1", "share of the brain in the scan's field of view"),
    "information": (
        "1",
        "normalised mutual information with the reference (of the reference: with the template), in the brain",
    ),
    "offset": ("mm", "by which a second, coarse registration, from 4 mm and 4 degrees off, would move the brain"),
}
LIMITS = {  # of a subject, of its reference, and of its other modalities; docs/prepare.md says where they come from
    "subject": {"overlap": (0.85, 1.0), "volume": (800.0, 2500.0), "scale": (0.8, 1.25)},
    "reference": {"coverage": (0.95, 1.0), "information": (0.02, 1.0), "offset": (0.0, 6.0)},
    "modality": {"coverage": (0.95, 1.0), "information": (0.05, 1.0), "offset": (0.0, 2.0)},
}
NO_OVERLAP = 999.0  # mm; the offset if the second registration fails
BINS = 48  # of the joint histogram
START = 4.0  # mm along each axis together, and degrees, of the second registration
LEVELS = (4.0, 3.0)  # mm


@dataclass(frozen=True)
class Figures:
    """Figures of the subject, and of each modality: modality -> figure -> value. See `FIGURES`."""

    reference: str
    subject: Mapping[str, float]
    modalities: Mapping[str, Mapping[str, float]]

    def record(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)


def measure(
    heads: Mapping[str, Volume],
    covered: Mapping[str, NDArray[np.bool_]],
    brain: NDArray[np.bool_],
    template: NDArray[np.bool_],
    matrix: NDArray[np.float64],
    reference: str,
    to_mni: NDArray[np.float64],
) -> Figures:
    """Measure a prepared subject.

    Args:
        heads: modality -> volume on the target's grid, with the head around the brain.
        covered: modality -> mask of what its field of view covers.
        brain: mask that was found.
        template: the template's brain on the same grid.
        matrix: [4, 4] from mm in the target's space to mm of the reference's scan.
        reference: the modality that was registered to the template.
        to_mni: [4, 4] from mm in the target's space to MNI space.
    """
    growth = float(abs(np.linalg.det(matrix[:3, :3])))
    spacing = heads[reference].grid.spacing
    subject = {
        "overlap": dice(brain, template),
        "volume": float(brain.sum() * spacing.prod() * growth / 1000),
        "scale": growth ** (-1 / 3),
    }
    like = to_image(heads[reference])
    standard = from_image(sitk.Resample(template_brain(), like, to_transform(to_mni), sitk.sitkLinear, 0.0))
    modalities = {}
    for modality, head in heads.items():
        other = standard if modality == reference else heads[reference]
        modalities[modality] = {
            "coverage": float(covered[modality][brain].mean()),
            "information": information(head.array[brain], other.array[brain]),
            "offset": _offset(other, head, brain),
        }
    return Figures(reference, subject, modalities)


def information(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Mutual information of two images over their mean entropy: 0 if independent, 1 if one determines the other.

    Intensities are binned between the percentiles 1 and 99. An image of one value gives 0.
    """
    edges = [np.percentile(values, (1, 99)) for values in (one, other)]
    if any(high <= low for low, high in edges):
        return 0.0
    first, second = (np.clip(values, *limits) for values, limits in zip((one, other), edges, strict=True))
    joint = np.histogram2d(first, second, bins=BINS)[0]
    joint /= joint.sum()
    entropies = [_entropy(joint.sum(axis=axis)) for axis in (0, 1)]
    return float((sum(entropies) - _entropy(joint.ravel())) / np.mean(entropies))


def _entropy(shares: NDArray[np.float64]) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())


def _offset(fixed: Volume, moving: Volume, brain: NDArray[np.bool_]) -> float:
    """Mean distance in mm by which a second rigid registration would move the brain; `NO_OVERLAP` if it fails."""
    mask = to_image(Volume(brain.astype(np.uint8), fixed.affine))
    centre = registration.brain_centre(mask)
    start = registration.shifted(centre, np.full(3, START / np.sqrt(3)), START)
    levels = [edge for edge in LEVELS if edge >= fixed.grid.spacing.min()]
    images = [registration.pyramid(registration.intensities(volume), levels) for volume in (fixed, moving)]
    masks = registration.pyramid(sitk.BinaryDilate(mask, [2, 2, 2]), levels)
    try:
        matrix = matrix_of(registration.register_rigid(images[0], images[1], masks, [start]))
    except InputError:
        return NO_OVERLAP
    points = np.argwhere(brain)[::101] @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
    return float(np.linalg.norm(points @ matrix[:3, :3].T + matrix[:3, 3] - points, axis=1).mean())


def rows(figures: Figures) -> list[tuple[str, str, float, float, float]]:
    """The figures one by one: modality ("" for the subject), figure, value, lowest and highest acceptable value."""
    found = [("", name, value, *LIMITS["subject"][name]) for name, value in figures.subject.items()]
    for modality, values in figures.modalities.items():
        limits = LIMITS["reference" if modality == figures.reference else "modality"]
        found += [(modality, name, value, *limits[name]) for name, value in values.items()]
    return found


def outside(figures: Figures) -> list[str]:
    """What lies outside its limits, a phrase each."""
    return [
        f"{modality} {name} {value:.4g}{_unit(name)}; expected {lowest:g} to {highest:g}{_unit(name)}".strip()
        for modality, name, value, lowest, highest in rows(figures)
        if not lowest <= value <= highest
    ]


def lines(figures: Figures) -> list[str]:
    """The figures in words: a line for the brain, and one for each modality."""
    groups = {"brain": figures.subject, **figures.modalities}
    return [
        f"{name}: " + ", ".join(f"{figure} {value:.4g}{_unit(figure)}" for figure, value in values.items())
        for name, values in groups.items()
    ]


def _unit(figure: str) -> str:
    """With a blank before it; empty for a ratio."""
    unit = FIGURES[figure][0]
    return "" if unit == "1" else f" {unit}"
