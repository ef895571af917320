"""Reading, resampling, brain extraction and registration, each against an independent reference."""

from dataclasses import replace

import numpy as np
import pytest
from nibabel.affines import apply_affine
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff
from scipy import ndimage
from scipy.spatial.transform import Rotation

from common.errors import InputError
from common.metrics.measures import dice
from scripts.prepare import brain, subject
from scripts.prepare.brain import template_brain
from scripts.prepare.registration import between_centres, register
from scripts.prepare.settings import Settings
from scripts.prepare.subject import prepare_subject
from scripts.prepare.volumes import Grid, Volume, field_of_view, labels_on, read_volume, resample
from tests.damaged_scans import save
from tests.support import oblique

WIDE = np.diag([8.0, 8.0, 8.0, 1.0])
SCAN = np.random.default_rng(0).integers(0, 900, (8, 9, 10)).astype(np.int16)
SHEARED = np.eye(4) + np.eye(4, k=1) * [0, 0.5, 0, 0]


@pytest.mark.parametrize(
    ("array", "affine", "message"),
    [
        (np.zeros((8, 9, 10), np.int16), WIDE, "expected a brain"),
        (SCAN * (np.arange(9) != 4)[:, None], WIDE, "slice 5 of 9 along the second axis is empty"),
        (SCAN, np.diag([8, 8, 4.8, 1]), "field of view of 64 x 72 x 48 mm"),
        (SCAN, SHEARED, "sheared axes"),
    ],
)
def test_a_scan_that_cannot_be_a_head_is_refused(tmp_path, array, affine, message):
    path = tmp_path / "scan.nii.gz"
    save(path, array, affine)
    with pytest.raises(InputError, match=f"scan.nii.gz: .*{message}"):
        read_volume(path)


@pytest.mark.parametrize("shear", [0, 0.01])
def test_resampling_is_trilinear_between_oblique_and_sheared_grids(shear):
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


def test_a_thick_voxel_gets_the_label_that_fills_most_of_it():
    """A plate fills 3 of 4 mm but misses the voxel's centre: nearest-neighbour resampling would give 0."""
    labels = np.zeros((4, 4, 8), np.uint8)
    labels[:, :, [0, 1, 3]] = 1  # of the first thick voxel, 0 to 3; slice 2 is nearest to its centre
    thick = np.diag([1.0, 1, 4, 1])
    thick[2, 3] = 1.6
    result = labels_on(Volume(labels, np.eye(4)), Grid((4, 4, 2), thick), np.eye(4)).array
    np.testing.assert_array_equal(result[1, 1], [1, 0])


@pytest.fixture
def standard_scan(monkeypatch):
    """The template as a scan without skull at 4 mm, which lies in MNI space; deepbet must not run."""
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = (-100, -140, -90)
    monkeypatch.setattr(subject, "_to_template", lambda scan, *_: scan.affine @ np.linalg.inv(affine))
    monkeypatch.delattr(brain, "_deepbet")
    return Volume(900 * resample(template_brain(), Grid((50, 64, 50), affine)).array, affine)


@pytest.mark.parametrize("background", [0, -1000, 40])
def test_a_scan_without_skull_keeps_its_brain_on_any_constant_background(standard_scan, background):
    inside = standard_scan.array > 0
    scan = replace(standard_scan, array=np.where(inside, standard_scan.array, background))
    prepared = prepare_subject({"T1": scan}, Settings("ukb", ("T1",), spacing=4.0))
    grid = prepared.images["T1"].grid
    on_grid = resample(Volume(inside, standard_scan.affine), grid).array > 0.5
    np.testing.assert_array_equal(prepared.brain, on_grid)
    assert (prepared.is_stripped, "agreement" in prepared.figures.subject) == (True, False)
    expected = np.where(on_grid, resample(standard_scan, grid).array, 0)
    np.testing.assert_allclose(prepared.images["T1"].array, expected, atol=0.01)


