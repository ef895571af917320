"""Reading, figures, limits, brain extraction and registration, each against a reference of its own."""

import gzip
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813, the field's name for it
from scipy import ndimage
from scipy.spatial.transform import Rotation

from common.errors import InputError
from common.metrics.measures import dice
from common.prepare import brain, registration, subject
from common.prepare.brain import brain_of
from common.prepare.figures import Figures, likely_cause, may_be_right, outside
from common.prepare.frames import matrix_of, to_image, to_transform
from common.prepare.measuring import measure
from common.prepare.registration import between_centres, information, register
from common.prepare.resampling import resample
from common.prepare.settings import Settings
from common.prepare.subject import prepare_subject
from common.prepare.targets import template_brain, template_mask
from common.prepare.volumes import Grid, Volume, check_gaps, read_volume
from tests.damaged_scans import cut, save
from tests.support import oblique, one_line

OBLIQUE = oblique((-1.0, 2.0, 3.0))


def test_an_image_of_simpleitk_lies_where_nifti_says(tmp_path):
    """SimpleITK's own reader of NIfTI is the reference."""
    array = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    save(tmp_path / "a.nii.gz", array, OBLIQUE)
    expected, image = sitk.ReadImage(str(tmp_path / "a.nii.gz")), to_image(Volume(array, OBLIQUE))
    for index in ((0, 0, 0), (3, 1, 2), (1, 4, 5)):
        assert image.GetPixel(index) == expected.GetPixel(index)
        np.testing.assert_allclose(
            image.TransformIndexToPhysicalPoint(index), expected.TransformIndexToPhysicalPoint(index), atol=1e-4
        )


def test_matrices_and_transforms_agree():
    np.testing.assert_allclose(matrix_of(to_transform(OBLIQUE).TransformPoint), OBLIQUE, atol=1e-12)
    x, y, z = to_transform(OBLIQUE).TransformPoint((-1.0, -2.0, 3.0))  # LPS of (1, 2, 3)
    np.testing.assert_allclose((-x, -y, z), (OBLIQUE @ [1, 2, 3, 1])[:3], atol=1e-9)


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
        (SCAN * 1e300, WIDE, None, " infinite; expected finite values in float32"),
        (SCAN * (np.arange(9) != 4)[:, None], WIDE, None, "slice 5 of 9 along the second axis is empty"),
        (SCAN[:, :, :2], np.eye(4), None, "8 x 9 x 2 voxels; expected at least 4 along each axis"),
        (SCAN, np.diag([8, 8, 4.8, 1]), None, "field of view of 64 x 72 x 48 mm; expected at least 50 mm along each"),
        (np.where(SCAN > 890, np.nan, SCAN).astype(np.float32), WIDE, None, "10 voxels NaN"),
        (SCAN, np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), None, "sheared axes"),
        (
            np.resize(SCAN, (4, 4, 101)),
            np.diag([1, 1, 10.0, 1]),
            None,
            "a field of view of 1,010 mm; expected at most 1000",
        ),
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


@pytest.mark.parametrize(("background", "stray"), [(0, -5), (-1000, -1000), (40, 0), (0, 0)])
def test_slices_outside_the_head_are_no_gap_whatever_the_background(background, stray):
    head = np.full((12, 12, 12), background, np.float32)
    head[3:9, 3:9, 3:9] = np.random.default_rng(0).uniform(100, 900, (6, 6, 6))
    head[5, 5, 5] = stray
    check_gaps(head, "T1")
    head[:, :, 6] = background
    with pytest.raises(InputError, match=r"^T1: slice 7 of 12 along the third axis is empty"):
        check_gaps(head, "T1")
    check_gaps(np.zeros((12, 12, 12)), "T1")  # other checks refuse it, in their words


def test_information_is_1_of_itself_and_0_of_noise():
    first, second = np.random.default_rng(0).normal(size=(2, 200_000))
    assert information(first, first) == pytest.approx(1)
    assert information(first, -first) == pytest.approx(1), "contrast does not matter"
    assert information(first, second) < 0.01
    assert information(first, np.ones_like(first)) == 0


