"""Rigid, affine and smooth registration of head scans by their mutual information (SimpleITK).

A transform maps points of the fixed image to points of the moving image, as resampling needs it. Points are sampled at
random places within voxels, with fixed seeds: a regular grid biases the mutual information towards aligned voxels.
"""

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it
from common.errors import InputError
from common.prepare.volumes import Volume, to_image
from numpy.typing import NDArray

__all__ = [
    "affine",
    "around",
    "brain_centre",
    "evened",
    "intensities",
    "levels_for",
    "pyramid",
    "register_rigid",
    "shifted",
    "smooth",
    "upper_centre",
]

LEVELS = (8.0, 4.0, 2.0)  # mm
BINS = 32  # of the joint histogram
SEED = 1
FLOOR = 0.02  # added before the logarithm
CLIPPED = (1, 99.5)  # percentiles
TURNS = (-20.0, -10.0, 0.0, 10.0, 20.0)  # degrees, about each axis
SHIFTS = ([0, 0, 0], [0, -10, 0], [0, 10, 0], [0, 0, -10], [0, 0, 10])  # mm
KEPT = 4  # of these starts
UPPER = 150.0  # mm below the top of the head; the brain is 14 cm high
SMOOTH = 3.0  # mm; voxels of the smooth registration
KNOTS = 6  # of its B-spline, along each axis
Pyramid = dict[float, sitk.Image]


def intensities(volume: Volume) -> sitk.Image:
    """A scan as a registration sees it: float32, 0 to 1 between the percentiles 1 and 99.5."""
    low, high = np.percentile(volume.array, CLIPPED)
    if high <= low:  # nearly all voxels are equal
        low, high = float(volume.array.min()), float(volume.array.max())
    return to_image(Volume(np.clip((volume.array - low) / (high - low), 0, 1).astype(np.float32), volume.affine))


def levels_for(scans: Iterable[Volume]) -> tuple[float, ...]:
    """The voxel sizes in mm that scans are worth being registered at: 2 mm only for a scan as fine as that."""
    finest = min(float(np.prod(scan.grid.spacing)) ** (1 / 3) for scan in scans)
    return tuple(edge for edge in LEVELS if edge >= min(finest, LEVELS[1]))


def pyramid(image: sitk.Image, levels: Iterable[float] = LEVELS) -> Pyramid:
    """The image at several voxel sizes in mm; each is smoothed and resampled from the next finer one."""
    found: Pyramid = {}
    for edge in sorted(levels):
        image = found[edge] = _coarser(image, edge)
    return found


def _coarser(image: sitk.Image, edge: float) -> sitk.Image:
    """Isotropic voxels of `edge` mm; masks (integers) take the nearest voxel."""
    is_mask = image.GetPixelID() == sitk.sitkUInt8
    spacing, size = np.array(image.GetSpacing()), np.array(image.GetSize())
    if not is_mask:
        for axis, width in enumerate(spacing):
            if edge > 1.05 * width and size[axis] >= 4:  # the filter's least length
                blur = sitk.RecursiveGaussianImageFilter()
                blur.SetDirection(axis)
                blur.SetSigma(0.4 * float(np.sqrt(edge**2 - width**2)))
                image = blur.Execute(image)
    direction = np.reshape(image.GetDirection(), (3, 3))
    origin = np.array(image.GetOrigin()) + direction @ ((edge - spacing) / 2)
    return sitk.Resample(
        image,
        [max(1, int(count)) for count in np.ceil(size * spacing / edge)],
        sitk.Transform(),
        sitk.sitkNearestNeighbor if is_mask else sitk.sitkLinear,
        origin.tolist(),
        [edge] * 3,
        image.GetDirection(),
        0.0,
        image.GetPixelID(),
    )


