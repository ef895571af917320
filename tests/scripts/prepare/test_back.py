"""Label maps back on the raw grids."""

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from scripts.prepare.back import labels_on
from scripts.prepare.volumes import Grid, Volume


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
    found = labels_on(Volume(labels, fine.affine), raw, matrix).array
    assert set(np.unique(found)) == {0, 2, 4}
    for value, radius in ((4, 8), (2, 14)):
        mask = found >= 2 if value == 2 else found == 4
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


def test_on_its_own_grid_a_label_map_stays_as_it_is():
    grid = grid_of((6, 7, 8), (1, 2, 3))
    labels = np.random.default_rng(0).integers(0, 5, grid.shape).astype(np.uint8)
    np.testing.assert_array_equal(labels_on(Volume(labels, grid.affine), grid, np.eye(4)).array, labels)


def test_the_command_writes_to_the_raw_grid_of_a_modality(cohort, run_prepare, tmp_path):
    prepared = cohort.folder / "out" / cohort.subject
    mask = nibabel.load(prepared / f"{cohort.subject}_brain_mask.nii.gz")
    (tmp_path / "maps").mkdir()
    nibabel.save(mask, tmp_path / f"maps/{cohort.subject}.nii.gz")
    scan = nibabel.load(prepared / f"{cohort.subject}_T1.nii.gz")
    nibabel.save(nibabel.Nifti1Image(mask.get_fdata(), mask.affine), tmp_path / "maps/nobody.nii.gz")
    folders = [
        f"--prepared={cohort.folder / 'out'}",
        f"--predictions={tmp_path / 'maps'}",
        f"--output={tmp_path / 'b'}",
    ]
    result = run_prepare("back", *folders, "--modality=FLAIR")
    assert result.returncode == 1
    assert "nobody: " in result.stdout
    assert "prepare.json: No such file or directory" in result.stdout
    raw = nibabel.load(cohort.folder / "raw" / cohort.subject / f"{cohort.subject}_FLAIR.nii.gz")
    back = nibabel.load(tmp_path / f"b/{cohort.subject}.nii.gz")
    assert back.shape == raw.shape
    np.testing.assert_allclose(back.affine, raw.affine, atol=1e-4)
    truth = cohort.truth
    points = np.argwhere(back.get_fdata() > 0) @ back.affine[:3, :3].T + back.affine[:3, 3]
    expected = truth["points"] @ truth["motion_FLAIR"][:3, :3].T + truth["motion_FLAIR"][:3, 3]
    np.testing.assert_allclose(points.mean(axis=0), expected.mean(axis=0), atol=3)
    nibabel.save(scan, tmp_path / f"maps/{cohort.subject}.nii.gz")
    result = run_prepare("back", *folders)
    assert f"{cohort.subject}.nii.gz: values from 0 to" in result.stdout


def test_a_label_map_on_another_grid_is_refused(cohort, run_prepare, tmp_path):
    (tmp_path / "maps").mkdir()
    other = nibabel.Nifti1Image(np.zeros((5, 5, 5), np.uint8), np.eye(4))
    nibabel.save(other, tmp_path / f"maps/{cohort.subject}.nii.gz")
    result = run_prepare(
        "back",
        f"--prepared={cohort.folder / 'out'}",
        f"--predictions={tmp_path / 'maps'}",
        f"--output={tmp_path / 'b'}",
    )
    assert result.returncode == 1
    assert "5 x 5 x 5 voxels on another grid; expected the 46 x 55 x 46 of the prepared scans" in result.stdout
