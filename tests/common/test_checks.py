"""Checks of a case's files; each file is made here, with the one thing that is wrong with it."""

import gzip
import shutil
import time
import tracemalloc
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.checks import CHECKS, broken_file, check_headers, examine
from common.preflight import InputError

SHAPE = (10, 12, 8)
KNOWN = {
    "brats2021": frozenset({0, 1, 2, 4}),
    "brats2023": frozenset({0, 1, 2, 3}),
    "atlas": frozenset({0, 1}),
}
CASE = {"subject": "s", "image": ["flair.nii.gz", "t1.nii.gz", "t2.nii.gz"], "label": "seg.nii.gz"}


def brain(seed=0):
    """A block of 6 x 8 x 4 voxels from 200 to 900 in a background of 0."""
    volume = np.zeros(SHAPE, np.int16)
    volume[2:8, 2:10, 2:6] = np.random.default_rng(seed).integers(200, 901, (6, 8, 4))
    return volume


def lesion(*values):
    volume = np.zeros(SHAPE, np.uint8)
    for place, value in enumerate(values):
        volume[3 + place, 4, 3] = value
    return volume


def save(path, volume, affine=None):
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-2.0, 3.0, 4.0, 1.0]) if affine is None else affine), path)


@pytest.fixture
def folder(tmp_path):
    for seed, file in enumerate(CASE["image"]):
        save(tmp_path / file, brain(seed))
    save(tmp_path / "seg.nii.gz", lesion(1, 2, 4))
    return tmp_path


def absolute(folder, case=CASE):
    files = {"image": [str(folder / file) for file in case["image"]]}
    return {**case, **files, **({"label": str(folder / case["label"])} if "label" in case else {})}


def shifted(distance):
    affine = np.diag([-2.0, 3.0, 4.0, 1.0])
    affine[1, 3] = distance
    return affine


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def break_checksum(path):
    """A gzip file of the right length whose content is not what its checksum says."""
    content = path.read_bytes()
    path.write_bytes(content[:-8] + bytes([content[-8] ^ 1]) + content[-7:])


