"""Checks of a case's files; each test damages one file of a sound case."""

import shutil

import nibabel
import numpy as np
import pytest

from common.data.scan_checks import CHECKS
from scripts.datalists.examine import examine
from tests.damaged_scans import CASE, HEADERS, SHAPE, VOXELS, brain, save, set_header, write_case

ONE = {"subject": "s", "image": ["t1.nii.gz"]}
EXTENT = 6 * 8 * 4 * 24 / 1e6  # litres of the block of voxels of 24 mm3


@pytest.fixture
def folder(tmp_path):
    return write_case(tmp_path)


def test_a_sound_case_has_no_problem_and_figures(folder):
    record = examine(CASE, str(folder), "brats2021")
    assert (record.problems, record.orientation) == ((), "LAS")
    assert len(set(record.digests.values())) == 4
    assert record.preparation["volume"] == [round(EXTENT, 3)] * 2
    save(folder / "t1.nii.gz", brain(1).astype(np.float32) - 500)
    assert examine(CASE, str(folder), "brats2021") == record, "an offset changes nothing"


@pytest.mark.parametrize("value", [0, 3])
def test_what_is_the_same_everywhere_has_no_digest(folder, value):
    """Else the empty masks of two subjects would be one image under two names."""
    for file in ("t1.nii.gz", "seg.nii.gz"):
        save(folder / file, np.full(SHAPE, value, np.int16))
    assert set(examine(CASE, str(folder), "brats2023").digests) == {"flair.nii.gz", "t2.nii.gz"}


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
    save(folder / "flair.nii.gz", brain(0) * np.int16(2))
    set_header(folder / "flair.nii.gz", 112, "<f4", 0.5, 0)  # slope and intercept
    fine = brain(1) * np.float64(0.1)
    digests = []
    for same in (fine, fine.astype(np.float32), fine[..., None]):  # in another precision, or with an axis of one more
        save(folder / "fine.nii.gz", same)
        digests.append(examine({"subject": "s", "image": ["fine.nii.gz"]}, str(folder), None).digests)
    assert digests[0] == digests[1] == digests[2] != {}
    changed = brain(2)
    changed[5, 5, 5] += 1
    save(folder / "t2.nii.gz", changed)
    after = examine(CASE, str(folder), "brats2021").digests
    assert {file for file, digest in before.items() if after[file] != digest} == {"t2.nii.gz"}


def test_a_copy_in_another_orientation_has_the_same_digest(folder):
    digests = []
    for orientation in ("RAS", "LPS", "PSR"):
        turned = nibabel.orientations.axcodes2ornt(orientation)
        image = nibabel.Nifti1Image(brain(1), np.diag([2.0, 3.0, 4.0, 1.0])).as_reoriented(turned)
        nibabel.save(image, folder / "turned.nii.gz")
        digests.append(examine({"subject": "s", "image": ["turned.nii.gz"]}, str(folder), None).digests)
    assert digests[0] == digests[1] == digests[2] != {}


def test_nothing_that_a_case_holds_ends_the_check(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError("too much")

    monkeypatch.setattr("scripts.datalists.examine.read_headers", fail)
    (problem,) = examine(ONE, str(tmp_path), None).problems
    assert (problem.check, problem.file, problem.value) == ("unreadable", "t1.nii.gz", "too much")


def test_a_label_among_the_modalities_is_an_error(folder):
    shutil.copy(folder / "seg.nii.gz", folder / "t1.nii.gz")
    (problem,) = examine(CASE, str(folder), "brats2021").problems
    assert (problem.check, problem.file, problem.value) == ("label_as_image", "t1.nii.gz", "a copy of seg.nii.gz")
    assert CHECKS[problem.check] == "error"
