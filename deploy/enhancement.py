"""Compare two T1 series by their voxels: which of them was scanned after contrast agent?

Contrast agent brightens vessels, mucosa, choroid plexus and enhancing lesions, which are a small part of a head, and
leaves the rest as it was. So after both series have been brought to one grid, sharpness and brightness, their
difference has a long tail on one side only. Noise and a patient who moved lengthen both tails.
"""

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it
from numpy.typing import NDArray
from scipy import ndimage

from common.prepare.volumes import Volume, to_image

# Chosen on phantoms so that no two native scans decide and as many enhanced ones as possible do; README.md has the
# figures. Brightness is relative to the median of the head.
EDGE = 2.5  # mm, edge of a voxel of the common grid
FIELD = 20.0  # mm, standard deviation of the kernel that evens out the receive fields
TAIL = 0.25  # % of the head in a tail: 4 mL of a brain, 10 mL of a head
LEAST_GAIN = 0.2  # by which one tail has to be longer; two native scans differ by up to 0.10
LEAST_RATIO = 1.5  # of the tails; two native scans of a patient who moved by 4 mm and 3 degrees: up to 1.2
LEAST_HEAD = 300.0  # mL that both series show: a quarter of a brain, so that a tail has 0.75 mL
DARKEST = 0.02  # below it, ratios are noise
CLIP = (2.0, 0.3)  # of the logarithm of the ratio in each pass: first all but outliers, then the range of native tissue
BACKGROUND = 0.25  # of the 75th percentile: air and noise are below it, CSF in T1 is above


def brighter(one: Volume, other: Volume) -> int:
    """Say which of two T1 series of a head was brightened by contrast agent.

    Args:
        one: a T1 series, in the scanner's units.
        other: another T1 series of the same kind and frame of reference, on any grid.

    Returns:
        1 if `one` was, -1 if `other` was, 0 if the voxels do not say.

    Example:
        >>> grid, head = np.diag([2.5, 2.5, 2.5, 1]), np.zeros((60, 60, 60), np.float32)
        >>> head[5:55, 5:55, 5:55] = 1
        >>> lesion = head.copy()
        >>> lesion[10:20, 10:20, 10:20] = 1.5
        >>> brighter(Volume(lesion, grid), Volume(head, grid))
        1
    """
    low, high = tails(one, other)
    longer, shorter = max(low, high), min(low, high)
    if longer - shorter < LEAST_GAIN or longer < LEAST_RATIO * shorter:
        return 0
    return 1 if high > low else -1


def tails(one: Volume, other: Volume) -> tuple[float, float]:
    """Lengths of the lower and the upper tail of `one` minus `other`; 0 and 0 if they show no common head."""
    first, second = _on_one_grid(one, other)
    head = ndimage.binary_erosion(_foreground(first) & _foreground(second))
    if head.sum() * EDGE**3 / 1000 < LEAST_HEAD:
        return 0.0, 0.0
    first, second = (np.maximum(image / np.median(image[head]), DARKEST) for image in (first, second))
    field = _receive_field(np.log(first / second), head)
    difference = (first * np.exp(-field / 2) - second * np.exp(field / 2))[head]
    low, high = np.percentile(difference - np.median(difference), [TAIL, 100 - TAIL])
    return max(-float(low), 0.0), max(float(high), 0.0)


def _receive_field(ratio: NDArray[np.float32], head: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The smooth part of a logarithm of a ratio in the head; a second pass clips voxels far from the first estimate."""
    weight = np.maximum(ndimage.gaussian_filter(head.astype(np.float32), FIELD / EDGE), 1e-3)
    field = np.zeros_like(ratio)
    for limit in CLIP:
        rest = np.where(head, np.clip(ratio - field, -limit, limit), 0)
        field = field + ndimage.gaussian_filter(rest, FIELD / EDGE) / weight
    return field


def _foreground(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    above = image[image > 0]
    return image > BACKGROUND * np.percentile(above, 75) if above.size else np.zeros(image.shape, bool)


def _on_one_grid(one: Volume, other: Volume) -> list[NDArray[np.float32]]:
    """Both series on a grid of `EDGE` over the first, as sharp as the thickest slices of either."""
    sigma = max(EDGE, *one.spacing, *other.spacing) / 2
    images = [_smooth(to_image(volume), sigma) for volume in (one, other)]
    first = images[0]
    size = [
        max(1, round(count * spacing / EDGE))
        for count, spacing in zip(first.GetSize(), first.GetSpacing(), strict=True)
    ]
    grid = sitk.Image(size, sitk.sitkFloat32)
    grid.SetSpacing([EDGE] * 3)
    grid.SetOrigin(first.GetOrigin())
    grid.SetDirection(first.GetDirection())
    resampled = [sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, 0.0) for image in images]
    return [sitk.GetArrayFromImage(image) for image in resampled]


def _smooth(image: sitk.Image, sigma: float) -> sitk.Image:
    """Smooth by a Gaussian of `sigma` mm."""
    return sitk.DiscreteGaussian(image, [sigma**2] * 3, maximumKernelWidth=64, maximumError=0.01, useImageSpacing=True)
