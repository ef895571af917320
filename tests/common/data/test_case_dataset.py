import nibabel
import numpy as np
import pytest
from monai.transforms import Compose, RandShiftIntensityd

from common.data.datasets import CaseDataset
from common.data.transforms import LoadScand
from common.errors import InputError


def test_what_is_cached_is_not_read_again_and_what_is_random_is_drawn_again(tmp_path):
    path = tmp_path / "case_t1.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4)), path)
    steps = Compose([LoadScand("image"), RandShiftIntensityd("image", offsets=1.0, prob=1.0)])
    entries = [{"subject": "case", "image": [str(path)]}]
    cached, plain = (CaseDataset(entries, steps, cache_rate) for cache_rate in (1.0, 0.0))
    path.write_bytes(b"no image")
    first, second = (float(cached[0]["image"].mean()) for _ in range(2))
    assert first != second
    with pytest.raises(InputError, match=f"^subject case: {path}: .*; expected a NIfTI"):
        plain[0]
    assert CaseDataset([{"image": ["a/P1_t1.nii.gz", "a/P1_flair.nii.gz"]}], steps).data[0]["subject"] == "P1_t1"
