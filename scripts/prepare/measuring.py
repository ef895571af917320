"""Measure the quality of a prepared subject, without ground truth."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from common.metrics.measures import dice
from scripts.prepare.figures import Figures
from scripts.prepare.registration import coarse_grid, information
from scripts.prepare.resampling import mask_on, resample
from scripts.prepare.targets import template_brain, template_mask
from scripts.prepare.volumes import Volume


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
