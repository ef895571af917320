"""Quality measures of a prepared subject, without ground truth; definitions in docs/explanation/preparation.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.metrics.measures import dice
from scripts.prepare.brain import template_brain, template_mask
from scripts.prepare.registration import coarse_grid, information
from scripts.prepare.resampling import mask_on, resample
from scripts.prepare.volumes import Volume

UNITS = {"volume": "mL"}  # the rest are dimensionless
LIMITS = {  # lowest and highest acceptable values; sources in docs/explanation/preparation.md
    "subject": {"overlap": (0.925, 1.0), "volume": (1000.0, 2100.0), "scale": (0.8, 1.25), "agreement": (0.94, 1.0)},
    "reference": {"coverage": (0.98, 1.0), "information": (0.02, 1.0)},
    "modality": {"coverage": (0.98, 1.0), "information": (0.05, 1.0)},
}


class Row(NamedTuple):
    """A quality measure of a modality ("" for the subject), with its lowest and highest acceptable values."""

    modality: str
    name: str
    value: float
    lowest: float
    highest: float

    @property
    def text(self) -> str:
        """The measure in words, such as "T1 coverage 0.99" or "volume 1430 mL"."""
        value = f"{self.value:.0f}" if self.value >= 100 else f"{self.value:.3g}"
        return f"{self.modality} {self.name} {value} {UNITS.get(self.name, '')}".strip()

    def __str__(self) -> str:
        return f"{self.text}; expected {self.lowest:g} to {self.highest:g} {UNITS.get(self.name, '')}".rstrip()


@dataclass(frozen=True)
class Figures:
    """Quality measures of a prepared subject and its modalities, by name."""

    reference: str
    subject: Mapping[str, float]
    modalities: Mapping[str, Mapping[str, float]]

    def rows(self) -> list[Row]:
        """Return a `Row` for each quality measure."""
        table = [Row("", name, value, *LIMITS["subject"][name]) for name, value in self.subject.items()]
        for modality, values in self.modalities.items():
            limits = LIMITS["reference" if modality == self.reference else "modality"]
            table += [Row(modality, name, value, *limits[name]) for name, value in values.items()]
        return table

    def outside(self) -> list[Row]:
        """Return a `Row` for each quality measure outside its limits."""
        return [row for row in self.rows() if not row.lowest <= row.value <= row.highest]


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
    """Measure the quality of a prepared subject; `heads`, `covered` (fields of view) and `brain` share a grid.

    `mask` and `mirrored` are brain masks on the grid of the reference's scan; `mirrored` is deepbet's mask of the
    mirrored T1, if any. Two matrices [4, 4] map to mm of this scan: `affine` (12 degrees of freedom) from mm in MNI
    space, `matrix` from mm in the prepared space. `affine` places the template, even if the registration is rigid.
    """
    grid = heads[reference].grid
    growth = float(abs(np.linalg.det(matrix[:3, :3])))
    subject = {
        "overlap": template_overlap(mask, affine),
        "volume": float(brain.sum() * grid.spacing.prod() * growth / 1000),
        "scale": float(abs(np.linalg.det(affine[:3, :3]))) ** (-1 / 3),
    }
    if mirrored is not None:
        subject["agreement"] = dice(mask.array, mirrored)
    back = np.linalg.inv(affine) @ matrix
    standard, template = resample(template_brain(), grid, back), mask_on(template_mask(), grid, back)
    modalities = {}
    for modality, head in heads.items():
        other = standard if modality == reference else heads[reference]
        modalities[modality] = {
            "coverage": float(covered[modality][template].mean()),
            "information": information(head.array[brain], other.array[brain]),
        }
    return Figures(reference, subject, modalities)


def template_overlap(mask: Volume, affine: NDArray[np.float64] | None = None) -> float:
    """Return the Dice between a brain mask and the brain of the MNI template, on a grid of 2 mm.

    `affine` maps mm in MNI space to mm of the mask (default: identity).
    """
    grid = coarse_grid(template_brain())
    return dice(mask_on(mask, grid, affine), mask_on(template_mask(), grid))
