"""Decide from voxels which of two T1 series was scanned after contrast agent.

Agent brightens a small part of the head (vessels, mucosa, choroid plexus, enhancing lesions). With resolution and
brightness matched, the histogram of the difference therefore has one long tail; noise and motion lengthen both tails.
"""

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it
from numpy.typing import NDArray
from scipy import ndimage

from ...prepare.frames import to_image
from ...prepare.volumes import Volume

# Chosen on phantoms to detect as many enhanced scans as possible without false detections between native scans; see
# docs/explanation/dicom-series.md. Brightness is relative to the median of the head.
EDGE = 2.5  # mm, voxel edge of the common grid
FIELD = 20.0  # mm, standard deviation of the Gaussian kernel for the receive fields
TAIL = 0.25  # % of the head in a tail: 4 mL of a brain, 10 mL of a head
LEAST_GAIN = 0.15  # smallest difference of the tails; two native scans differ by up to 0.02, even after motion
LEAST_RATIO = 1.5  # smallest ratio of the tails; up to 1.2 between native scans
LEAST_HEAD = 300.0  # mL, smallest common volume: a quarter of a brain, with tails of 0.75 mL
DARKEST = 0.02  # lower bound of brightness; ratios of darker voxels are noise
CLIP = (2.0, 0.3)  # limit of the log ratio in each pass: outliers only, then the range of native tissue
BACKGROUND = 0.25  # fraction of the 75th percentile: air and noise are below it, CSF in T1 is above


def brighter(scan: Volume, other: Volume) -> int | None:
    """Return 1 if contrast agent brightened `scan`, -1 if it brightened `other`, 0 if neither.

    Return None if the heads hardly overlap. Both volumes must be T1 series of the same kind, in scanner units. The
    grids may differ, because `other` is registered to `scan` first.
    """
    lengths = tails(scan, other)
    if lengths is None:
        return None
    (low, high), longer, shorter = lengths, max(lengths), min(lengths)
    if longer - shorter < LEAST_GAIN or longer < LEAST_RATIO * shorter:
        return 0
    return 1 if high > low else -1


def tails(scan: Volume, other: Volume) -> tuple[float, float] | None:
    """Return how far the lower and upper tails of the intensity difference `scan` - `other` reach from its median.

    Medians and receive fields of the common head are matched first; None if this head is smaller than `LEAST_HEAD`.
    """
    first, second = _on_common_grid(scan, other)
    head = ndimage.binary_erosion(_foreground(first) & _foreground(second))
    if head.sum() * EDGE**3 / 1000 < LEAST_HEAD:
        return None
    first, second = (np.maximum(image / np.median(image[head]), DARKEST) for image in (first, second))
    field = _receive_field(np.log(first / second), head)
    difference = (first * np.exp(-field / 2) - second * np.exp(field / 2))[head]
    low, high = np.percentile(difference - np.median(difference), [TAIL, 100 - TAIL])
    return max(-float(low), 0.0), max(float(high), 0.0)


def _receive_field(ratio: NDArray[np.float32], head: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the smooth part of a log ratio within the head; the second pass clips outliers of the first estimate."""
    weight = np.maximum(ndimage.gaussian_filter(head.astype(np.float32), FIELD / EDGE), 1e-3)
    field = np.zeros_like(ratio)
    for limit in CLIP:
        rest = np.where(head, np.clip(ratio - field, -limit, limit), 0)
        field = field + ndimage.gaussian_filter(rest, FIELD / EDGE) / weight
    return field


def _foreground(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    above = image[image > 0]
    return image > BACKGROUND * np.percentile(above, 75) if above.size else np.zeros(image.shape, bool)


def _on_common_grid(scan: Volume, other: Volume) -> list[NDArray[np.float32]]:
    """Blur both series to the coarsest spacing of either, at least `EDGE` mm, and register `other` rigidly to `scan`.

    Return the volumes on a grid of `EDGE` mm over `scan`, [slices, rows, columns].
    """
    sigma = max(EDGE, *scan.spacing, *other.spacing) / 2
    images = [sitk.SmoothingRecursiveGaussian(to_image(volume), sigma) for volume in (scan, other)]
    first = images[0]
    size = [
        max(1, round(count * spacing / EDGE))
        for count, spacing in zip(first.GetSize(), first.GetSpacing(), strict=True)
    ]
    grid = sitk.Image(size, sitk.sitkFloat32)
    grid.SetSpacing([EDGE] * 3)
    grid.SetOrigin(first.GetOrigin())
    grid.SetDirection(first.GetDirection())
    first, second = (sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, 0.0) for image in images)
    aligned = sitk.Resample(images[1], grid, _rigid(first, second), sitk.sitkLinear, 0.0)
    return [sitk.GetArrayFromImage(image) for image in (first, aligned)]


def _rigid(fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
    """Return the rigid motion from points of `fixed` to points of `moving`; the identity without a common head."""
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.5)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-2, 50)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([0.0, 0.0])
    method.SetInitialTransform(start)
    method.SetNumberOfThreads(1)  # for reproducible results
    try:
        return method.Execute(fixed, moving)
    except RuntimeError:  # no common head
        return sitk.Transform()