def flatten(path):
    """Write zeros into the third row of a header's affine, at the place that the format says."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[312:328] = bytes(16)
    path.write_bytes(gzip.compress(content))


HEADERS = {  # what is done to the folder; check, file, and part of the message
    "missing": (lambda f: (f / "t1.nii.gz").unlink(), "missing", "t1.nii.gz", "no such file; expected a file"),
    "no image": (lambda f: (f / "t1.nii.gz").write_bytes(b"no image"), "unreadable", "t1.nii.gz", "expected a NIfTI"),
    "empty file": (lambda f: (f / "t1.nii.gz").write_bytes(b""), "unreadable", "t1.nii.gz", "expected a NIfTI"),
    "a folder": (
        lambda f: ((f / "t1.nii.gz").unlink(), (f / "t1.nii.gz").mkdir()),
        "missing",
        "t1.nii.gz",
        "no such file",
    ),
    "truncated": (lambda f: cut(f / "t2.nii.gz"), "unreadable", "t2.nii.gz", "Compressed file ended before"),
    "last byte": (lambda f: cut(f / "seg.nii.gz", 0.999), "unreadable", "seg.nii.gz", "Compressed file ended before"),
    "ends in zeros": (
        lambda f: (cut(f / "t2.nii.gz"), (f / "t2.nii.gz").open("ab").write(bytes(99))),
        "unreadable",
        "t2.nii.gz",
        "expected a file that can be read to its end",
    ),
    "too short inside": (
        lambda f: (f / "t2.nii.gz").write_bytes(gzip.compress(gzip.decompress((f / "t2.nii.gz").read_bytes())[:-2])),
        "unreadable",
        "t2.nii.gz",
        "2270 of 2272 bytes",  # 352 and 10 x 12 x 8 of 2
    ),
    "4D": (
        lambda f: save(f / "t1.nii.gz", np.stack([brain(), brain()], -1)),
        "dimensions",
        "t1.nii.gz",
        "shape 10 x 12 x 8 x 2; expected three dimensions",
    ),
    "2D": (lambda f: save(f / "t1.nii.gz", brain()[..., 3]), "dimensions", "t1.nii.gz", "shape 10 x 12; expected"),
    "shape": (
        lambda f: save(f / "flair.nii.gz", brain()[:, :, :-1]),
        "shape",
        "flair.nii.gz",
        "shape 10 x 12 x 7; expected 10 x 12 x 8, that of t1.nii.gz",
    ),
    "label's shape": (lambda f: save(f / "seg.nii.gz", lesion(1)[1:]), "shape", "seg.nii.gz", "shape 9 x 12 x 8"),
    "a one more": (
        lambda f: save(f / "t1.nii.gz", brain(1)[..., None]),
        "shape",
        "t1.nii.gz",
        "shape 10 x 12 x 8 x 1; expected 10 x 12 x 8, that of flair.nii.gz",
    ),
    "affine": (
        lambda f: save(f / "t2.nii.gz", brain(2), shifted(7.5)),
        "affine",
        "t2.nii.gz",
        "affine differs by up to 7.5 mm; expected that of flair.nii.gz",
    ),
    "first affine": (lambda f: save(f / "flair.nii.gz", brain(), shifted(0.01)), "affine", "flair.nii.gz", "0.01 mm"),
    "label's affine": (lambda f: save(f / "seg.nii.gz", lesion(1), shifted(9)), "affine", "seg.nii.gz", "9 mm"),
    "singular": (
        lambda f: flatten(f / "t1.nii.gz"),
        "affine",
        "t1.nii.gz",
        "cannot be inverted",
    ),
    "RGB": (
        lambda f: save(f / "t1.nii.gz", np.zeros(SHAPE, [(c, "u1") for c in "RGB"])),
        "type",
        "t1.nii.gz",
        "expected real numbers",
    ),
}
VOXELS = {
    "checksum": (lambda f: break_checksum(f / "t1.nii.gz"), "unreadable", "t1.nii.gz", "CRC check failed"),
    "NaN": (lambda f: spoil(f, 3, np.nan), "not_finite", "t1.nii.gz", "3 voxels NaN, 0 infinite; expected finite"),
    "infinite": (lambda f: spoil(f, 2, -np.inf), "not_finite", "t1.nii.gz", "0 voxels NaN, 2 infinite"),
    "zero": (lambda f: save(f / "t1.nii.gz", brain() * 0), "constant", "t1.nii.gz", "0 everywhere"),
    "constant": (lambda f: save(f / "t1.nii.gz", brain() * 0 + 7), "constant", "t1.nii.gz", "7 everywhere"),
    "copy": (lambda f: save(f / "t2.nii.gz", brain(0).astype("f4")), "copy", "t2.nii.gz", "of flair.nii.gz"),
    "2023": (
        lambda f: save(f / "seg.nii.gz", lesion(1, 2, 3)),
        "label_values",
        "seg.nii.gz",
        "labels 0, 1, 2, 3: looks like brats2023; expected 0, 1, 2, 4 (brats2021)",
    ),
    "255": (lambda f: save(f / "seg.nii.gz", lesion(255)), "label_values", "seg.nii.gz", "fits no known convention"),
    "both": (lambda f: save(f / "seg.nii.gz", lesion(3, 4)), "label_values", "seg.nii.gz", "0, 3, 4: fits no known"),
    "fraction": (
        lambda f: save(f / "seg.nii.gz", lesion(1) * np.float32(0.25)),
        "label_values",
        "seg.nii.gz",
        "label 0.25; expected whole numbers",
    ),
    "label NaN": (lambda f: save(f / "seg.nii.gz", lesion(1) * np.float32("nan")), "not_finite", "seg.nii.gz", "NaN"),
    "empty": (lambda f: save(f / "seg.nii.gz", lesion()), "empty_mask", "seg.nii.gz", "no voxel is labelled"),
    "full": (lambda f: save(f / "seg.nii.gz", lesion() + 1), "constant", "seg.nii.gz", "1 everywhere"),
    "clipped": (lambda f: clip(f, 1), "clipped", "t1.nii.gz", "1 voxels at 255, a limit of uint8"),
    "clipped below": (
        lambda f: save(f / "t1.nii.gz", np.where(brain(9) > 800, -(2**15), brain(9)).astype("i2")),
        "clipped",
        "t1.nii.gz",
        "at -32768, a limit of int16",
    ),
}


def spoil(folder, count, value):
    volume = brain(1).astype(np.float32)
    volume[4, 4, 2 : 2 + count] = value
    save(folder / "t1.nii.gz", volume)


def clip(folder, count):
    volume = (brain(1) // 4).astype(np.uint8)
    volume[4, 4, 2 : 2 + count] = 255
    save(folder / "t1.nii.gz", volume)


def test_a_sound_case_has_no_problem(folder):
    record = examine(CASE, str(folder), "brats2021", KNOWN)
    assert record.problems == ()
    assert record.orientation == "LAS"
    assert record.spacing == (2, 3, 4)
    assert len(set(record.digests)) == 4
    assert b"" not in record.digests
    check_headers([absolute(folder)])
    assert broken_file([folder / file for file in (*CASE["image"], CASE["label"])]) is None


def test_what_is_kept_of_an_image(folder):
    """The block's 6 x 8 x 4 voxels of 24 mm3 each; its 99th percentile by sorting."""
    image = examine(CASE, str(folder), "brats2021", KNOWN).images[0]
    assert image.litres == pytest.approx(6 * 8 * 4 * 24 / 1e6)
    values = np.sort(brain(0)[brain(0) > 0])
    assert values[188] <= image.high <= values[190]  # 0.99 x 191 = 189.09
    assert not image.negative


