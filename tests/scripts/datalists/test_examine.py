"""Checks of a case's files; each test damages one file of a sound case."""

import gzip
import shutil
import tracemalloc

import nibabel
import numpy as np
import pytest

from scripts.datalists.examine import CHECKS, examine
from tests.damaged_scans import CASE, HEADERS, SHAPE, VOXELS, brain, lesion, save, scaled_bytes, spoil, write_case

ONE = {"subject": "s", "image": ["t1.nii.gz"]}
EXTENT = 6 * 8 * 4 * 24 / 1e6  # litres of the block of voxels of 24 mm3


@pytest.fixture
def folder(tmp_path):
    return write_case(tmp_path)


def test_a_sound_case_has_no_problem_and_figures(folder):
    """The block's extent; its 99th percentile by sorting."""
    record = examine(CASE, str(folder), "brats2021")
    assert (record.problems, record.orientation, record.spacing) == ((), "LAS", (2, 3, 4))
    assert len(set(record.digests) - {b""}) == 4
    assert record.images[0].litres == pytest.approx(EXTENT)
    values = np.sort(brain(0)[brain(0) > 0])
    assert values[188] <= record.images[0].high <= values[190]  # 0.99 x 191 = 189.09
    assert not record.images[0].negative


def test_the_background_is_what_is_in_the_corners_and_faint_voxels_are_background(folder):
    """After a z-score the background is not zero; resampling and noise leave up to a hundredth of the range."""
    save(folder / "t1.nii.gz", brain(1).astype(np.float32) / 100 - 5)
    volume = brain(2).astype(np.float32)
    volume[0, 1:-1, 1:-1], volume[-1, 1:-1, 1:-1] = 8, 20
    save(folder / "t2.nii.gz", volume)
    _, shifted, faint = examine(CASE, str(folder), "brats2021").images
    assert (shifted.litres, shifted.negative) == (pytest.approx(EXTENT), True)
    assert faint.litres == pytest.approx(EXTENT + 10 * 6 * 24 / 1e6)


@pytest.mark.parametrize("value", [0, 3])
def test_what_is_the_same_everywhere_has_no_digest(folder, value):
    """Else the empty masks of two subjects would be one image under two names."""
    for file in ("t1.nii.gz", "seg.nii.gz"):
        save(folder / file, np.full(SHAPE, value, np.int16))
    digests = examine(CASE, str(folder), "brats2023").digests
    assert [digest != b"" for digest in digests] == [True, False, True, False]


def test_large_volumes_are_measured_on_a_sample(tmp_path):
    volume = np.zeros((160, 160, 160), np.uint8)
    volume[20:140, 20:140, 20:140] = 100
    volume[20:140, 20:140, 80:140] = 150
    save(tmp_path / "t1.nii.gz", volume, np.eye(4))
    (image,) = examine(ONE, str(tmp_path), None).images
    assert image.litres == pytest.approx(120**3 / 1e6, rel=0.02)
    assert image.high == 150


@pytest.mark.parametrize("name", [*HEADERS, *VOXELS])
def test_what_is_wrong_is_told_of_the_file_that_is(folder, name):
    damage, check, file, text = (HEADERS | VOXELS)[name]
    damage(folder)
    (problem,) = examine(CASE, str(folder), "brats2021").problems
    assert (problem.check, problem.file) == (check, file)
    assert text in str(problem)
    assert "\n" not in str(problem)
    assert check in CHECKS


def test_gzip_files_of_several_members_are_sound(tmp_path):
    """As bgzip writes them: what they end with is the last part's length, not the whole one's."""
    save(tmp_path / "t1.nii", brain())
    content = (tmp_path / "t1.nii").read_bytes()
    (tmp_path / "t1.nii.gz").write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]))
    assert examine(ONE, str(tmp_path), None).problems == ()


@pytest.mark.parametrize(
    ("convention", "values", "problem"),
    [
        ("brats2021", (1, 2), None),
        ("brats2023", (1, 2), None),
        ("brats2023", (1, 2, 4), "labels 0, 1, 2, 4: looks like brats2021; expected 0, 1, 2, 3 (brats2023)"),
        ("atlas", (1, 2), "labels 0, 1, 2: looks like brats2021 or brats2023; expected 0, 1 (atlas)"),
        (None, (1, 17), None),
    ],
)
def test_labels_are_held_to_the_convention(folder, convention, values, problem):
    save(folder / "seg.nii.gz", lesion(*values))
    found = examine(CASE, str(folder), convention).problems
    assert [f"{item.value}; expected {item.expected}" for item in found] == ([problem] if problem else [])


def test_a_scaled_label_counts_as_what_it_means(folder):
    image = nibabel.Nifti1Image(lesion(1, 2), np.diag([-2.0, 3.0, 4.0, 1.0]))
    image.header.set_slope_inter(0.5, 0)
    (folder / "seg.nii.gz").write_bytes(gzip.compress(scaled_bytes(image, 0.5)))
    (problem,) = examine(CASE, str(folder), "brats2021").problems
    assert (problem.check, problem.value) == ("label_values", "label 0.5")


def test_a_missing_label_is_told_except_where_none_is_expected(folder):
    case = {"subject": "s", "image": CASE["image"]}
    (problem,) = examine({**case, "split": "training"}, str(folder), "atlas").problems
    assert problem.check == "no_label"
    assert examine({**case, "split": "unlabelled"}, str(folder), "atlas").problems == ()
    assert examine({**case, "split": "training"}, str(folder), None).problems == ()