GOOD = Figures(
    "T1",
    {"overlap": 0.95, "volume": 1500.0, "scale": 1.0},
    {of: {"coverage": 1.0, "information": 0.2} for of in ("T1", "FLAIR")},
)


def test_limits_name_figure_modality_value_and_expectation():
    assert outside(GOOD) == []
    bad = {**GOOD.modalities, "FLAIR": {"coverage": 0.8, "information": 0.01}}
    assert outside(replace(GOOD, modalities=bad)) == [
        "FLAIR coverage 0.8; expected 0.98 to 1",
        "FLAIR information 0.01; expected 0.05 to 1",
    ]
    far = {**GOOD.modalities, "T1": {"coverage": 1.0, "information": 0.03}}
    assert outside(replace(GOOD, modalities=far)) == [], "people differ from the template more than scans of one person"
    small = replace(GOOD, subject={**GOOD.subject, "volume": 123.4})
    assert outside(small) == ["volume 123 mL; expected 1000 to 2100 mL"]


def test_a_person_in_rigid_alignment_is_compared_with_a_template_of_that_size():
    """A head that is the template, a sixth larger, has all of its information, though a rigid target keeps its size."""
    larger = np.diag([7 / 6, 7 / 6, 7 / 6, 1])  # MNI space to the scan, whose space is the target's
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = (-110, -150, -90)
    grid = Grid((56, 68, 52), affine)
    head, mask = (resample(volume, grid, np.linalg.inv(larger)) for volume in (template_brain(), template_mask()))
    brain = mask.array > 0.5
    figures = measure({"T1": head}, {"T1": brain}, brain, mask, None, larger, np.eye(4), "T1")
    assert figures.modalities["T1"]["information"] > 0.99
    assert figures.subject["overlap"] > 0.9


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


def test_a_head_in_a_slab_is_no_brain(standard_scan, monkeypatch):
    slab = np.pad(standard_scan.array[13:37, 13:49, 12:30], ((9, 9), (9, 9), (0, 0)))
    extracted = ndimage.binary_erosion(slab > 0, iterations=2)
    monkeypatch.setattr(brain, "brain_of", lambda *_: extracted)
    found, is_stripped = brain.find_brain(replace(standard_scan, array=slab))
    assert not is_stripped
    np.testing.assert_array_equal(found, extracted)


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
    ("overlap", "volume", "coverage", "is_stripped", "cause"),
    [
        (0.9, 1400.0, 0.88, False, "a cut field of view: 12% of the brain lies outside that of FLAIR"),
        (0.8, 1400.0, 1.0, True, "a poor skull-stripping before the preparation"),
        (0.95, 820.0, 1.0, False, "a small brain, 820 mL, as of a child"),
        (0.8, 1400.0, 1.0, False, ""),
        (0.95, 2200.0, 1.0, False, ""),
        (0.95, 1400.0, 1.0, True, ""),
    ],
)
def test_a_cause_is_named_only_with_its_evidence(overlap, volume, coverage, is_stripped, cause):
    subject = {"overlap": overlap, "volume": volume, "scale": 1.0}
    modalities = {**GOOD.modalities, "FLAIR": {"coverage": coverage, "information": 0.2}}
    named = likely_cause(Figures("T1", subject, modalities), is_stripped)
    assert named.startswith(cause)
    assert bool(named) == bool(cause)


def test_a_brain_unlike_that_of_the_mirrored_scan_is_a_cause():
    """Also if its volume is that of a child."""
    wrong = {**GOOD.subject, "overlap": 0.82, "volume": 900.0, "agreement": 0.8}
    assert likely_cause(replace(GOOD, subject=wrong), is_stripped=False).startswith("a wrong brain")


@pytest.mark.parametrize(
    ("overlap", "information", "failed"),
    [
        *(
            (0.838, 0.0201, True),
            (0.855, 0.0108, True),
            (0.812, 0.0143, True),
            (0.813, 0.0121, True),
            (0.86, 0.025, True),
        ),
        *((0.669, 0.026, True), (0.515, 0.013, True), (0.011, 0.156, True)),
        *((0.834, 0.049, False), (0.837, 0.046, False), (0.928, 0.0191, False), (0.935, 0.029, False)),
    ],
)
def test_a_failed_registration_is_told_from_a_wrong_brain(overlap, information, failed):
    """Measured: T1 with headers turned by 180 and 90 degrees; CT, EPI of 53 mm, angiogram; wrong masks; a FLAIR."""
    modalities = {**GOOD.modalities, "T1": {"coverage": 1.0, "information": information}}
    figures = Figures("T1", {**GOOD.subject, "overlap": overlap}, modalities)
    assert likely_cause(figures, is_stripped=False).startswith("a failed registration") == failed
    assert not (failed and may_be_right(figures))


