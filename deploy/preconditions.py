"""What must have been done to the scans before they come here, and how it shows that it was not.

The models learnt from scans that their cohorts' owners had registered and, for BraTS, stripped of the skull. On others
they give masks that look like masks. Each check is a sentence that is empty where all is well; limits come from
measurements on the embedded cohort, which README.md lists in section "Preconditions".
"""

from collections.abc import Mapping
from functools import cache

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it
from nilearn import datasets

from deploy.geometry import Volume, inside, resample, same_grid, to_sitk

__all__ = ["coarse", "findings", "offset_from_mni", "overlap", "tissue"]

BRAIN = (500.0, 2800.0)  # mL above zero; cohort: 1.8 to 2.4 L without skull, 3.7 L or more with it
OVERLAP = 0.95  # Dice of two modalities' brains; cohort: 0.94 if one is 5 mm off, 0.97 if its slices are 6 mm thick
COVERAGE = 0.95  # of the reference's brain by another series
OFFSET = (12.0, 12.0)  # mm, degrees from MNI space; cohort: 8.3 and 6.2 at most, 17 and 13.5 at least when 20 off
SPACING = (0.9, 1.1)  # mm; the cohorts were resampled to 1 mm


def findings(
    volumes: Mapping[str, Volume], aligned: Mapping[str, Volume], reference: str, skull_stripped: bool
) -> list[str]:
    """What is against the preconditions, a sentence each; nothing where they are met.

    Args:
        volumes: each modality as it was scanned.
        aligned: each modality on the grid of the reference.
        reference: modality of the series that gives the grid.
        skull_stripped: whether the model learnt from brains alone (then modalities must lie on each other); otherwise
            it learnt from whole heads in MNI space.
    """
    found = [sentence for modality in volumes for sentence in _extent(modality, volumes[modality], skull_stripped)]
    if skull_stripped:
        found += [sentence for modality in volumes for sentence in _alignment(modality, volumes, aligned, reference)]
    else:
        found += _place(volumes[reference])
    return found


def coarse(volume: Volume) -> list[str]:
    """A remark where the voxels are not those of the cohorts; the model runs on them, with a loss not measured."""
    edges = volume.spacing
    if edges.min() >= SPACING[0] and edges.max() <= SPACING[1]:
        return []
    size = " x ".join(f"{edge:.2f}" for edge in edges)
    return [f"voxels of {size} mm; the model learnt from 1 mm"]


def tissue(volume: Volume) -> float:
    """What is above zero, in mL."""
    return float((volume.array > 0).sum() * volume.voxel)


def _extent(modality: str, volume: Volume, skull_stripped: bool) -> list[str]:
    amount = tissue(volume)
    size = f"{modality}: {amount / 1000:.1f} L are above zero"
    if amount < BRAIN[0]:
        return [f"{size}, less than a brain"]
    if skull_stripped and amount > BRAIN[1]:
        return [f"{size}, more than a brain: not skull-stripped (background must be 0)"]
    if not skull_stripped and amount <= BRAIN[1]:
        return [f"{size}, no more than a brain: skull-stripped, but the model learnt from whole heads"]
    return []


def overlap(moving: Volume, reference: Volume) -> float:
    """Dice coefficient of what is above zero in two volumes, on the grid of the second."""
    mask = resample(Volume((moving.array > 0).astype(np.float32), moving.affine), reference).array > 0.5
    brain = reference.array > 0
    total = mask.sum() + brain.sum()
    return float(2 * (mask & brain).sum() / total) if total else 0.0


def _alignment(
    modality: str, volumes: Mapping[str, Volume], aligned: Mapping[str, Volume], reference: str
) -> list[str]:
    if modality == reference:
        return []
    target = aligned[reference]
    brain = target.array > 0
    if not same_grid(volumes[modality], target) and brain.any():
        covered = float(inside(volumes[modality], target)[brain].mean())
        if covered < COVERAGE:
            return [f"{modality}: covers {covered:.0%} of the brain in {reference}; expected {COVERAGE:.0%}"]
    dice = overlap(volumes[modality], target)
    if dice < OVERLAP:
        return [f"{modality}: its brain and that of {reference} overlap by {dice:.2f}, below {OVERLAP}: not registered"]
    return []


def _place(volume: Volume) -> list[str]:
    found = offset_from_mni(volume)
    if found is None:
        return ["T1: does not lie on MNI space: not registered"]
    if found[0] > OFFSET[0] or found[1] > OFFSET[1]:
        return [f"T1: {found[0]:.0f} mm and {found[1]:.0f} degrees off MNI space: not registered"]
    return []


@cache
def _template() -> tuple[sitk.Image, sitk.Image]:
    """MNI152's T1 at 4 mm, and its brain with a rim of 4 mm."""
    template = datasets.load_mni152_template(resolution=2)
    volume = Volume(np.asarray(template.dataobj, dtype=np.float32), template.affine)
    image = sitk.Shrink(sitk.SmoothingRecursiveGaussian(to_sitk(volume), 2.0), [2, 2, 2])
    brain = sitk.BinaryDilate(sitk.Cast(to_sitk(volume) > 0, sitk.sitkUInt8), [2, 2, 2])
    return image, sitk.Resample(brain, image, sitk.Transform(), sitk.sitkNearestNeighbor)


def offset_from_mni(volume: Volume) -> tuple[float, float] | None:
    """How far a head is off MNI space by rigid registration from where it is, in mm and degrees.

    Mutual information with MNI152's T1 inside of its brain, so that a skull makes no difference. What people differ in
    is found as up to some 8 mm and 6 degrees. None where the two do not meet.
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
        method.Execute(fixed, sitk.SmoothingRecursiveGaussian(to_sitk(volume), 2.0))
    except RuntimeError:  # fewer voxels in common than the metric needs
        return None
    parameters = np.array(transform.GetParameters())
    return float(np.linalg.norm(parameters[3:])), float(np.rad2deg(np.linalg.norm(parameters[:3])))
