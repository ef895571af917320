"""What is left of a killed preparation, and what counts as done."""

from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from common.errors import InputError
from common.prepare.settings import Settings
from common.prepare.volumes import Volume
from scripts.prepare.picture import draw
from scripts.prepare.scans import Subject
from scripts.prepare.subjects import folder_of, leave_out, prepare_one
from tests.damaged_scans import brain


def test_files_of_the_user_stay_beside_new_results(tmp_path):
    for is_out, names in ((False, ("prepare.json",)), (True, ("prepare.json", "a_T1.nii.gz", "a_notes.txt"))):
        folder_of(tmp_path, "a", is_out).mkdir(parents=True)
        for name in names:
            (folder_of(tmp_path, "a", is_out) / name).touch()
    leave_out(tmp_path, "a")
    left = sorted(path.name for path in folder_of(tmp_path, "a", is_left_out=True).iterdir())
    assert left == ["a_notes.txt", "prepare.json"]


def test_a_modality_that_is_a_copy_of_another_is_refused_before_it_is_registered(tmp_path):
    """In another type and file."""
    files = {name: tmp_path / f"a_{name}.nii.gz" for name in ("T1", "T2")}
    for file, kind in zip(files.values(), (np.int16, np.float32), strict=True):
        nibabel.save(nibabel.Nifti1Image(brain().astype(kind), np.diag([8, 8, 8, 1])), file)
    with pytest.raises(InputError, match=r"^T2: a copy of T1; expected a different image$"):
        prepare_one(Subject("a", files), Settings("brats", ("T1", "T2")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_empty_brain_mask_is_refused_before_a_scan_is_registered(tmp_path):
    for name, volume in (("T1", brain()), ("brain", np.zeros_like(brain()))):
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([8, 8, 8, 1])), tmp_path / f"a_{name}.nii.gz")
    subject = Subject("a", {"T1": tmp_path / "a_T1.nii.gz"}, brain=tmp_path / "a_brain.nii.gz")
    with pytest.raises(InputError, match=r"a_brain\.nii\.gz: no voxel above 0; expected a brain mask$"):
        prepare_one(subject, Settings("ukb", ("T1",), "*_brain.nii.gz"), tmp_path / "out")


def test_bright_fat_does_not_darken_the_brain_in_pictures(tmp_path):
    head = np.random.default_rng(0).uniform(0.5, 1, (40, 40, 40)).astype(np.float32)
    brain = np.zeros(head.shape, bool)
    brain[8:32, 8:32, 8:32] = True
    for fat in (1, 50):
        heads = {"FLAIR": Volume(np.where(brain, head, fat), np.eye(4))}
        draw(SimpleNamespace(heads=heads, brain=brain, template=brain), tmp_path / f"{fat}.png", "P1")
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "50.png").read_bytes()