def test_the_background_is_what_is_in_the_corners(folder):
    """After a z-score the background is not zero."""
    save(folder / "t1.nii.gz", brain(1).astype(np.float32) / 100 - 5)
    image = examine(CASE, str(folder), "brats2021", KNOWN).images[1]
    assert image.litres == pytest.approx(6 * 8 * 4 * 24 / 1e6)
    assert image.negative


def test_faint_voxels_are_background(folder):
    """Up to a hundredth of the range, as resampling and noise leave them."""
    volume = brain(1).astype(np.float32)
    volume[0, 1:-1, 1:-1] = 8
    volume[-1, 1:-1, 1:-1] = 20
    save(folder / "t1.nii.gz", volume)
    image = examine(CASE, str(folder), "brats2021", KNOWN).images[1]
    assert image.litres == pytest.approx((6 * 8 * 4 + 10 * 6) * 24 / 1e6)


@pytest.mark.parametrize("value", [0, 3])
def test_what_is_the_same_everywhere_has_no_digest(folder, value):
    """Else the empty masks of two subjects would be one image under two names."""
    for file in ("t1.nii.gz", "seg.nii.gz"):
        save(folder / file, np.full(SHAPE, value, np.int16))
    digests = examine(CASE, str(folder), "brats2023", KNOWN).digests
    assert [digest != b"" for digest in digests] == [True, False, True, False]


def test_large_volumes_are_measured_on_a_sample(tmp_path):
    volume = np.zeros((160, 160, 160), np.uint8)
    volume[20:140, 20:140, 20:140] = 100
    volume[20:140, 20:140, 80:140] = 150
    save(tmp_path / "t1.nii.gz", volume, np.eye(4))
    (image,) = examine({"subject": "s", "image": ["t1.nii.gz"]}, str(tmp_path), None, KNOWN).images
    assert image.litres == pytest.approx(120**3 / 1e6, rel=0.02)
    assert image.high == 150


@pytest.mark.parametrize("name", [*HEADERS, *VOXELS])
def test_what_is_wrong_is_told_of_the_file_that_is(folder, name):
    damage, check, file, text = (HEADERS | VOXELS)[name]
    damage(folder)
    (problem,) = examine(CASE, str(folder), "brats2021", KNOWN).problems
    assert (problem.check, problem.file) == (check, file)
    assert text in str(problem)
    assert "\n" not in str(problem)
    assert check in CHECKS