@pytest.mark.parametrize(("extracted", "is_stripped"), [(1.0, True), (0.5, False)])
def test_a_brain_that_fills_what_is_above_the_noise_has_no_skull(standard_scan, monkeypatch, extracted, is_stripped):
    """Rician noise, as in magnitude images, and an extraction of the brain or of its lower half."""
    noise = np.random.default_rng(0).normal(0, 3, (2, *standard_scan.array.shape))
    inside = standard_scan.array > 0
    part = np.roll(inside & (np.indices(inside.shape)[2] < extracted * inside.shape[2]), 1, axis=0)
    monkeypatch.setattr(brain, "brain_of", lambda *_: part)
    noisy = replace(standard_scan, array=np.hypot(standard_scan.array + noise[0], noise[1]))
    mask, has_no_skull = brain.find_brain(noisy)
    assert has_no_skull == is_stripped
    assert dice(mask, inside if is_stripped else part) > 0.99


def textured(turn):
    """Return a ball of smooth noise in 3 mm voxels, and the same with inverted contrast, moved by `turn`."""
    affine = np.diag([3.0, 3, 3, 1])
    affine[:3, 3] = -72
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(49, 50, 51)), 2.5)
    points = np.moveaxis(np.indices(noise.shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    head = np.where(np.linalg.norm(points, axis=-1) < 60, 100 + 40 * noise / noise.std(), 0)
    back = np.linalg.inv(affine) @ np.linalg.inv(turn) @ affine
    moved = ndimage.affine_transform(head, back[:3, :3], back[:3, 3], order=1)
    inverse = np.where(moved > 10, 250 - moved, 0)
    return Volume(head.astype(np.float32), affine), Volume(inverse.astype(np.float32), affine)


def test_a_registration_finds_a_turn_across_contrasts_and_is_the_same_twice():
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [8, -5, 10], degrees=True).as_matrix()
    turn[:3, 3] = [6, -9, 12]
    fixed, moving = textured(turn)
    inside = fixed.array > 0
    start = between_centres(fixed, inside, moving, moving.array > 0)
    matrix = register(fixed, moving, 6, inside, [start])
    points = np.argwhere(inside)[::50] @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
    assert np.linalg.norm(apply_affine(matrix, points) - apply_affine(turn, points), axis=1).max() < 0.6, "mm"
    np.testing.assert_array_equal(register(fixed, moving, 6, inside, [start]), matrix)


def test_a_registration_finds_a_shift_that_the_mask_alone_cannot_see():
    """5 cm away, as a FLAIR from another scan session may lie: within its mask ANTs stays where it is."""
    turn = np.eye(4)
    turn[:3, 3] = [0, -5, 50]
    fixed, moving = textured(turn)
    np.testing.assert_allclose(register(fixed, moving, 6, fixed.array > 0)[:3, 3], turn[:3, 3], atol=0.6)


def stored(scan, axes, degrees):
    """Return a scan with permuted and flipped axes, and a header turned about a point, in float32 as in a file."""
    order = axcodes2ornt(axes)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [degrees, -degrees / 2, degrees / 3], degrees=True).as_matrix()
    turn[:3, 3] = [12, -7, 31]
    affine = turn @ scan.affine @ inv_ornt_aff(order, scan.array.shape)
    return Volume(apply_orientation(scan.array, order), affine.astype(np.float32).astype(float))


def test_a_head_is_prepared_alike_however_it_is_stored(monkeypatch):
    """Registrations are replaced by their starts; a turned header differs by its rounding."""
    head = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(90, 80, 50)), 3).astype(np.float32)
    mask = np.zeros(head.shape, bool)
    mask[20:60, 15:70, 10:40] = True
    monkeypatch.setattr(subject, "register", lambda fixed, moving, dof, inside, starts: starts[0])
    monkeypatch.setattr(subject, "foreground", lambda scan: scan.array > 0)
    settings = Settings("brats", ("FLAIR", "T2"), "*_mask.nii.gz", 4.0)
    edges = np.diag([1.5, 2.0, 3.0, 1.0])
    other = Volume(np.ascontiguousarray(head[:, ::-1]), oblique((3.0, -4.0, 5.0)))
    scans = {"FLAIR": Volume(head, edges), "T2": other}
    first, second = (
        prepare_subject(
            {name: stored(scan, *how) for name, scan in scans.items()},
            settings,
            stored(Volume(mask, edges), *how).array,
        )
        for how in (("RAS", 0), ("PIR", 20))
    )
    np.testing.assert_array_equal(second.brain, first.brain)
    for modality in settings.modalities:
        np.testing.assert_allclose(second.images[modality].array, first.images[modality].array, atol=1e-4)
