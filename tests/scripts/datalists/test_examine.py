"""Checks of a case's files; each test damages one file of a sound case."""

import gzip
import shutil

import nibabel
import numpy as np
import pytest

from common.data.scan_checks import CHECKS
from scripts.datalists.examine import examine
from tests.damaged_scans import CASE, HEADERS, SHAPE, VOXELS, brain, save, scaled_bytes, write_case

ONE = {"subject": "s", "image": ["t1.nii.gz"]}
EXTENT = 6 * 8 * 4 * 24 / 1e6  # litres of the block of voxels of 24 mm3


@pytest.fixture
def folder(tmp_path):
    return write_case(tmp_path)


def test_a_sound_case_has_no_problem_and_figures(folder):
    """The block's extent; its 99th percentile by sorting."""
    record = examine(CASE, str(folder), "brats2021")
    assert (record.problems, record.orientation, record.spacing) == ((), "LAS", (2, 3, 4))
    assert record.volumes == {"TC": 0.048, "WT": 0.072, "ET": 0.024}, "mL: one voxel of 1, of 2 and of 4"
    assert len(set(record.digests) - {b""}) == 4
    assert record.preparation["volume"] == [round(EXTENT, 3)] * 2
    values = np.sort(brain(0)[brain(0) > 0])
    assert values[188] <= record.images[0].high <= values[190]  # 0.99 x 191 = 189.09
    assert not record.images[0].negative


def test_the_background_is_what_is_in_the_corners(folder):
    """After a z-score the background is not zero."""
    before = examine(CASE, str(folder), "brats2021").images[1]
    save(folder / "t1.nii.gz", brain(1).astype(np.float32) - 500)
    after = examine(CASE, str(folder), "brats2021").images[1]
    assert (after.high, after.negative) == (before.high, True)


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


def test_a_label_among_the_modalities_is_an_error(folder):
    shutil.copy(folder / "seg.nii.gz", folder / "t1.nii.gz")
    (problem,) = examine(CASE, str(folder), "brats2021").problems
    assert (problem.check, problem.file, problem.value) == ("label_as_image", "t1.nii.gz", "the voxels of seg.nii.gz")
    assert CHECKS[problem.check] == "error"