def evened(images: Pyramid, mask: sitk.Image) -> Pyramid:
    """The images without the receive field that N4 (Tustison et al., IEEE TMI 2010) estimates in a mask.

    A field darkens cortex to the values of fluid, which misleads an affine or smooth registration.
    """
    coarse = images[max(images)] + FLOOR  # the field varies over centimetres
    inside = sitk.Resample(mask, coarse, sitk.Transform(), sitk.sitkNearestNeighbor)
    method = sitk.N4BiasFieldCorrectionImageFilter()
    method.SetMaximumNumberOfIterations([50, 50])
    method.Execute(coarse, inside)
    field = method.GetLogBiasFieldAsImage(coarse)
    known = sitk.GetArrayViewFromImage(field)[sitk.GetArrayViewFromImage(inside) > 0]
    field = sitk.Clamp(
        sitk.Cast(field, sitk.sitkFloat32), sitk.sitkFloat32, float(known.min()), float(known.max())
    )  # it is wild outside the mask
    return {
        level: sitk.Cast(image / sitk.Exp(sitk.Resample(field, image)), sitk.sitkFloat32)
        for level, image in images.items()
    }


def brain_centre(mask: sitk.Image) -> NDArray[np.float64]:
    """The centroid of a mask in SimpleITK's coordinates, mm."""
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(mask)
    return np.array(shape.GetCentroid(1))


def around(fixed: sitk.Image, moving: sitk.Image, mask: sitk.Image) -> list[sitk.Euler3DTransform]:
    """Starts for a head at an unknown place: of a grid of turns and shifts, those of most mutual information.

    The mask's centre goes to the centre of the head's upper part, which is that of the brain within 1 cm.

    Args:
        fixed: image, coarse.
        moving: a head, on voxels of the same size.
        mask: of the fixed image.
    """
    centre, place = brain_centre(mask), upper_centre(moving)
    method = _method(mask, 1.0)
    found = []
    for turn, shift in product(product(TURNS, repeat=3), SHIFTS):
        start = sitk.Euler3DTransform(centre.tolist(), *np.deg2rad(turn).tolist(), (place - centre + shift).tolist())
        method.SetInitialTransform(start)
        try:
            found.append((method.MetricEvaluate(fixed, moving), start))
        except RuntimeError as error:
            _pass_if_apart(error)
    return [start for _, start in sorted(found, key=lambda each: each[0])[:KEPT]]


def upper_centre(head: sitk.Image) -> NDArray[np.float64]:
    """The centre of mass of the upper part of a head, without the neck, in SimpleITK's coordinates, mm."""
    bright = sitk.BinaryMorphologicalOpening(sitk.OtsuThreshold(head, 0, 1, 128), [1] * 3)
    largest = sitk.RelabelComponent(sitk.ConnectedComponent(bright)) == 1
    indices = np.argwhere(sitk.GetArrayViewFromImage(largest))[:, ::-1]
    if not len(indices):
        indices = np.argwhere(np.ones(head.GetSize()))
    axes = np.reshape(head.GetDirection(), (3, 3)) * np.array(head.GetSpacing())
    points = indices @ axes.T + np.array(head.GetOrigin())
    top = np.percentile(points[:, 2], 99.5)
    return np.asarray(points[points[:, 2] >= top - UPPER].mean(axis=0))


def shifted(
    centre: NDArray[np.float64], shift: Sequence[float] | NDArray[np.float64], nod: float
) -> sitk.Euler3DTransform:
    """A rigid transform around `centre`: a shift in mm and a rotation about the left-right axis in degrees."""
    return sitk.Euler3DTransform(centre.tolist(), float(np.deg2rad(nod)), 0.0, 0.0, np.asarray(shift, float).tolist())


