"""Resample scans and label maps to different grids; coordinate frames, and conversion to SimpleITK.

NIfTI uses RAS+ and SimpleITK LPS+; only this module converts between the two.
"""

from collections.abc import Callable, Sequence

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it
from nibabel.affines import from_matvec, voxel_sizes
from numpy.typing import NDArray

from common.data.volumes import canonical
from scripts.prepare.volumes import Grid, Volume

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # between RAS+ and LPS+
# mm; steps for rounding affines in a frame, coarser than in headers. Powers of two, because steps of 1e-5 leave common
# edges, such as 220 mm / 256, halfway between two steps, where a header's rounding decides
FINEST = 2.0 ** np.array([-17, -17, -17, -10])


def resample(volume: Volume, grid: Grid, matrix: NDArray[np.float64] | None = None) -> Volume:
    """Resample a volume linearly to a grid; voxels outside the volume's field of view become 0.

    `matrix` [4, 4] maps mm of the grid to mm of the volume, RAS+ (default: identity). Without a matrix, a volume that
    is already on the grid stays unchanged.
    """
    if matrix is None and volume.grid.is_same(grid):
        return Volume(volume.array, grid.affine)
    onto = np.linalg.inv(volume.affine) @ (np.eye(4) if matrix is None else matrix) @ grid.affine
    image = sitk.Resample(
        sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T, np.float32)),
        sitk.Image([int(size) for size in grid.shape], sitk.sitkUInt8),
        sitk.AffineTransform(onto[:3, :3].ravel().tolist(), onto[:3, 3].tolist()),  # in voxels: ITK images lack shear
        sitk.sitkLinear,
        0.0,
    )
    return Volume(sitk.GetArrayFromImage(image).T, grid.affine)


def mask_on(mask: Volume, grid: Grid, matrix: NDArray[np.float64] | None = None) -> NDArray[np.bool_]:
    """Resample a mask to a grid; see `resample`."""
    return resample(mask, grid, matrix).array > 0.5


def field_of_view(volume: Volume, grid: Grid, matrix: NDArray[np.float64] | None = None) -> NDArray[np.bool_]:
    """Return a mask of a grid's voxels inside a volume's field of view; see `resample`."""
    return mask_on(Volume(np.ones_like(volume.array), volume.affine), grid, matrix)


def labels_on(labels: Volume, grid: Grid, matrix: NDArray[np.float64]) -> Volume:
    """Resample a label map to a grid: each voxel gets the label with the largest share, on ties the smaller label.

    A label's share is the mean of the label's mask over the voxel, interpolated linearly at points about as far apart
    as the voxels of `labels`. `matrix` [4, 4] maps mm of the grid to mm of the labels, RAS+.
    """
    step = labels.grid.spacing.max()
    counts = np.maximum(1, np.ceil(grid.spacing / step - 0.25)).astype(int)
    points = [(np.array(index) + 0.5) / counts - 0.5 for index in np.ndindex(*counts)]  # in voxels, from the centre
    best = np.zeros(grid.shape, np.float32)
    result = np.zeros(grid.shape, labels.array.dtype)
    for value in sorted({0, *np.unique(labels.array).tolist()}):
        mask = Volume((labels.array == value).astype(np.float32), labels.affine)
        share = np.zeros(grid.shape, np.float32)
        for point in points:
            affine = grid.affine.copy()
            affine[:3, 3] += affine[:3, :3] @ point
            share += resample(mask, Grid(grid.shape, affine), matrix).array
        result[share > best + 1e-4] = value
        best = np.maximum(best, share)
    return Volume(result, grid.affine)


def upright(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the nearest affine without shear, because ITK and ANTs images cannot have shear."""
    spacing = voxel_sizes(affine)
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing)
    result = affine.copy()
    result[:3, :3] = left @ right * spacing
    return result


def frame_of(scan: Volume) -> NDArray[np.float64]:
    """Return the rigid matrix to mm of a scan's header, RAS+, from a frame defined by the scan's axes and centre.

    The frame has the scan's axes, in the order and directions nearest to RAS, and the origin at the scan's centre. A
    scan's position in the frame stays the same if stored axes are permuted or flipped, or the header is rotated.
    """
    ras = Volume(*canonical(scan.array, scan.affine))
    middle = ras.spacing * (np.array(ras.array.shape) - 1) / 2
    return np.asarray(upright(ras.affine) @ np.linalg.inv(from_matvec(np.diag(ras.spacing), -middle)))


def in_frame(scan: Volume, frame: NDArray[np.float64]) -> Volume:
    """Express a scan in a frame from `frame_of`, with axes nearest to RAS; voxels are reordered, not resampled."""
    array, affine = canonical(scan.array, scan.affine)
    return Volume(array, np.round(np.linalg.inv(frame) @ affine / FINEST) * FINEST)


def to_image(volume: Volume) -> sitk.Image:
    """Convert a volume to a SimpleITK image; shear is removed from its affine (`upright`)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T))
    spacing, lps = volume.grid.spacing, FLIP @ upright(volume.affine)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def matrix_of(transform: Callable[[tuple[float, float, float]], Sequence[float]]) -> NDArray[np.float64]:
    """Convert an affine transform of points in LPS+ to a matrix [4, 4] between points in RAS+, mm."""
    start = np.array(transform((0.0, 0.0, 0.0)))
    linear = np.column_stack([np.array(transform((x, y, z))) - start for x, y, z in np.eye(3).tolist()])
    return np.asarray(FLIP @ from_matvec(linear, start) @ FLIP)