@pytest.mark.parametrize("name", HEADERS)
def test_headers_alone_tell_it_with_subject_and_file(folder, name):
    damage, _, file, text = HEADERS[name]
    damage(folder)
    with pytest.raises(InputError) as error:
        check_headers([absolute(folder)])
    assert str(error.value).startswith(f"subject s: {folder / file}: ")
    assert text in str(error.value)


@pytest.mark.parametrize("name", sorted(set(VOXELS) - {"checksum"}))
def test_headers_alone_leave_voxels_alone(folder, name):
    VOXELS[name][0](folder)
    check_headers([absolute(folder)])


def test_of_several_subjects_the_first_is_named_and_the_others_are_counted(folder):
    good, missing = absolute(folder), {"subject": "m", "image": ["nowhere.nii.gz"]}
    with pytest.raises(InputError) as error:
        check_headers([good, missing, {**missing, "subject": "n"}, good])
    assert str(error.value) == (
        "subject m: nowhere.nii.gz: no such file; expected a file (1 more of 4 subjects have such a file)"
    )


def test_two_volumes_with_a_one_more_are_stacked_all_the_same(folder):
    for seed, file in enumerate(CASE["image"]):
        save(folder / file, brain(seed)[..., None])
    check_headers([absolute(folder)])
    assert examine(CASE, str(folder), "brats2021", KNOWN).problems == ()


def test_one_modality_in_two_channels_is_no_copy_for_the_headers(folder):
    check_headers([{"subject": "s", "image": [str(folder / "t1.nii.gz")] * 2}])


def test_affines_are_the_same_up_to_a_thousandth_of_a_millimetre(folder):
    save(folder / "t1.nii.gz", brain(1), shifted(0.0009))
    check_headers([absolute(folder)])
    for seed, file in enumerate(CASE["image"]):
        save(folder / file, brain(seed), shifted(500 if seed else 500.003))
    with pytest.raises(InputError, match=r"affine differs by up to 0.00299 mm"):
        check_headers([absolute(folder, {"subject": "s", "image": CASE["image"]})])


def test_a_plain_file_that_is_too_short_is_told_by_its_headers(tmp_path):
    save(tmp_path / "t1.nii", brain())
    case = {"subject": "s", "image": [str(tmp_path / "t1.nii")]}
    check_headers([case])
    cut(tmp_path / "t1.nii", 0.9)
    with pytest.raises(InputError, match=r"subject s: .*t1.nii: 2044 of 2272 bytes"):  # 0.9 x 2272
        check_headers([case])


def test_gzip_files_of_several_parts_are_sound(tmp_path):
    """As bgzip writes them: what they end with is the last part's length, not the whole one's."""
    save(tmp_path / "t1.nii", brain())
    content = (tmp_path / "t1.nii").read_bytes()
    (tmp_path / "t1.nii.gz").write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]))
    case = {"subject": "s", "image": ["t1.nii.gz"]}
    check_headers([absolute(tmp_path, case)])
    assert examine(case, str(tmp_path), None, KNOWN).problems == ()


def test_the_broken_one_of_several_files_is_found_with_the_reason(folder):
    files = [str(folder / file) for file in CASE["image"]]
    break_checksum(folder / "t2.nii.gz")
    file, reason = broken_file(files)
    assert file == files[2]
    assert reason.startswith("CRC check failed")
    cut(folder / "t1.nii.gz")
    assert broken_file(files) == (files[1], "Compressed file ended before the end-of-stream marker was reached")
    (folder / "flair.nii.gz").unlink()
    assert broken_file(files) == (files[0], "no such file")