@pytest.mark.parametrize(
    ("name", "value", "is_near"),
    [("volume", 960.0, True), ("volume", 900.0, False), ("overlap", 0.9, True), ("agreement", 0.88, False)],
)
def test_a_picture_decides_only_near_the_limits(name, value, is_near):
    assert may_be_right(replace(GOOD, subject={**GOOD.subject, name: value})) == is_near


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


def test_thick_slices_are_smoothed_as_far_along_as_across(monkeypatch):
    """By voxels, slices of 3 mm were smoothed by 9 mm: ANTs left a good start for a place 26 mm away."""
    head, _ = textured(np.eye(4))
    thick = resample(head, Grid((72, 72, 36), head.affine @ np.diag([2 / 3, 2 / 3, 4 / 3, 1])))
    ants, given = registration._ants(), []
    monkeypatch.setattr(ants, "registration", lambda *_, **settings: given.append(settings) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        registration._by_ants(thick, head, 6, np.eye(4), registration.FINE)
    assert given[0]["smoothing_in_mm"]
    assert given[0]["aff_smoothing_sigmas"] == pytest.approx((4, 2, 0)), "2, 1 and 0 voxels of 2 mm"


@pytest.mark.parametrize(("edge", "coarse", "shrinking"), [(1.0, 2.0, (4, 2, 1)), (5.0, 5.0, (2, 2, 1))])
def test_coarse_levels_take_coarse_scans_and_fine_levels_stay_near_8_mm(monkeypatch, edge, coarse, shrinking):
    """At 20 mm, ANTs left FLAIR with voxels of 5 mm 8 mm away from the T1."""
    passes = []

    def by_ants(fixed, moving, dof, start, levels, mask=None):
        passes.append((fixed.spacing[0], moving.spacing[0], levels.shrinking))
        return start

    monkeypatch.setattr(registration, "_by_ants", by_ants)
    scan = Volume(np.random.default_rng(0).random((24, 24, 24)), np.diag([edge, edge, edge, 1]))
    register(scan, scan, 6, scan.array > 0)
    assert passes == [(coarse, coarse, (6, 4)), (edge, edge, shrinking)]


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


def test_a_registration_is_never_less_similar_than_the_headers(monkeypatch):
    """ANTs that returns nonsense leaves the position of the headers."""
    head, _ = textured(np.eye(4))
    far = np.eye(4)
    far[0, 3] = 100
    monkeypatch.setattr(registration, "_by_ants", lambda *_, **__: far)
    np.testing.assert_array_equal(register(head, head, 6, head.array > 0, [far]), np.eye(4))


@pytest.mark.parametrize("is_failing", [False, True])
def test_ants_may_fail_at_a_start_and_not_where_the_scans_fit_best(monkeypatch, is_failing):
    head, _ = textured(np.eye(4))
    far = np.eye(4)
    far[0, 3] = 1000  # no overlap

    def by_ants(fixed, moving, dof, start, levels, mask=None):
        if is_failing if mask is not None else start is far:
            raise RuntimeError("Registration failed with error code 1")
        return start

    monkeypatch.setattr(registration, "_by_ants", by_ants)
    with pytest.raises(InputError) if is_failing else nullcontext():
        np.testing.assert_array_equal(register(head, head, 6, head.array > 0, [far]), np.eye(4))


def test_deepbet_without_a_brain_is_one_line():
    voxel = np.zeros((40, 40, 40), np.float32)
    voxel[3, 3, 3] = 1
    with pytest.raises(InputError, match=r"^deepbet: no brain found; expected a T1 of a head$"):
        brain_of(Volume(voxel, np.eye(4)))
