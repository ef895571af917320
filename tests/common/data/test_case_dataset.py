from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.transforms import Compose, RandShiftIntensityd

from common.data.datasets import CaseDataset
from common.data.transforms import LabelToRegionsd, LoadScand

LOAD = LoadScand(["image", "label"])
REGIONS = LabelToRegionsd("label", "brats2021")


@pytest.fixture
def entries(tmp_path):
    made = []
    for number in range(3):
        files = {"image": [f"{number}_flair", f"{number}_t1"], "label": [f"{number}_seg"]}
        paths = {}
        for key, names in files.items():
            paths[key] = [str(tmp_path / f"{name}.nii.gz") for name in names]
            for path in paths[key]:
                volume = np.full((4, 4, 4), number if key == "image" else 1, dtype=np.int16)
                volume[0, 0, 0] *= key == "image"
                nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), path)
        made.append({"subject": f"case{number}", "image": paths["image"], "label": paths["label"][0]})
    return made


def break_file(path):
    Path(path).write_bytes(b"no image")


@pytest.mark.parametrize("cache_rate", [0.0, 0.4, 1.0])
def test_cases_come_in_order_with_both_channels(entries, cache_rate):
    dataset = CaseDataset(entries, Compose([LOAD, REGIONS]), cache_rate)
    assert len(dataset) == 3
    for number, item in enumerate(dataset):
        assert item["subject"] == f"case{number}"
        assert item["image"].shape == (2, 4, 4, 4)
        assert (item["image"] == number).all()
        assert item["label"].shape == (3, 4, 4, 4)


def test_what_is_cached_is_not_read_again_and_what_is_random_is_drawn_again(entries):
    dataset = CaseDataset(entries, Compose([LOAD, RandShiftIntensityd("image", offsets=1.0, prob=1.0)]), cache_rate=1.0)
    for path in (path for entry in entries for path in entry["image"]):
        break_file(path)
    first, second = (float(dataset[0]["image"].mean()) for _ in range(2))
    assert first != second
