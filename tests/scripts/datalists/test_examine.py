"""Checks of a case's files; each test damages one file of a sound case."""

import gzip
import shutil
import tracemalloc

import nibabel
import numpy as np
import pytest

from scripts.datalists.examine import CHECKS, examine
from tests.damaged_scans import CASE, HEADERS, SHAPE, VOXELS, brain, lesion, save, scaled_bytes, spoil, write_case


@pytest.fixture
def folder(tmp_path):
    return write_case(tmp_path)


def test_a_sound_case_has_no_problem(folder):
    record = examine(CASE, str(folder), "brats2021")
    assert record.problems == ()
    assert record.orientation == "LAS"
    assert record.spacing == (2, 3, 4)
    assert len(set(record.digests)) == 4
    assert b"" not in record.digests


def test_what_is_kept_of_an_image(folder):
    """The block's 6 x 8 x 4 voxels of 24 mm3 each; its 99th percentile by sorting."""
    image = examine(CASE, str(folder), "brats2021").images[0]
    assert image.litres == pytest.approx(6 * 8 * 4 * 24 / 1e6)
    values = np.sort(brain(0)[brain(0) > 0])
    assert values[188] <= image.high <= values[190]  # 0.99 x 191 = 189.09
    assert not image.negative


def test_the_background_is_what_is_in_the_corners(folder):
    """After a z-score the background is not zero."""
    save(folder / "t1.nii.gz", brain(1).astype(np.float32) / 100 - 5)
    image = examine(CASE, str(folder), "brats2021").images[1]
    assert image.litres == pytest.approx(6 * 8 * 4 * 24 / 1e6)
    assert image.negative


def test_faint_voxels_are_background(folder):
    """Up to a hundredth of the range, as resampling and noise leave them."""
    volume = brain(1).astype(np.float32)
    volume[0, 1:-1, 1:-1] = 8
    volume[-1, 1:-1, 1:-1] = 20
    save(folder / "t1.nii.gz", volume)
    image = examine(CASE, str(folder), "brats2021").images[1]
    assert image.litres == pytest.approx((6 * 8 * 4 + 10 * 6) * 24 / 1e6)


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
    (image,) = examine({"subject": "s", "image": ["t1.nii.gz"]}, str(tmp_path), None).images
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


def test_two_volumes_with_a_one_more_are_stacked_all_the_same(folder):
    for seed, file in enumerate(CASE["image"]):
        save(folder / file, brain(seed)[..., None])
    assert examine(CASE, str(folder), "brats2021").problems == ()


def test_gzip_files_of_several_members_are_sound(tmp_path):
    """As bgzip writes them: what they end with is the last part's length, not the whole one's."""
    save(tmp_path / "t1.nii", brain())
    content = (tmp_path / "t1.nii").read_bytes()
    (tmp_path / "t1.nii.gz").write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]))
    case = {"subject": "s", "image": ["t1.nii.gz"]}
    assert examine(case, str(tmp_path), None).problems == ()


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
    changed = brain(2)
    changed[5, 5, 5] += 1
    save(folder / "t2.nii.gz", changed)
    after = examine(CASE, str(folder), "brats2021").digests
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, True, False, True]


def test_digests_do_not_depend_on_the_precision_on_disk(folder):
    save(folder / "t1.nii.gz", brain(1) * np.float64(0.1))
    precise = examine(CASE, str(folder), "brats2021").digests[1]
    save(folder / "t1.nii.gz", (brain(1) * np.float64(0.1)).astype(np.float32))
    assert examine(CASE, str(folder), "brats2021").digests[1] == precise


def test_spacing_is_along_the_axes_of_the_world(tmp_path):
    """Stored as z, x, y with edges of 4, 2 and 3 mm."""
    affine = np.array([[0.0, 2, 0, 0], [0, 0, 3, 0], [-4, 0, 0, 0], [0, 0, 0, 1]])
    save(tmp_path / "t1.nii.gz", brain(), affine)
    record = examine({"subject": "s", "image": ["t1.nii.gz"]}, str(tmp_path), None)
    assert (record.orientation, record.spacing) == ("IRA", (2, 3, 4))