def test_a_damaged_stream_is_told(folder):
    content = bytearray((folder / "t1.nii.gz").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    (folder / "t1.nii.gz").write_bytes(content)
    with pytest.raises((OSError, EOFError, zlib.error)):
        gzip.decompress(bytes(content))
    assert broken_file([folder / "t1.nii.gz"])[0] == str(folder / "t1.nii.gz")


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
    found = examine(CASE, str(folder), convention, KNOWN).problems
    assert [f"{item.value}; expected {item.expected}" for item in found] == ([problem] if problem else [])


def test_a_scaled_label_counts_as_what_it_means(folder):
    image = nibabel.Nifti1Image(lesion(1, 2), np.diag([-2.0, 3.0, 4.0, 1.0]))
    image.header.set_slope_inter(0.5, 0)
    (folder / "seg.nii.gz").write_bytes(gzip.compress(scaled_bytes(image, 0.5)))
    (problem,) = examine(CASE, str(folder), "brats2021", KNOWN).problems
    assert (problem.check, problem.value) == ("label_values", "label 0.5")


def scaled_bytes(image, slope):
    """A NIfTI file with the slope written into its header, at the place that the format says."""
    content = bytearray(image.to_bytes())
    content[112:116] = np.float32(slope).tobytes()
    content[116:120] = np.float32(0).tobytes()
    return bytes(content)


def test_a_missing_label_is_told_except_where_none_is_expected(folder):
    case = {"subject": "s", "image": CASE["image"]}
    (problem,) = examine({**case, "split": "training"}, str(folder), "atlas", KNOWN).problems
    assert problem.check == "no_label"
    assert examine({**case, "split": "unlabelled"}, str(folder), "atlas", KNOWN).problems == ()
    assert examine({**case, "split": "training"}, str(folder), None, KNOWN).problems == ()


def test_digests_are_of_the_voxels_not_of_the_bytes(folder):
    before = examine(CASE, str(folder), "brats2021", KNOWN).digests
    save(folder / "t1.nii.gz", brain(1).astype(np.float64))
    image = nibabel.Nifti1Image((brain(0) * 2).astype(np.int16), np.diag([-2.0, 3.0, 4.0, 1.0]))
    (folder / "flair.nii.gz").write_bytes(gzip.compress(scaled_bytes(image, 0.5), compresslevel=1))
    changed = brain(2)
    changed[5, 5, 5] += 1
    save(folder / "t2.nii.gz", changed)
    after = examine(CASE, str(folder), "brats2021", KNOWN).digests
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, True, False, True]


def test_digests_do_not_depend_on_the_precision_on_disk(folder):
    save(folder / "t1.nii.gz", brain(1) * np.float64(0.1))
    precise = examine(CASE, str(folder), "brats2021", KNOWN).digests[1]
    save(folder / "t1.nii.gz", (brain(1) * np.float64(0.1)).astype(np.float32))
    assert examine(CASE, str(folder), "brats2021", KNOWN).digests[1] == precise


def test_spacing_is_along_the_axes_of_the_world(tmp_path):
    """Stored as z, x, y with edges of 4, 2 and 3 mm."""
    affine = np.array([[0.0, 2, 0, 0], [0, 0, 3, 0], [-4, 0, 0, 0], [0, 0, 0, 1]])
    save(tmp_path / "t1.nii.gz", brain(), affine)
    record = examine({"subject": "s", "image": ["t1.nii.gz"]}, str(tmp_path), None, KNOWN)
    assert (record.orientation, record.spacing) == ("IRA", (2, 3, 4))


