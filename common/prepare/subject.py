"""Prepare the scans of one subject in memory: register, extract the brain, resample once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it
from common.errors import InputError
from common.prepare import registration
from common.prepare.brain import HD_BET, hd_bet, moved_mask, near_brain
from common.prepare.figures import Figures, measure
from common.prepare.registration import Pyramid
from common.prepare.resampling import field_of_view, resample
from common.prepare.targets import COHORTS, TARGETS, template_brain, template_mask
from common.prepare.volumes import Grid, Volume, from_image, matrix_of, to_image
from numpy.typing import NDArray

__all__ = ["BRAINS", "Prepared", "Settings", "default_reference", "prepare_subject"]

BRAINS = ("template", HD_BET, "none")
SHRUNK = 4  # voxels that the estimate of a bias field averages, along each axis


@dataclass(frozen=True)
class Settings:
    """How scans are prepared.

    Attributes:
        target: a key of `TARGETS`.
        modalities: to prepare, in this order.
        reference: the modality that is registered to the template; the others are registered to it.
        dof: degrees of freedom of that registration, 6 or 12.
        brain: extraction by `template` or `hd-bet`, or `none` to keep the head.
        bias_correction: whether N4 removes the receive field.
        spacing: edge of the result's voxels, mm.
        device: that HD-BET runs on.
    """

    target: str
    modalities: tuple[str, ...]
    reference: str
    dof: int
    brain: str = "template"
    bias_correction: bool = False
    spacing: float = 1.0
    device: str = "cpu"

    @classmethod
    def like(cls, cohort: str, spacing: float = 1.0) -> "Settings":
        """How the scans of a cohort, a key of `COHORTS`, are prepared."""
        known = COHORTS[cohort]
        reference = default_reference(known.modalities)
        dof = TARGETS[known.target].dof
        return cls(known.target, known.modalities, reference, dof, known.brain, spacing=spacing)

    @property
    def grid(self) -> Grid:
        """The grid of the result."""
        return TARGETS[self.target].grid(self.spacing)

    @property
    def space(self) -> str:
        """The space and the size of the voxels, for records."""
        return f"{TARGETS[self.target].description}; voxels of {self.spacing:g} mm"

    @property
    def description(self) -> str:
        """The space and what became of the brain, for records."""
        brain = "head kept" if self.brain == "none" else f"brain extracted by {self.brain}"
        return f"{self.space}; {brain}"

    def limited_to(self, modalities: Collection[str]) -> "Settings":
        """For a subject that has these modalities only."""
        names = tuple(name for name in self.modalities if name in modalities)
        reference = self.reference if self.reference in names else default_reference(names)
        return replace(self, modalities=names, reference=reference)


@dataclass(frozen=True)
class Prepared:
    """What `prepare_subject` found.

    Attributes:
        images: modality -> float32 volume on the target's grid.
        heads: the same with everything around the brain, before bias correction.
        brain: mask on the target's grid.
        template: the template's brain on the target's grid.
        matrices: modality -> [4, 4] from mm in the target's space to mm of the scan, RAS+.
        figures: measured quality.
    """

    images: Mapping[str, Volume]
    heads: Mapping[str, Volume]
    brain: NDArray[np.bool_]
    template: NDArray[np.bool_]
    matrices: Mapping[str, NDArray[np.float64]]
    figures: Figures


def default_reference(modalities: Sequence[str]) -> str:
    """T1, or else T1ce, or else the first modality."""
    return next((modality for modality in ("T1", "T1ce") if modality in modalities), modalities[0])


def prepare_subject(volumes: Mapping[str, Any], settings: Settings) -> Prepared:
    """Prepare the scans of a subject.

    The reference is registered to the template, rigidly and, for 12 degrees of freedom, affinely; the other modalities
    are registered rigidly to the reference, within its brain. Each scan is resampled once (linear, 0 outside its field
    of view), by both transforms together.

    Args:
        volumes: modality -> raw scan: anything with an `array` [x, y, z] and an `affine` [4, 4] in RAS+, mm.
        settings: see `Settings`.

    Returns:
        See `Prepared`.

    Raises:
        InputError: a modality is missing, or a scan does not show the head.

    Example:
        >>> prepared = prepare_subject({"T1": t1, "FLAIR": flair}, Settings("mni", ("T1", "FLAIR"), "T1", 12))
        >>> prepared.images["FLAIR"].array.shape
        (197, 233, 189)
    """
    scans = {modality: _scan(volumes, modality) for modality in settings.modalities}
    seen = {modality: registration.intensities(scan) for modality, scan in scans.items()}
    levels = registration.levels_for(scans.values())
    pyramids = {modality: registration.pyramid(image, levels) for modality, image in seen.items()}
    reference = settings.reference
    near = near_brain()
    rigid, affine, even = _to_template(seen[reference], pyramids[reference], near, reference)
    placed = affine if settings.dof == 12 else rigid
    matrices = {modality: matrix_of(rigid) for modality in scans}
    inside = sitk.Resample(near, seen[reference], affine.GetInverse(), sitk.sitkNearestNeighbor)
    masks = registration.pyramid(inside, levels)
    centre = registration.brain_centre(inside)
    target = TARGETS[settings.target]
    for modality in scans:
        onto = np.eye(4)
        if modality != reference:
            onto = matrix_of(_to_reference(pyramids[reference], pyramids[modality], masks, centre, modality))
        matrices[modality] = onto @ matrix_of(placed) @ target.to_mni()
    grid = settings.grid
    heads = {modality: resample(scan, grid, matrices[modality]) for modality, scan in scans.items()}
    template = resample(from_image(template_mask()), grid, target.to_mni()).array > 0.5
    brain = _brain(settings, heads[reference], even, (affine, placed))
    if not brain.any():
        raise InputError(f"{reference}: no brain found; expected a head")
    images = heads
    if settings.bias_correction:
        images = {modality: _without_bias(head, brain, settings.brain == "none") for modality, head in images.items()}
    if settings.brain != "none":
        images = {modality: Volume(np.where(brain, head.array, 0), head.affine) for modality, head in images.items()}
    covered = {modality: field_of_view(scan, grid, matrices[modality]) for modality, scan in scans.items()}
    figures = measure(heads, covered, brain, template, matrices[reference], reference, target.to_mni())
    return Prepared(images, heads, brain, template, matrices, figures)


def _scan(volumes: Mapping[str, Any], modality: str) -> Volume:
    if modality not in volumes:
        raise InputError(f"{modality}: no scan; expected one of each modality")
    volume = volumes[modality]
    return Volume(np.asarray(volume.array, np.float32), np.asarray(volume.affine, np.float64))


def _to_template(
    image: sitk.Image, scan: Pyramid, near: sitk.Image, modality: str
) -> tuple[sitk.Transform, sitk.AffineTransform, Pyramid]:
    """The rigid and the affine transform, and the scan without its receive field."""
    fixed, mask = registration.pyramid(template_brain(), scan), registration.pyramid(near, scan)
    coarse = max(scan)
    first, second, third = ({edge: images[edge] for edge in images if edge < coarse} for images in (fixed, scan, mask))
    try:
        starts = registration.around(fixed[coarse], scan[coarse], mask[coarse])
        rigid = registration.register_rigid(first, second, third, starts)
        inside = sitk.Resample(near, scan[min(scan)], rigid.GetInverse(), sitk.sitkNearestNeighbor)
        even = registration.evened(scan, inside)
        return rigid, registration.affine(fixed, even, mask, rigid), even
    except InputError as error:
        raise InputError(f"{modality}: {error}") from error


def _to_reference(
    fixed: Pyramid, moving: Pyramid, mask: Pyramid, centre: NDArray[np.float64], modality: str
) -> sitk.Transform:
    """From the position in the scanner; then from the centre of the field of view, for scans of another session."""
    finest = moving[min(moving)]
    middle = np.array(finest.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in finest.GetSize()]))
    starts = [
        registration.shifted(centre, shift, nod) for shift in ([0, 0, 0], middle - centre) for nod in (-10, 0, 10)
    ]
    try:
        return registration.register_rigid(fixed, moving, mask, starts)
    except InputError as error:
        raise InputError(f"{modality}: {error}") from error


def _brain(
    settings: Settings, head: Volume, even: Pyramid, transforms: tuple[sitk.Transform, sitk.Transform]
) -> NDArray[np.bool_]:
    """The brain on the target's grid. The template's mask is fitted to the head after the affine registration."""
    if settings.brain == HD_BET:
        return hd_bet(head, settings.device)
    affine, placed = transforms
    mask = moved_mask(even[min(even)], affine, min(even))
    back = np.linalg.inv(matrix_of(affine)) @ matrix_of(placed) @ TARGETS[settings.target].to_mni()
    return resample(mask, settings.grid, back).array > 0.5


def _without_bias(head: Volume, brain: NDArray[np.bool_], keeps_head: bool) -> Volume:
    """Divide by the field that N4 (Tustison et al., IEEE TMI 2010) estimates in the brain, or in the head."""
    image = to_image(head)
    body = sitk.OtsuThreshold(image, 0, 1, 128) if keeps_head else to_image(Volume(brain.astype(np.uint8), head.affine))
    method = sitk.N4BiasFieldCorrectionImageFilter()
    method.SetMaximumNumberOfIterations([50, 50, 30])
    small, mask = (sitk.Shrink(each, [SHRUNK] * 3) for each in (image, sitk.Cast(body, sitk.sitkUInt8)))
    if not sitk.GetArrayViewFromImage(mask).any():
        raise InputError("bias correction: nothing to measure; expected a head")
    method.Execute(sitk.Maximum(small, 1e-3), mask)
    field = np.exp(sitk.GetArrayFromImage(method.GetLogBiasFieldAsImage(image)).T)
    return Volume((head.array / field).astype(np.float32), head.affine)