def test_nothing_that_a_case_holds_ends_the_check(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError("too much")

    monkeypatch.setattr("scripts.datalists.examine.read_headers", fail)
    (problem,) = examine({"subject": "s", "image": ["t1.nii.gz"]}, str(tmp_path), None).problems
    assert (problem.check, problem.file, problem.value) == ("unreadable", "t1.nii.gz", "too much")


def test_a_file_in_another_encoding_of_the_same_grid_is_sound(tmp_path):
    image = nibabel.Nifti2Image(brain(), np.eye(4))
    nibabel.save(image, tmp_path / "t1.nii.gz")
    case = {"subject": "s", "image": ["t1.nii.gz"]}
    assert examine(case, str(tmp_path), None).problems == ()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_of_a_huge_volume_makes_no_room_for_it(tmp_path, suffix):
    """700 voxels along each axis, written at the place that the format says, and 1,920 bytes of them."""
    content = bytearray(nibabel.Nifti1Image(brain(), np.eye(4)).to_bytes())
    content[42:48] = np.array([700] * 3, "<i2").tobytes()
    (tmp_path / f"t1{suffix}").write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    tracemalloc.start()
    (problem,) = examine({"subject": "s", "image": [f"t1{suffix}"]}, str(tmp_path), None).problems
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (problem.check, problem.value) == ("unreadable", f"2272 of {352 + 2 * 700**3} bytes")
    assert peak < 50e6


def test_a_file_of_another_shape_is_not_read(folder, monkeypatch):
    save(folder / "t2.nii.gz", np.full((9, 12, 8), np.nan, np.float32))
    (folder / "seg.nii.gz").unlink()
    read = []
    monkeypatch.setattr(
        "scripts.datalists.examine.read_voxels", lambda file, scan, _: read.append(file) or brain(len(read))
    )
    problems = examine(CASE, str(folder), "brats2021").problems
    assert [(problem.check, problem.file) for problem in problems] == [
        ("missing", "seg.nii.gz"),
        ("shape", "t2.nii.gz"),
    ]
    assert read == ["flair.nii.gz", "t1.nii.gz"]


@pytest.mark.parametrize(("slope", "is_sound"), [(1e35, True), (1e37, False), (-1e37, False)])
def test_what_overflows_once_it_is_scaled_is_not_finite(folder, slope, is_sound):
    """Up to 900 x 1e35 = 9e37, below 2 ** 128 = 3.4e38, where float32 ends, and 9e39."""
    image = nibabel.Nifti1Image(brain(1), np.diag([-2.0, 3.0, 4.0, 1.0]))
    (folder / "t1.nii.gz").write_bytes(gzip.compress(scaled_bytes(image, slope)))
    assert (np.abs(nibabel.load(folder / "t1.nii.gz").get_fdata()).max() < 2.0**128) == is_sound
    found = [(problem.check, problem.file) for problem in examine(CASE, str(folder), "brats2021").problems]
    assert found == ([] if is_sound else [("not_finite", "t1.nii.gz")])


def test_doubles_that_are_too_large_for_loading_are_not_finite(folder):
    save(folder / "t1.nii.gz", brain(1) * 1e37)
    (problem,) = examine(CASE, str(folder), "brats2021").problems
    assert (problem.check, problem.file) == ("not_finite", "t1.nii.gz")


def test_a_copy_with_a_one_more_has_the_same_digest(tmp_path):
    save(tmp_path / "a.nii.gz", brain())
    save(tmp_path / "b.nii.gz", brain()[..., None])
    one, other = (examine({"subject": "s", "image": [f"{n}.nii.gz"]}, str(tmp_path), None) for n in "ab")
    assert one.digests == other.digests != (b"", b"")


@pytest.mark.parametrize("second", ["t1.nii.gz", "./t1.nii.gz"])
@pytest.mark.parametrize("is_there", [True, False])
def test_one_file_in_two_channels_is_a_copy(folder, second, is_there):
    if not is_there:
        (folder / "t1.nii.gz").unlink()
    problems = examine({"subject": "s", "image": ["t1.nii.gz", second]}, str(folder), None).problems
    found = [(problem.check, problem.file) for problem in problems if problem.check != "missing"]
    assert found == [("copy", second)]


def test_what_is_wrong_with_a_file_in_two_channels_is_told_once(folder):
    spoil(folder, 1, np.nan)
    problems = examine({"subject": "s", "image": ["t1.nii.gz"] * 2}, str(folder), None).problems
    assert [problem.check for problem in problems] == ["not_finite", "copy"]


@pytest.mark.parametrize("channel", ["seg.nii.gz", "./seg.nii.gz", "t1.nii.gz"])
def test_a_label_among_the_modalities_is_an_error(folder, channel):
    """By its path, or as a copy."""
    if channel == "t1.nii.gz":
        shutil.copy(folder / "seg.nii.gz", folder / channel)
    case = {**CASE, "image": ["flair.nii.gz", channel, "t2.nii.gz"]}
    (problem,) = examine(case, str(folder), "brats2021").problems
    assert (problem.check, problem.file, problem.value) == ("label_as_image", channel, "the label seg.nii.gz")
    assert CHECKS[problem.check] == "error"
