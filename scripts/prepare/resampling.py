"""Resample scans and label maps to different grids."""

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it
from numpy.typing import NDArray

from scripts.prepare.volumes import Grid, Volume


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