def test_digests_are_of_the_voxels_not_of_the_bytes(folder):
    before = examine(CASE, str(folder), "brats2021").digests
    save(folder / "t1.nii.gz", brain(1).astype(np.float64))
    image = nibabel.Nifti1Image((brain(0) * 2).astype(np.int16), np.diag([-2.0, 3.0, 4.0, 1.0]))
    (folder / "flair.nii.gz").write_bytes(gzip.compress(scaled_bytes(image, 0.5), compresslevel=1))
    fine = brain(1) * np.float64(0.1)
    digests = []
    for same in (fine, fine.astype(np.float32), fine[..., None]):  # in another precision, or with an axis of one more
        save(folder / "fine.nii.gz", same)
        digests.append(examine({"subject": "s", "image": ["fine.nii.gz"]}, str(folder), None).digests)
    assert digests[0] == digests[1] == digests[2] != (b"", b"")
    save(folder / "fine.nii.gz", fine.reshape((12, 10, 8), order="F"))  # the same bytes in another shape
    assert examine({"subject": "s", "image": ["fine.nii.gz"]}, str(folder), None).digests != digests[0]
    changed = brain(2)
    changed[5, 5, 5] += 1
    save(folder / "t2.nii.gz", changed)
    after = examine(CASE, str(folder), "brats2021").digests
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, True, False, True]


def test_spacing_is_along_the_axes_of_the_world(tmp_path):
    """Stored as z, x, y with edges of 4, 2 and 3 mm."""
    affine = np.array([[0.0, 2, 0, 0], [0, 0, 3, 0], [-4, 0, 0, 0], [0, 0, 0, 1]])
    save(tmp_path / "t1.nii.gz", brain(), affine)
    record = examine(ONE, str(tmp_path), None)
    assert (record.orientation, record.spacing) == ("IRA", (2, 3, 4))


def test_nothing_that_a_case_holds_ends_the_check(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError("too much")

    monkeypatch.setattr("scripts.datalists.examine.read_headers", fail)
    (problem,) = examine(ONE, str(tmp_path), None).problems
    assert (problem.check, problem.file, problem.value) == ("unreadable", "t1.nii.gz", "too much")


@pytest.mark.parametrize("file", ["t1.nii", "t1.nii.gz"])
def test_a_header_of_a_huge_volume_makes_no_room_for_it(tmp_path, file):
    """700 voxels along each axis, written at the place that the format says, and 1,920 bytes of them."""
    content = bytearray(nibabel.Nifti1Image(brain(), np.eye(4)).to_bytes())
    content[42:48] = np.array([700] * 3, "<i2").tobytes()
    (tmp_path / file).write_bytes(gzip.compress(content) if file.endswith("gz") else content)
    tracemalloc.start()
    (problem,) = examine({"subject": "s", "image": [file]}, str(tmp_path), None).problems
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (problem.check, problem.value) == ("unreadable", f"2272 of {352 + 2 * 700**3} bytes")
    assert peak < 50e6


def test_a_file_of_another_shape_is_not_read(folder, monkeypatch):
    save(folder / "t2.nii.gz", np.full((9, 12, 8), np.nan, np.float32))
    (folder / "seg.nii.gz").unlink()
    read = []
    monkeypatch.setattr("scripts.datalists.examine.read_voxels", lambda file, *_: read.append(file) or brain(len(read)))
    found = [(problem.check, problem.file) for problem in examine(CASE, str(folder), "brats2021").problems]
    assert found == [("missing", "seg.nii.gz"), ("shape", "t2.nii.gz")]
    assert read == ["flair.nii.gz", "t1.nii.gz"]


@pytest.mark.parametrize(("slope", "is_sound"), [(1e35, True), (1e37, False), (-1e37, False)])
def test_what_overflows_once_it_is_scaled_is_not_finite(folder, slope, is_sound):
    """Up to 900 x 1e35 = 9e37, below 2 ** 128 = 3.4e38, where float32 ends, and 9e39."""
    image = nibabel.Nifti1Image(brain(1), np.diag([-2.0, 3.0, 4.0, 1.0]))
    (folder / "t1.nii.gz").write_bytes(gzip.compress(scaled_bytes(image, slope)))
    assert (np.abs(nibabel.load(folder / "t1.nii.gz").get_fdata()).max() < 2.0**128) == is_sound
    found = [(problem.check, problem.file) for problem in examine(CASE, str(folder), "brats2021").problems]
    assert found == ([] if is_sound else [("not_finite", "t1.nii.gz")])
    save(folder / "t1.nii.gz", brain(1) * 1e37)  # as doubles
    assert [problem.check for problem in examine(CASE, str(folder), "brats2021").problems] == ["not_finite"]


@pytest.mark.parametrize("second", ["t1.nii.gz", "./t1.nii.gz"])
def test_one_file_in_two_channels_is_a_copy_and_its_other_problem_told_once(folder, second):
    case = {"subject": "s", "image": ["t1.nii.gz", second]}
    spoil(folder, 1, np.nan)
    checks = [problem.check for problem in examine(case, str(folder), None).problems]
    assert (checks.count("copy"), checks.count("not_finite")) == (1, len(set(case["image"])))
    (folder / "t1.nii.gz").unlink()
    found = [(problem.check, problem.file) for problem in examine(case, str(folder), None).problems]
    assert [each for each in found if each[0] != "missing"] == [("copy", second)]


@pytest.mark.parametrize("channel", ["seg.nii.gz", "./seg.nii.gz", "t1.nii.gz"])
def test_a_label_among_the_modalities_is_an_error(folder, channel):
    """By its path, or as a copy."""
    if channel == "t1.nii.gz":
        shutil.copy(folder / "seg.nii.gz", folder / channel)
    case = {**CASE, "image": ["flair.nii.gz", channel, "t2.nii.gz"]}
    (problem,) = examine(case, str(folder), "brats2021").problems
    assert (problem.check, problem.file, problem.value) == ("label_as_image", channel, "the label seg.nii.gz")
    assert CHECKS[problem.check] == "error"