def test_nothing_that_a_case_holds_ends_the_check(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError("too much")

    monkeypatch.setattr("common.checks._headers", fail)
    (problem,) = examine({"subject": "s", "image": ["t1.nii.gz"]}, str(tmp_path), None, KNOWN).problems
    assert (problem.check, problem.file, problem.value) == ("unreadable", "t1.nii.gz", "too much")


def test_headers_of_many_subjects_are_quick(folder):
    """About 2 ms a subject of four files; far below what opening them takes, and linear."""
    start = time.perf_counter()
    check_headers([absolute(folder)] * 100)
    assert time.perf_counter() - start < 10


def test_a_file_in_another_encoding_of_the_same_grid_is_sound(tmp_path):
    image = nibabel.Nifti2Image(brain(), np.eye(4))
    nibabel.save(image, tmp_path / "t1.nii.gz")
    assert Path(tmp_path / "t1.nii.gz").is_file()
    case = {"subject": "s", "image": ["t1.nii.gz"]}
    assert examine(case, str(tmp_path), None, KNOWN).problems == ()
    check_headers([absolute(tmp_path, case)])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_of_a_huge_volume_makes_no_room_for_it(tmp_path, suffix):
    """30,000 voxels along each axis, written at the place that the format says, and 1,920 bytes of them."""
    content = bytearray(nibabel.Nifti1Image(brain(), np.eye(4)).to_bytes())
    content[42:48] = np.array([30_000] * 3, "<i2").tobytes()
    (tmp_path / f"t1{suffix}").write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    tracemalloc.start()
    (problem,) = examine({"subject": "s", "image": [f"t1{suffix}"]}, str(tmp_path), None, KNOWN).problems
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (problem.check, problem.value) == ("unreadable", f"2272 of {352 + 2 * 30_000**3} bytes")
    assert peak < 50e6


def test_a_file_of_another_shape_is_not_read(folder, monkeypatch):
    save(folder / "t2.nii.gz", np.full((9, 12, 8), np.nan, np.float32))
    (folder / "seg.nii.gz").unlink()
    read = []
    monkeypatch.setattr("common.checks._voxels", lambda file, scan, _: read.append(file) or brain(len(read)))
    problems = examine(CASE, str(folder), "brats2021", KNOWN).problems
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
    found = [(problem.check, problem.file) for problem in examine(CASE, str(folder), "brats2021", KNOWN).problems]
    assert found == ([] if is_sound else [("not_finite", "t1.nii.gz")])


def test_doubles_that_are_too_large_for_loading_are_not_finite(folder):
    save(folder / "t1.nii.gz", brain(1) * 1e37)
    (problem,) = examine(CASE, str(folder), "brats2021", KNOWN).problems
    assert (problem.check, problem.file) == ("not_finite", "t1.nii.gz")


def test_a_copy_with_a_one_more_has_the_same_digest(tmp_path):
    save(tmp_path / "a.nii.gz", brain())
    save(tmp_path / "b.nii.gz", brain()[..., None])
    one, other = (examine({"subject": "s", "image": [f"{n}.nii.gz"]}, str(tmp_path), None, KNOWN) for n in "ab")
    assert one.digests == other.digests != (b"", b"")


@pytest.mark.parametrize("second", ["t1.nii.gz", "./t1.nii.gz"])
@pytest.mark.parametrize("is_there", [True, False])
def test_one_file_in_two_channels_is_a_copy(folder, second, is_there):
    if not is_there:
        (folder / "t1.nii.gz").unlink()
    problems = examine({"subject": "s", "image": ["t1.nii.gz", second]}, str(folder), None, KNOWN).problems
    found = [(problem.check, problem.file) for problem in problems if problem.check != "missing"]
    assert found == [("copy", second)]


def test_what_is_wrong_with_a_file_in_two_channels_is_told_once(folder):
    spoil(folder, 1, np.nan)
    problems = examine({"subject": "s", "image": ["t1.nii.gz"] * 2}, str(folder), None, KNOWN).problems
    assert [problem.check for problem in problems] == ["not_finite", "copy"]


@pytest.mark.parametrize("channel", ["seg.nii.gz", "./seg.nii.gz", "t1.nii.gz"])
def test_a_label_among_the_modalities_is_an_error(folder, channel):
    """By its path, or as a copy."""
    if channel == "t1.nii.gz":
        shutil.copy(folder / "seg.nii.gz", folder / channel)
    case = {**CASE, "image": ["flair.nii.gz", channel, "t2.nii.gz"]}
    (problem,) = examine(case, str(folder), "brats2021", KNOWN).problems
    assert (problem.check, problem.file, problem.value) == ("label_as_image", channel, "the label seg.nii.gz")
    assert CHECKS[problem.check] == "error"
