from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.transforms import Compose, RandShiftIntensityd

from common.data.datasets import CaseDataset
from common.data.transforms import LabelToRegionsd, LoadScand
from common.errors import InputError

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


@pytest.mark.parametrize("cache_rate", [0.0, 1.0])
def test_a_file_that_is_replaced_during_a_run_is_named_unless_it_is_cached(entries, cache_rate):
    dataset = CaseDataset(entries, Compose([LOAD]), cache_rate)
    before = dataset[1]["image"]
    nibabel.save(nibabel.Nifti1Image(np.full((4, 4, 4), 9, dtype=np.int32), np.eye(4)), entries[1]["label"])
    if cache_rate:
        assert dataset[1]["image"].equal(before)
    else:
        with pytest.raises(InputError, match=rf"^subject case1: {entries[1]['label']}: changed during this run$"):
            dataset[1]


def test_what_is_cached_is_not_read_again_and_what_is_random_is_drawn_again(entries):
    dataset = CaseDataset(entries, Compose([LOAD, RandShiftIntensityd("image", offsets=1.0, prob=1.0)]), cache_rate=1.0)
    for path in (path for entry in entries for path in entry["image"]):
        break_file(path)
    first, second = (float(dataset[0]["image"].mean()) for _ in range(2))
    assert first != second
