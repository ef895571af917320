"""Prepare one subject's scans in memory: register, extract the brain, resample once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it
from numpy.typing import NDArray

from ..errors import InputError
from .brain import DEEPBET, brain_of, mirrored_brain
from .figures import Figures, measure
from .registration import between_centres, coarse_grid, foreground, register
from .resampling import field_of_view, resample
from .targets import COHORT_SETTINGS, TARGETS, near_brain, template_brain, template_mask
from .volumes import Grid, Volume, to_image

SHRUNK = 4  # shrink factor for estimating the bias field


@dataclass(frozen=True)
class Settings:
    """How scans are prepared."""

    target: str  # key of `TARGETS`
    modalities: tuple[str, ...]  # to prepare, in this order
    reference: str  # modality registered to the template; the rest are registered to it
    dof: int  # degrees of freedom of the registration to the template, 6 or 12
    brain: str = DEEPBET  # one of `common.prepare.brain.BRAINS`; `none` keeps the head
    bias_correction: bool = False  # by N4
    spacing: float = 1.0  # edge of the result's voxels, mm
    device: str = "cpu"  # cpu or cuda, for the brain extraction

    @classmethod
    def like(cls, cohort: str, spacing: float = 1.0) -> "Settings":
        """The settings for a cohort, a key of `COHORT_SETTINGS`."""
        known = COHORT_SETTINGS[cohort]
        reference = default_reference(known.modalities)
        dof = TARGETS[known.target].dof
        return cls(known.target, known.modalities, reference, dof, known.brain, spacing=spacing)

    @property
    def grid(self) -> Grid:
        """The grid of the result."""
        return TARGETS[self.target].grid(self.spacing)

    @property
    def space(self) -> str:
        """Space and voxel size, for records."""
        return f"{TARGETS[self.target].description}; voxels of {self.spacing:g} mm"

    @property
    def description(self) -> str:
        """Space and brain extraction, for records."""
        brain = "head kept" if self.brain == "none" else f"brain extracted by {self.brain}"
        return f"{self.space}; {brain}"

    def limited_to(self, modalities: Collection[str]) -> "Settings":
        """The settings for a subject that has only these modalities."""
        names = tuple(name for name in self.modalities if name in modalities)
        reference = self.reference if self.reference in names else default_reference(names)
        return replace(self, modalities=names, reference=reference)


@dataclass(frozen=True)
class Prepared:
    """A prepared subject; volumes and masks are on the target's grid."""

    images: Mapping[str, Volume]  # float32, by modality
    heads: Mapping[str, Volume]  # the same with the head around the brain, before bias correction
    brain: NDArray[np.bool_]
    template: NDArray[np.bool_]  # the template's brain
    matrices: Mapping[str, NDArray[np.float64]]  # [4, 4] from mm in the target's space to mm of each scan, RAS+
    figures: Figures


def default_reference(modalities: Sequence[str]) -> str:
    """T1 if present, else T1ce, else the first modality."""
    return next((modality for modality in ("T1", "T1ce") if modality in modalities), modalities[0])


def prepare_subject(volumes: Mapping[str, Any], settings: Settings, mask: NDArray[np.bool_] | None = None) -> Prepared:
    """Prepare the scans of a subject, by modality; each has an `array` [x, y, z] and an `affine` [4, 4] in RAS+, mm.

    The reference is registered to the template, and the rest rigidly to the reference, within its brain. Each scan is
    resampled once by the combined transform. `mask` is the brain on the reference's grid, if `settings.brain` is a file
    pattern.
    """
    scans = {modality: _scan(volumes, modality) for modality in settings.modalities}
    reference = scans[settings.reference]
    if mask is None:
        method = DEEPBET if settings.brain == "none" else settings.brain  # if the head is kept, only to measure
        try:
            mask = brain_of(reference, method, settings.device)
        except InputError as error:
            raise InputError(f"{settings.reference}: {error}") from error
    affine = _to_template(reference, mask, 12)
    to_template = affine if settings.dof == 12 else _to_template(reference, mask, settings.dof)
    target, grid = TARGETS[settings.target], settings.grid
    matrices = {}
    for modality, scan in scans.items():
        onto = np.eye(4) if modality == settings.reference else _to_reference(reference, mask, scan)
        matrices[modality] = onto @ to_template @ target.to_mni()
    heads = {modality: resample(scan, grid, matrices[modality]) for modality, scan in scans.items()}
    template = resample(template_mask(), grid, target.to_mni()).array > 0.5
    brain = resample(Volume(mask, reference.affine), grid, matrices[settings.reference]).array > 0.5
    if not brain.any():
        raise InputError(f"{settings.reference}: its brain lies outside the grid; expected a head")
    images = heads
    if settings.bias_correction:
        images = {modality: _without_bias(head, brain, settings.brain == "none") for modality, head in images.items()}
    if settings.brain != "none":
        images = {modality: Volume(np.where(brain, head.array, 0), head.affine) for modality, head in images.items()}
    covered = {modality: field_of_view(scan, grid, matrices[modality]) for modality, scan in scans.items()}
    figures = measure(
        heads,
        covered,
        brain,
        Volume(mask, reference.affine),
        mirrored_brain(reference, settings.device) if settings.reference == "T1" else None,
        affine,
        matrices[settings.reference],
        settings.reference,
        target.to_mni(),
    )
    return Prepared(images, heads, brain, template, matrices, figures)


def _scan(volumes: Mapping[str, Any], modality: str) -> Volume:
    if modality not in volumes:
        raise InputError(f"{modality}: no scan; expected one of each modality")
    volume = volumes[modality]
    return Volume(np.asarray(volume.array, np.float32), np.asarray(volume.affine, np.float64))


def _to_template(scan: Volume, brain: NDArray[np.bool_], dof: int) -> NDArray[np.float64]:
    """Matrix from MNI space to the scan, registered within the brain, as the template has no skull.

    2 mm suffice, since people differ by more.
    """
    grid, near = coarse_grid(template_brain(), near_brain())
    start = between_centres(template_brain(), template_mask().array > 0, scan, brain)
    stripped = Volume(np.where(brain, scan.array, 0), scan.affine)
    return register(resample(template_brain(), grid), stripped, dof, near, [start])


def _to_reference(reference: Volume, brain: NDArray[np.bool_], scan: Volume) -> NDArray[np.float64]:
    """Matrix from the reference to a scan, starting from the scanner positions and from the centres of both heads."""
    start = between_centres(reference, foreground(reference), scan, foreground(scan))
    return register(reference, scan, 6, brain, [start])


def _without_bias(head: Volume, brain: NDArray[np.bool_], keeps_head: bool) -> Volume:
    """Divide by the bias field of N4 (Tustison et al., IEEE TMI 2010), estimated in the brain or the head."""
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
