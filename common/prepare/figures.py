"""Quality measures ("figures") of a prepared subject, without ground truth, and their limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..metrics.measures import dice
from .registration import coarse_grid, information
from .resampling import resample
from .targets import template_brain, template_mask
from .volumes import Volume

UNITS = {"volume": "mL"}  # the rest are dimensionless; definitions in docs/explanation/preparation.md
LIMITS = {  # lowest and highest acceptable values; sources in docs/explanation/preparation.md
    "subject": {"overlap": (0.925, 1.0), "volume": (1000.0, 2100.0), "scale": (0.8, 1.25), "agreement": (0.94, 1.0)},
    "reference": {"coverage": (0.98, 1.0), "information": (0.02, 1.0)},
    "modality": {"coverage": (0.98, 1.0), "information": (0.05, 1.0)},
}
TURNED = 0.03  # limit of the reference's information; below it, a bad overlap indicates a turned header


@dataclass(frozen=True)
class Figures:
    """Quality figures of a subject and of each modality, by name; see docs/explanation/preparation.md."""

    reference: str
    subject: Mapping[str, float]
    modalities: Mapping[str, Mapping[str, float]]


def measure(
    heads: Mapping[str, Volume],
    covered: Mapping[str, NDArray[np.bool_]],
    brain: NDArray[np.bool_],
    mask: Volume,
    mirrored: NDArray[np.bool_] | None,
    affine: NDArray[np.float64],
    matrix: NDArray[np.float64],
    reference: str,
) -> Figures:
    """Measure a prepared subject; `heads`, `covered` (fields of view) and `brain` are on the target's grid.

    `mask` and `mirrored` are brain masks on the grid of the reference's scan; `mirrored` is deepbet's mask of the
    mirrored T1, if any. Two matrices [4, 4] map to mm of this scan: `affine` (12 degrees of freedom) from mm in MNI
    space, `matrix` from mm in the target's space. `affine` places the template, even if the registration is rigid.
    """
    growth = float(abs(np.linalg.det(matrix[:3, :3])))
    spacing = heads[reference].grid.spacing
    subject = {
        "overlap": template_overlap(mask, affine),
        "volume": float(brain.sum() * spacing.prod() * growth / 1000),
        "scale": float(abs(np.linalg.det(affine[:3, :3]))) ** (-1 / 3),
    }
    if mirrored is not None:
        subject["agreement"] = dice(mask.array, mirrored)
    grid, back = heads[reference].grid, np.linalg.inv(affine) @ matrix
    standard, template = (resample(volume, grid, back) for volume in (template_brain(), template_mask()))
    modalities = {}
    for modality, head in heads.items():
        other = standard if modality == reference else heads[reference]
        modalities[modality] = {
            "coverage": float(covered[modality][template.array > 0.5].mean()),
            "information": information(head.array[brain], other.array[brain]),
        }
    return Figures(reference, subject, modalities)


def template_overlap(mask: Volume, affine: NDArray[np.float64] | None = None) -> float:
    """Return the Dice between a brain mask and the template's brain, on a grid of 2 mm.

    `affine` maps mm in MNI space to mm of the mask (default: identity).
    """
    grid, template = coarse_grid(template_brain(), template_mask().array > 0)
    return dice(resample(mask, grid, affine).array > 0.5, template)


class Row(NamedTuple):
    """A figure of a modality ("" for the subject), with its lowest and highest acceptable values."""

    modality: str
    name: str
    value: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        unit = f" {UNITS[self.name]}" if self.name in UNITS else ""
        figure = f"{self.modality} {self.name} {in_units(self.name, self.value)}".lstrip()
        return f"{figure}; expected {self.lowest:g} to {self.highest:g}{unit}"


def rows(figures: Figures) -> list[Row]:
    """Return a row for each figure."""
    table = [Row("", name, value, *LIMITS["subject"][name]) for name, value in figures.subject.items()]
    for modality, values in figures.modalities.items():
        limits = LIMITS["reference" if modality == figures.reference else "modality"]
        table += [Row(modality, name, value, *limits[name]) for name, value in values.items()]
    return table


def rows_outside(figures: Figures) -> list[Row]:
    """Return the rows of the figures outside their limits."""
    return [row for row in rows(figures) if not row.lowest <= row.value <= row.highest]


def in_units(name: str, value: float) -> str:
    """Format a figure's value: three digits, no decimals from 100 on, then the unit, if any."""
    return " ".join([f"{value:.0f}" if value >= 100 else f"{value:.3g}", *([UNITS[name]] if name in UNITS else [])])


def outside(figures: Figures, cause: str = "") -> list[str]:
    """Return a phrase for each figure outside its limits, then the likely cause, if known."""
    phrases = [*map(str, rows_outside(figures))]
    return [*phrases, f"probably {cause}"] if phrases and cause else phrases


def likely_cause(figures: Figures, is_stripped: bool) -> str:
    """Describe the likely cause of figures outside their limits, with the evidence; "" without evidence."""
    limits = LIMITS["subject"]
    overlap, shared = figures.subject["overlap"], figures.modalities[figures.reference]["information"]
    if overlap < limits["overlap"][0] and shared < TURNED:
        misfit = f"neither its shape (overlap {overlap:.3g}) nor its content (information {shared:.2g})"
        return f"a header turned against the data: the brain fits the template in {misfit}"
    coverage, worst = min((values["coverage"], name) for name, values in figures.modalities.items())
    if coverage < LIMITS["modality"]["coverage"][0]:
        return f"a cut field of view: {1 - coverage:.0%} of the brain lies outside that of {worst}"
    if overlap < limits["overlap"][0] and is_stripped:
        return "a poor skull-stripping before the preparation; give the raw scan"
    if figures.subject["volume"] < limits["volume"][0]:
        volume = f"{figures.subject['volume']:.0f} mL"
        return f"a small brain, {volume}, as of a child: give masks by HD-BET or SynthStrip as --brain"
    return ""
