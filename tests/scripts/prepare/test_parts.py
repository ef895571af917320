"""Reading, figures, limits, brain extraction and registration, each against a reference of its own."""

import gzip
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from common.errors import InputError
from common.metrics.measures import dice
from scripts.prepare import brain, registration, subject
from scripts.prepare.figures import Figures, has_failed, may_be_right
from scripts.prepare.registration import between_centres, register
from scripts.prepare.resampling import resample
from scripts.prepare.settings import Settings
from scripts.prepare.subject import prepare_subject
from scripts.prepare.targets import template_brain, template_mask
from scripts.prepare.volumes import Grid, Volume, read_volume
from tests.damaged_scans import cut, save
from tests.support import one_line

WIDE = np.diag([8.0, 8.0, 8.0, 1.0])
SCAN = np.random.default_rng(0).integers(0, 900, (8, 9, 10)).astype(np.int16)


def without_orientation(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[252:256] = bytes(4)  # qform_code and sform_code
    path.write_bytes(gzip.compress(content))


@pytest.mark.parametrize(
    ("array", "affine", "damage", "message"),
    [
        (np.zeros((8, 9, 10), np.int16), WIDE, None, "zero everywhere; expected a brain"),
        (SCAN * (np.arange(9) != 4)[:, None], WIDE, None, "slice 5 of 9 along the second axis is empty"),
        (SCAN, np.diag([8, 8, 4.8, 1]), None, "field of view of 64 x 72 x 48 mm; expected at least 50 mm along each"),
        (SCAN, np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), None, "sheared axes"),
        (SCAN, np.eye(4), lambda path: cut(path, 0.9), "Compressed file ended before"),
        (SCAN, np.eye(4), without_orientation, "sform_code and qform_code are 0"),
    ],
)
def test_a_bad_scan_is_refused_in_one_line(tmp_path, array, affine, damage, message):
    path = tmp_path / "scan.nii.gz"
    save(path, array, affine)
    if damage:
        damage(path)
    with pytest.raises(InputError) as error:
        read_volume(path)
    assert "scan.nii.gz" in one_line(error)
    assert message in one_line(error)


@pytest.fixture
def standard_scan(monkeypatch):
    """The template as a scan without skull at 4 mm, which lies in MNI space; deepbet must not run."""
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = (-100, -140, -90)
    monkeypatch.setattr(subject, "_to_template", lambda scan, *_: scan.affine @ np.linalg.inv(affine))
    monkeypatch.delattr(brain, "_deepbet")
    return Volume(900 * resample(template_brain(), Grid((50, 64, 50), affine)).array, affine)


def test_a_scan_without_skull_keeps_its_own_brain(standard_scan):
    inside = standard_scan.array > 0
    damaged = standard_scan.array.copy()
    damaged[25, 32, 25] = 0
    prepared = prepare_subject({"T1": replace(standard_scan, array=damaged)}, Settings("ukb", ("T1",), spacing=4.0))
    on_grid = resample(Volume(inside, standard_scan.affine), prepared.images["T1"].grid).array > 0.5
    np.testing.assert_array_equal(prepared.brain, on_grid)
    assert (prepared.is_stripped, "agreement" in prepared.figures.subject) == (True, False)


@pytest.mark.parametrize(("extracted", "is_stripped"), [(1.0, True), (0.5, False)])
def test_a_brain_that_fills_what_is_above_the_noise_has_no_skull(standard_scan, monkeypatch, extracted, is_stripped):
    """Rician noise, as in magnitude images, and an extraction of the brain or of its lower half."""
    noise = np.random.default_rng(0).normal(0, 3, (2, *standard_scan.array.shape))
    inside = standard_scan.array > 0
    part = inside & (np.indices(inside.shape)[2] < extracted * inside.shape[2])
    monkeypatch.setattr(brain, "brain_of", lambda *_: np.roll(part, 1, axis=0))
    noisy = replace(standard_scan, array=np.hypot(standard_scan.array + noise[0], noise[1]))
    found = brain.find_brain(noisy)
    assert found[1] == is_stripped
    if is_stripped:
        assert dice(found[0], inside) > 0.99
    else:
        np.testing.assert_array_equal(found[0], np.roll(part, 1, axis=0))


