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
