"""Check that the scans were prepared as the model needs them.

The models were trained on scans that the owners of the cohorts had registered and, for BraTS, skull-stripped. On other
scans they produce masks that look plausible. Each check returns sentences, none if it passes. The limits come from
measurements on the embedded cohort; README.md lists them in section "Preconditions".
"""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it
from nilearn import datasets
from pydicom.dataset import Dataset

from common.data.preparation import BRAIN
from common.metrics.measures import dice
from common.prepare.resampling import field_of_view, resample
from common.prepare.volumes import Volume, to_image
from deploy.source_header import burned_in_annotation

__all__ = ["annotation_checks", "brain_overlap", "failed_checks", "foreground_volume", "mni_offset", "spacing_remarks"]

LEAST = 500.0  # mL above zero of a brain
OVERLAP = 0.95  # Dice of two modalities' brains; cohort: 0.94 if one is 5 mm off, 0.97 if its slices are 6 mm thick
COVERAGE = 0.95  # fraction of the reference's brain in the field of view of another series
OFFSET = (13.0, 7.0)  # mm and degrees from MNI space; registered people: at most 12.6 and 1.7; cohort: 8.3 and 6.2
SPACING = (0.9, 1.1)  # of the edges of the voxels of the training


def failed_checks(
    volumes: Mapping[str, Volume],
    aligned: Mapping[str, Volume],
    reference: str,
    skull_stripped: bool,
    in_mni_space: bool,
) -> list[str]:
    """Check the preconditions of a model.

    Args:
        volumes: modality -> volume as it was scanned.
        aligned: modality -> volume on the grid of the reference.
        reference: modality whose series gives the grid.
        skull_stripped: whether the model was trained on skull-stripped brains, for which the modalities must be
            registered to each other; otherwise it was trained on whole heads.
        in_mni_space: whether it was trained on scans in MNI space.

    Returns:
        A sentence for each precondition that is not met.
    """
    failed = [text for modality in volumes for text in _check_foreground(modality, volumes[modality], skull_stripped)]
    if skull_stripped:  # the alignment is that of the brains
        failed += [text for modality in volumes for text in _check_alignment(modality, volumes, aligned, reference)]
    if in_mni_space:
        failed += _check_mni_offset(volumes[reference])
    return failed


def annotation_checks(slices: Mapping[str, Sequence[Dataset]]) -> list[str]:
    """A sentence for each modality with text in its images, by BurnedInAnnotation.

    The models were trained on scans without text. The summary shows the text, which can identify the patient.
    """
    return [
        f"{modality}: text is burned into its images (BurnedInAnnotation is YES), and would show in the summary"
        for modality, images in slices.items()
        if burned_in_annotation(images) == "YES"
    ]


def spacing_remarks(volume: Volume, trained: tuple[float, float] = (1.0, 1.0)) -> list[str]:
    """A remark if the voxels are not as in training; how much accuracy this costs was not measured.

    Args:
        volume: on whose grid the network sees the scans.
        trained: smallest and largest edge of the voxels of the training, mm.
    """
    edges = volume.spacing
    low, high = trained
    if edges.min() >= SPACING[0] * low and edges.max() <= SPACING[1] * high:
        return []
    expected = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    size = " x ".join(f"{edge:.2f}" for edge in edges)
    return [f"voxels of {size} mm; the model was trained on {expected} mm"]


def foreground_volume(volume: Volume) -> float:
    """Volume of the voxels above zero, in mL."""
    return float((volume.array > 0).sum() * volume.voxel_volume)


def _check_foreground(modality: str, volume: Volume, skull_stripped: bool) -> list[str]:
    amount = foreground_volume(volume)
    size = f"{modality}: {amount / 1000:.1f} L are above zero"
    if amount < LEAST:
        return [f"{size}, less than a brain"]
    if skull_stripped and amount / 1000 > BRAIN:
        return [f"{size}, more than a brain: not skull-stripped (background must be 0)"]
    if not skull_stripped and amount / 1000 <= BRAIN:
        return [f"{size}, no more than a brain: skull-stripped, but the model was trained on whole heads"]
    return []


def _check_alignment(
    modality: str, volumes: Mapping[str, Volume], aligned: Mapping[str, Volume], reference: str
) -> list[str]:
    if modality == reference:
        return []
    target = aligned[reference]
    brain = target.array > 0
    if not volumes[modality].grid.is_same(target.grid) and brain.any():
        covered = float(field_of_view(volumes[modality], target.grid)[brain].mean())
        if covered < COVERAGE:
            return [f"{modality}: covers {covered:.0%} of the brain in {reference}; expected at least {COVERAGE:.0%}"]
    overlap = brain_overlap(volumes[modality], target)
    if overlap < OVERLAP:
        return [
            f"{modality}: its brain overlaps the brain in {reference} by {overlap:.2f}, below {OVERLAP}: not registered"
        ]
    return []


def brain_overlap(moving: Volume, reference: Volume) -> float:
    """Dice coefficient of the voxels above zero in two volumes, on the grid of the second; 0 if both are empty."""
    mask = resample(Volume((moving.array > 0).astype(np.float32), moving.affine), reference.grid).array > 0.5
    brain = reference.array > 0
    return dice(mask, brain) if mask.any() or brain.any() else 0.0


def _check_mni_offset(volume: Volume) -> list[str]:
    offset = mni_offset(volume)
    if offset is None:
        return ["T1: does not overlap MNI space: not registered"]
    distance, angle = offset
    if distance > OFFSET[0] or angle > OFFSET[1]:
        return [f"T1: {distance:.0f} mm and {angle:.0f} degrees off MNI space: not registered"]
    return []


def mni_offset(volume: Volume) -> tuple[float, float] | None:
    """Distance of a head from MNI space in mm and degrees, by rigid registration from its position.

    The metric is the mutual information with the MNI152 T1 template inside its brain, so that a skull makes no
    difference. Differences between people show as offsets of up to about 8 mm and 6 degrees.

    Returns:
        Length of the translation and angle of the rotation; None if the head does not overlap the template.
    """
    fixed, brain = _template()
    centre = fixed.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in fixed.GetSize()])
    transform = sitk.Euler3DTransform(centre, 0.0, 0.0, 0.0, (0.0, 0.0, 0.0))
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(brain)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(transform, inPlace=True)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.05, 60)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([2, 0])
    try:
        method.Execute(fixed, sitk.SmoothingRecursiveGaussian(to_image(volume), 2.0))
    except RuntimeError:  # the metric has too few voxels in common
        return None
    parameters = np.array(transform.GetParameters())
    return float(np.linalg.norm(parameters[3:])), float(np.rad2deg(np.linalg.norm(parameters[:3])))


@cache
def _template() -> tuple[sitk.Image, sitk.Image]:
    """The MNI152 T1 template at 4 mm, and its brain dilated by 4 mm."""
    template = datasets.load_mni152_template(resolution=2)
    volume = Volume(np.asarray(template.dataobj, dtype=np.float32), template.affine)
    image = sitk.Shrink(sitk.SmoothingRecursiveGaussian(to_image(volume), 2.0), [2, 2, 2])
    brain = sitk.BinaryDilate(sitk.Cast(to_image(volume) > 0, sitk.sitkUInt8), [2, 2, 2])
    return image, sitk.Resample(brain, image, sitk.Transform(), sitk.sitkNearestNeighbor)
