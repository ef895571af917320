"""What is left of a killed preparation, and what counts as done."""

import nibabel
import numpy as np
import pytest

from common.errors import InputError
from common.prepare.settings import Settings
from scripts.prepare.scans import Subject
from scripts.prepare.subjects import prepare_one
from tests.damaged_scans import brain


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