@pytest.mark.parametrize("background", [-1000, 40])
def test_a_constant_background_counts_as_0(standard_scan, background):
    """As padding by other software; the results are those of a background of 0."""
    moved = replace(standard_scan, array=np.where(standard_scan.array > 0, standard_scan.array, background))
    expected, prepared = (
        prepare_subject({"T1": scan}, Settings("ukb", ("T1",), spacing=4.0)) for scan in (standard_scan, moved)
    )
    assert prepared.is_stripped
    np.testing.assert_array_equal(prepared.images["T1"].array, expected.images["T1"].array)


def test_coverage_is_the_share_of_the_templates_brain_in_the_field_of_view(standard_scan):
    """The upper part of the head is cut off, of the brain, too, which can only be seen in the template."""
    heights = (template_mask().affine @ [0, 0, 1, 0])[2] * np.arange(template_mask().array.shape[2])
    heights += template_mask().affine[2, 3]
    for slices in (50, 35, 30):
        top = -90 + 4 * (slices - 0.5)
        cut_off = replace(standard_scan, array=standard_scan.array[:, :, :slices])
        prepared = prepare_subject({"T2": cut_off}, Settings("ukb", ("T2",), "*", 2.0), cut_off.array > 0)
        within = template_mask().array[:, :, heights < top].sum() / template_mask().array.sum()
        assert prepared.figures.modalities["T2"]["coverage"] == pytest.approx(within, abs=0.01)


@pytest.mark.parametrize(
    ("overlap", "information", "failed"),
    [
        *(
            (0.838, 0.0201, True),
            (0.855, 0.0108, True),
            (0.86, 0.025, True),
            (0.669, 0.026, True),
            (0.011, 0.156, True),
        ),
        *((0.834, 0.049, False), (0.837, 0.046, False), (0.928, 0.0191, False), (0.935, 0.029, False)),
    ],
)
def test_a_failed_registration_is_never_accepted_by_its_picture(overlap, information, failed):
    """Measured: T1 with headers turned by 180 and 90 degrees; CT, EPI, angiogram; wrong masks; a FLAIR."""
    modalities = {"T1": {"coverage": 1.0, "information": information}}
    figures = Figures("T1", {"overlap": overlap, "volume": 1500.0, "scale": 1.0}, modalities)
    assert has_failed(figures) == failed
    assert not (failed and may_be_right(figures))


def textured(turn):
    """A ball of smooth noise in a box of 3 mm voxels, and the same with inverted contrast, moved by `turn`."""
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
    np.testing.assert_allclose(start[:3, 3], turn[:3, 3], atol=1)
    matrix = register(fixed, moving, 6, inside, [start])
    points = np.argwhere(inside)[::50] @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
    error = np.linalg.norm((points @ (matrix - turn)[:3, :3].T) + (matrix - turn)[:3, 3], axis=1)
    assert error.max() < 0.6, "a fifth of a voxel"
    np.testing.assert_array_equal(register(fixed, moving, 6, inside, [start]), matrix)


def test_the_voxels_of_a_sheared_scan_are_registered_whatever_its_header_says():
    """ANTs gets axes at right angles, and the matrix leads to mm of the sheared ones: the same voxels."""
    fixed, moving = textured(np.eye(4))
    matrices = []
    for shear in (0, 0.05):
        sheared = np.eye(4)
        sheared[0, 2] = shear
        scan = Volume(moving.array, sheared @ moving.affine)
        matrix = registration._by_ants(fixed, scan, 6, np.eye(4), registration.FINE)
        matrices.append(np.linalg.inv(scan.affine) @ matrix)
    points = np.argwhere(fixed.array > 0)[::50] @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
    apart = points @ (matrices[0] - matrices[1])[:3, :3].T + (matrices[0] - matrices[1])[:3, 3]
    assert np.abs(apart).max() < 0.1, "voxels"


def test_a_registration_finds_what_the_mask_alone_cannot_see():
    """5 cm away, as a FLAIR from another scan session may lie: within its mask ANTs stays where it is."""
    turn = np.eye(4)
    turn[:3, 3] = [0, -5, 50]
    fixed, moving = textured(turn)
    np.testing.assert_allclose(register(fixed, moving, 6, fixed.array > 0)[:3, 3], turn[:3, 3], atol=0.6)