def register_rigid(
    fixed: Pyramid, moving: Pyramid, mask: Pyramid, starts: Sequence[sitk.Euler3DTransform]
) -> sitk.Euler3DTransform:
    """The rigid transform of most mutual information within a mask of the fixed image.

    From each start a gradient descent runs on the coarsest level; the best goes on, and Powell's method, which needs no
    gradient, refines it on the finest level. At 8 mm wrong places can have as much information as the right one, so a
    search for a head begins at 4 mm.

    Raises:
        InputError: no start overlaps the mask.
    """
    coarse, *finer = sorted(fixed, reverse=True)
    tried = []
    for start in starts:
        transform = sitk.Euler3DTransform(start)
        value = _run(_gradient(mask[coarse], coarse), fixed[coarse], moving[coarse], transform)
        if value is not None:
            tried.append((value, transform))
    if not tried:
        raise InputError("its field of view misses the brain; expected scans of one head")
    best = min(tried, key=lambda found: found[0])[1]
    for edge in finer or [coarse]:
        last = edge == min(fixed)
        method = _powell(mask[edge]) if last else _gradient(mask[edge], edge)
        before = sitk.Euler3DTransform(best)
        if _run(method, fixed[edge], moving[edge], best) is None:
            best = before
    return best


def affine(fixed: Pyramid, moving: Pyramid, mask: Pyramid, start: sitk.Euler3DTransform) -> sitk.AffineTransform:
    """The affine transform (12 degrees of freedom) of most mutual information, from a rigid start.

    Raises:
        InputError: the images do not overlap.
    """
    transform = sitk.AffineTransform(3)
    transform.SetCenter(start.GetCenter())
    transform.SetMatrix(start.GetMatrix())
    transform.SetTranslation(start.GetTranslation())
    for edge in sorted(fixed, reverse=True)[1:]:
        if _run(_gradient(mask[edge], edge), fixed[edge], moving[edge], transform) is None:
            raise InputError("its field of view misses the brain; expected scans of one head")
    return transform


def smooth(fixed: sitk.Image, moving: sitk.Image, mask: sitk.Image, finest: float) -> sitk.Transform:
    """A smooth deformation (cubic B-spline, knots about 3 cm apart) of most mutual information within a mask.

    Args:
        fixed: image.
        moving: image.
        mask: of the fixed image.
        finest: edge of the voxels in mm below which the images have no detail.
    """
    edge = max(SMOOTH, finest)
    images = [pyramid(image, [edge])[edge] for image in (fixed, moving, mask)]
    method = _method(images[2], 0.1)
    method.SetOptimizerAsLBFGSB(1e-5, 25, 5, 1000, 1e7)
    method.SetInitialTransform(sitk.BSplineTransformInitializer(images[0], [KNOTS] * 3, 3), inPlace=True)
    return method.Execute(*images[:2])


def _method(mask: sitk.Image, share: float) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricFixedMask(mask)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(share, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _gradient(mask: sitk.Image, edge: float) -> sitk.ImageRegistrationMethod:
    """Gradient descent with steps from half a voxel on, as a share of voxels that costs the same on each level."""
    method = _method(mask, 0.2 if edge < LEVELS[1] else 1.0)
    method.SetOptimizerAsRegularStepGradientDescent(edge / 2, 0.005, 100, 0.6, 1e-8)
    method.SetOptimizerScalesFromPhysicalShift()
    return method


def _powell(mask: sitk.Image) -> sitk.ImageRegistrationMethod:
    method = _method(mask, 0.2)
    method.SetOptimizerAsPowell(6, 20, 0.2, 0.005, 1e-6)
    method.SetOptimizerScalesFromPhysicalShift()
    return method


def _run(
    method: sitk.ImageRegistrationMethod, fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform
) -> float | None:
    """Optimise a transform in place; the value of the metric, or None if the images do not overlap."""
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError as error:
        _pass_if_apart(error)
        return None
    return float(method.GetMetricValue())


def _pass_if_apart(error: RuntimeError) -> None:
    """Raise an error again, unless it says that no sample of the mask lies in the moving image."""
    if not any(word in str(error).lower() for word in ("sample", "point")):
        raise error
