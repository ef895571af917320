import sys
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, Lambdad, LoadImaged, RandShiftIntensityd

from common.cli import log_unexpected
from common.data.datasets import CaseDataset
from common.data.transforms import LabelToRegionsd, LoadScand
from common.errors import InputError, report_in_one_line
from tests.oracles.workers import failure_of
from tests.support import one_line

LOAD = LoadScand(["image", "label"])
REGIONS = LabelToRegionsd("label", "brats2021")

UNKNOWN = "label 3, which looks like brats2023; expected labels 0, 1, 2, 4 (brats2021)"


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


def test_a_case_without_subject_has_the_name_of_its_first_image_without_the_modality(entries):
    entries = [{key: value for key, value in entry.items() if key != "subject"} for entry in entries]
    assert [case["subject"] for case in CaseDataset(entries, Compose([LOAD]))] == ["0", "1", "2"]
    with pytest.raises(InputError, match="no subject and no image; expected at least an image"):
        CaseDataset([{"label": entries[0]["label"]}], Compose([LOAD]))


def break_file(path):
    Path(path).write_bytes(b"no image")


def mislabel(path):
    nibabel.save(nibabel.Nifti1Image(np.full((4, 4, 4), 3, dtype=np.int16), np.eye(4)), path)


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
def test_a_broken_file_is_named_with_its_subject_and_bad_input_keeps_its_own_message(entries, cache_rate):
    mislabel(entries[2]["label"])
    with pytest.raises(InputError) as error:
        [None for _ in CaseDataset(entries, Compose([LOAD, REGIONS]), cache_rate)]
    assert str(error.value) == f"subject case2: {entries[2]['label']}: {UNKNOWN}"
    broken = entries[1]["image"][1]
    break_file(broken)
    with pytest.raises(
        InputError, match=rf"^subject case1: {broken}: .*; expected a NIfTI, MGH or NRRD file that can be read$"
    ) as error:
        [None for _ in CaseDataset(entries, Compose([LOAD]), cache_rate)]
    assert not any(text in one_line(error) for text in (entries[1]["image"][0], "_seg", "applying transform"))


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


def test_a_bug_in_a_users_transform_is_named_with_its_place_subject_and_log(entries, tmp_path, monkeypatch, capsys):
    del entries[0]["label"]

    def fail(_):
        raise ZeroDivisionError("by nothing")

    dataset = CaseDataset(entries[:1], Compose([LoadImaged("image"), Lambdad("image", fail)]))
    with pytest.raises(InputError) as error:
        dataset[0]
    location = f"{__file__}:{fail.__code__.co_firstlineno + 1}"
    files = ", ".join(entries[0]["image"])
    message = f"subject case0: cannot be prepared: ZeroDivisionError: by nothing at {location} ({files})"
    assert str(error.value) == message
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    report_in_one_line(partial(log_unexpected, options={"output_dir": tmp_path}))
    failure = failure_of(DataLoader(dataset, num_workers=1))
    with pytest.raises(SystemExit, match="1"):
        sys.excepthook(type(failure), failure, None)
    assert capsys.readouterr().err == f"error: {message}; the traceback is in {tmp_path}/error.log\n"
    assert location.replace(":", '", line ') in (tmp_path / "error.log").read_text()


def test_a_case_that_the_machine_lacks_the_memory_for_is_named_without_its_files(entries):
    def fail(_):
        torch.empty(2**60, dtype=torch.uint8)

    dataset = CaseDataset(entries, Compose([LoadImaged("image"), Lambdad("image", fail)]))
    with pytest.raises(MemoryError, match=r"^subject case0: out of memory on the host$"):
        dataset[0]
    error = failure_of(DataLoader(dataset, num_workers=1))
    assert isinstance(error, MemoryError)


def test_what_is_cached_is_not_read_again_and_what_is_random_is_drawn_again(entries):
    dataset = CaseDataset(entries, Compose([LOAD, RandShiftIntensityd("image", offsets=1.0, prob=1.0)]), cache_rate=1.0)
    for path in (path for entry in entries for path in entry["image"]):
        break_file(path)
    first, second = (float(dataset[0]["image"].mean()) for _ in range(2))
    assert first != second
