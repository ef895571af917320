"""Prepare one subject's scans in memory: register, extract the brain, resample once, and measure the quality.

docs/explanation/preparation.md defines the quality figures, which need no ground truth, and has sources of `LIMITS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it
from numpy.typing import NDArray
from scipy import ndimage

from common.errors import InputError, within
from common.metrics.measures import dice
from scripts.prepare.brain import (
    find_brain,
    mirrored_brain,
    template_brain,
    template_mask,
    template_overlap,
    zero_background,
)
from scripts.prepare.registration import between_centres, coarse_grid, foreground, information, register, to_itk
from scripts.prepare.settings import Settings
from scripts.prepare.volumes import Volume, field_of_view, frame_of, in_frame, mask_on, resample

MARGIN = 5.0  # mm; greatest margin of a brain mask
NEAR = 4  # mm; margin of the template's brain
# Lowest and highest acceptable figures
LIMITS = {"overlap": (0.925, 1.0), "volume": (1000.0, 2100.0), "scale": (0.8, 1.25), "agreement": (0.94, 1.0)}
LIMITS |= {"coverage": (0.98, 1.0), "information": (0.05, 1.0)}
OF_REFERENCE = LIMITS | {"information": (0.02, 1.0)}


class Figure(NamedTuple):
    """A quality figure of a modality ("" for the subject), with its lowest and highest acceptable values."""

    modality: str
    name: str
    value: float
    lowest: float
    highest: float

    @property
    def text(self) -> str:
        """The figure in words, such as "T1 coverage 0.99" or "volume 1430 mL"."""
        value = f"{self.value:.0f}" if self.value >= 100 else f"{self.value:.3g}"
        return f"{self.modality} {self.name} {value}{' mL' if self.name == 'volume' else ''}".strip()

    def __str__(self) -> str:
        return f"{self.text}; expected {self.lowest:g} to {self.highest:g}"


@dataclass(frozen=True)
class Figures:
    """Quality figures of a prepared subject and its modalities, by name."""

    reference: str
    subject: Mapping[str, float]
    modalities: Mapping[str, Mapping[str, float]]

    def rows(self) -> list[Figure]:
        """Return all figures with their limits."""
        return [
            Figure(group, name, value, *(OF_REFERENCE if group == self.reference else LIMITS)[name])
            for group, values in {"": self.subject, **self.modalities}.items()
            for name, value in values.items()
        ]

    def outside(self) -> list[Figure]:
        """Return the figures outside their limits."""
        return [figure for figure in self.rows() if not figure.lowest <= figure.value <= figure.highest]


@dataclass(frozen=True)
class Prepared:
    """The prepared scans of a subject, with masks on the same grid, the registration and quality figures."""

    images: Mapping[str, Volume]  # float32, by modality
    heads: Mapping[str, Volume]  # the same images before brain extraction
    brain: NDArray[np.bool_]
    template: NDArray[np.bool_]  # the template's brain
    matrices: Mapping[str, NDArray[np.float64]]  # [4, 4] from mm in the prepared space to mm of each raw scan, RAS+
    figures: Figures
    is_stripped: bool  # the reference has no skull; the brain is its foreground


def prepare_subject(
    volumes: Mapping[str, Volume], settings: Settings, mask: NDArray[np.bool_] | None = None
) -> Prepared:
    """Prepare a subject's raw scans (float32, by modality): register, extract the brain and resample them.

    The reference is registered to the template within the brain, and the remaining scans rigidly to the reference, with
    a margin if both have thick slices. Each scan is resampled once, by the combined transform. All computations use the
    reference's frame (`frame_of`), so the storage order of axes does not matter. `mask` is the user's brain mask on the
    reference's grid, if any.
    """
    frame = frame_of(volumes[settings.reference])
    scans = {modality: zero_background(in_frame(volumes[modality], frame)) for modality in settings.modalities}
    reference, target, grid = scans[settings.reference], settings.target, settings.grid
    is_stripped = False
    if mask is None:  # also if the head is kept: the figures need the brain
        with within(settings.reference):
            mask, is_stripped = find_brain(reference)
    else:
        mask = in_frame(Volume(mask.astype(np.uint8), volumes[settings.reference].affine), frame).array > 0
    affine = _to_template(reference, mask, 12)
    to_template = affine if target.dof == 12 else _to_template(reference, mask, target.dof)
    matrices = {}
    for modality, scan in scans.items():
        onto = np.eye(4) if modality == settings.reference else _to_reference(reference, mask, scan)
        matrices[modality] = onto @ to_template @ target.to_mni()
    to_scan = matrices[settings.reference]
    heads = {modality: resample(scan, grid, matrices[modality]) for modality, scan in scans.items()}
    brain = mask_on(Volume(mask, reference.affine), grid, to_scan)
    if not brain.any():
        raise InputError(f"{settings.reference}: no brain on the grid of the result; expected a scan of the whole head")
    images = heads
    if settings.brain != "none":
        images = {modality: Volume(np.where(brain, head.array, 0), head.affine) for modality, head in heads.items()}
    figures = {
        "overlap": template_overlap(Volume(mask, reference.affine), affine),
        "volume": float(brain.sum() * grid.spacing.prod() * float(abs(np.linalg.det(to_scan[:3, :3]))) / 1000),
        "scale": float(abs(np.linalg.det(affine[:3, :3]))) ** (-1 / 3),
    }
    if settings.reference == "T1" and not is_stripped:
        figures["agreement"] = dice(mask, mirrored_brain(reference))
    back = np.linalg.inv(affine) @ to_scan  # places the template affinely, even if the registration is rigid
    standard, whole = resample(template_brain(), grid, back), mask_on(template_mask(), grid, back)
    modalities = {}
    for modality, head in heads.items():
        other = standard if modality == settings.reference else heads[settings.reference]
        covered = field_of_view(scans[modality], grid, matrices[modality])
        modalities[modality] = {
            "coverage": float(covered[whole].mean()),
            "information": information(head.array[brain], other.array[brain]),
        }
    template = mask_on(template_mask(), grid, target.to_mni())
    raw = {modality: frame @ matrix for modality, matrix in matrices.items()}
    quality = Figures(settings.reference, figures, modalities)
    return Prepared(images, heads, brain, template, raw, quality, is_stripped)


def _to_template(scan: Volume, brain: NDArray[np.bool_], dof: int) -> NDArray[np.float64]:
    """Return the matrix from MNI space to the scan, registered within the brain, as the template has no skull.

    A resolution of 2 mm suffices, because brains differ from the template by more.
    """
    template = resample(template_brain(), coarse_grid(template_brain()))
    near = ndimage.binary_dilation(template_mask().array, iterations=NEAR)
    start = between_centres(template_brain(), template_mask().array > 0, scan, brain)
    stripped = Volume(np.where(brain, scan.array, 0), scan.affine)
    return register(template, stripped, dof, mask_on(Volume(near, template_mask().affine), template.grid), [start])


def _to_reference(reference: Volume, brain: NDArray[np.bool_], scan: Volume) -> NDArray[np.float64]:
    """Return the matrix from the reference to a scan; start from scanner coordinates and from the heads' centres.

    If both scans have thick slices, the mask has a margin: twice the difference between slice thickness and pixel size,
    in the scan where that difference is smaller, up to `MARGIN`.
    """
    start = between_centres(reference, foreground(reference), scan, foreground(scan))
    margin = min(MARGIN, 2 * min(np.ptp(reference.spacing), np.ptp(scan.spacing)))
    if margin >= reference.spacing.min():
        image = to_itk(brain, np.uint8)
        image.SetSpacing(reference.spacing.tolist())
        distance = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
        brain = margin >= sitk.GetArrayFromImage(distance).T
    return register(reference, scan, 6, brain, [start])
