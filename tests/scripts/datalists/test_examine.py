"""Checks of a case's files; each test damages one file of a sound case."""

import nibabel
import numpy as np
import pytest

from scripts.datalists.examine import CHECKS, examine
from tests.damaged_scans import CASE, HEADERS, VOXELS, brain, save, set_header, write_case


@pytest.fixture
def folder(tmp_path):
    return write_case(tmp_path)


@pytest.mark.parametrize("name", [*HEADERS, *VOXELS])
def test_what_is_wrong_is_told_of_the_file_that_is(folder, name):
    damage, check, file, text = (HEADERS | VOXELS)[name]
    damage(folder)
    (problem,) = examine(CASE, str(folder), "brats2021").problems
    assert (problem.check, problem.file) == (check, file)
    assert text in str(problem)
    assert "\n" not in str(problem)
    assert check in CHECKS


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
