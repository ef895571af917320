"""Volumes and label maps on other grids, against SciPy and closed forms."""

import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy import ndimage

from scripts.prepare.resampling import field_of_view, labels_on, resample
from scripts.prepare.volumes import Grid, Volume
from tests.support import oblique


@pytest.mark.parametrize("shear", [0, 0.01])
def test_resampling_is_trilinear_between_oblique_grids(shear):
    """Also of sheared ones, which images of ITK cannot have."""
    rng = np.random.default_rng(0)
    sheared = np.eye(4)
    sheared[0, 1] = shear
    moving = Volume(rng.random((20, 18, 16)).astype(np.float32), sheared @ oblique((2.0, 2.0, 2.0)))
    reference = Volume(np.zeros((15, 14, 13), np.float32), np.diag([-1.7, 1.9, 2.2, 1.0]) @ sheared)
    reference.affine[:3, 3] = apply_affine(moving.affine, [16, 2, 1])
    result = resample(moving, reference.grid).array
    points = apply_affine(np.linalg.inv(moving.affine) @ reference.affine, np.argwhere(reference.array == 0))
    expected = ndimage.map_coordinates(moving.array, points.T, order=1, mode="constant", cval=0).reshape(result.shape)
    within = ((points >= 0) & (points <= np.array(moving.array.shape) - 1)).all(1).reshape(result.shape)
    assert 0.1 < within.mean() < 1
    np.testing.assert_allclose(result[within], expected[within], atol=1e-4)
    assert (field_of_view(moving, reference.grid) >= within).all()


def test_a_volume_on_the_same_grid_is_not_changed():
    volume = Volume(np.random.default_rng(0).random((4, 5, 6)).astype(np.float32), oblique())
    nearly = Volume(volume.array, volume.affine + 1e-5)
    assert resample(nearly, volume.grid).array is volume.array
    assert resample(nearly, volume.grid, np.eye(4)).array is not volume.array, "a transform is always applied"


def ball(grid, centre, radius):
    positions = np.indices(grid.shape).reshape(3, -1).T @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    return (np.linalg.norm(positions - centre, axis=1) < radius).reshape(grid.shape)


def grid_of(shape, edges, origin=(0, 0, 0)):
    affine = np.diag([*map(float, edges), 1.0])
    affine[:3, 3] = origin
    return Grid(shape, affine)


def volume_of(mask, grid):
    return mask.sum() * abs(np.linalg.det(grid.affine[:3, :3]))


def test_labels_keep_place_and_volume_in_a_turned_scan_with_thick_slices():
    fine = grid_of((60, 60, 60), (1, 1, 1))
    labels = np.zeros(fine.shape, np.uint8)
    labels[ball(fine, (30, 30, 30), 14)] = 2
    labels[ball(fine, (30, 30, 30), 8)] = 4
    angle = np.deg2rad(20)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = np.array([30, 30, 30]) - matrix[:3, :3] @ [28, 31, 33]
    raw = grid_of((66, 66, 17), (0.9, 0.9, 4))
    result = labels_on(Volume(labels, fine.affine), raw, matrix).array
    assert set(np.unique(result)) == {0, 2, 4}
    for value, radius in ((4, 8), (2, 14)):
        mask = result >= 2 if value == 2 else result == 4
        centre = np.array(ndimage.center_of_mass(mask)) * (0.9, 0.9, 4)
        np.testing.assert_allclose(centre, (28, 31, 33), atol=0.5)
        assert volume_of(mask, raw) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.05)


def test_a_thick_voxel_gets_the_label_that_fills_most_of_it():
    """A plate of 3 of 4 mm that the voxel's centre misses: a nearest neighbour would say 0."""
    fine = grid_of((4, 4, 8), (1, 1, 1))
    labels = np.zeros(fine.shape, np.uint8)
    labels[:, :, [0, 1, 3]] = 1  # of the first thick voxel, 0 to 3; slice 2 is nearest to its centre
    thick = grid_of((4, 4, 2), (1, 1, 4), (0, 0, 1.6))
    np.testing.assert_array_equal(labels_on(Volume(labels, fine.affine), thick, np.eye(4)).array[1, 1], [1, 0])
