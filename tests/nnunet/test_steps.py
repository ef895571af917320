"""Planning for a given patch, checkpoints of a killed run, and what is wrong with MONAI's runner."""

import shutil

import pytest
import torch
from monai.apps.nnunet import nnUNetV2Runner

from common.errors import InputError
from scripts.nnunet import steps


@pytest.fixture
def work(finished, tmp_path, monkeypatch) -> steps.Work:
    """The converted data and fingerprint of the finished run, for other plans."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, "set by the runner")  # so that the old value returns
    for part in ("nnUNet_raw", "nnUNet_preprocessed"):
        ignored = shutil.ignore_patterns("nnUNetPlans_*", "*Plans.json")
        shutil.copytree(finished.output / part, tmp_path / part, ignore=ignored)
    return steps.Work(tmp_path, "Dataset001_brats", "3d_fullres", "default", 0, torch.device("cpu"))


def test_a_given_patch_is_planned_for(work):
    steps.plan(work, (16, 32, 32))
    summary = steps.plan_summary(work)
    assert summary["patch_size"] == [16, 32, 32]
    assert summary["network"] == "PlainConvUNet"
    assert len(summary["features_per_stage"]) == 4, "halved three times, to a shortest edge of 4"


def test_a_configuration_that_is_not_planned_is_refused(work):
    small = steps.Work(work.folder, work.dataset, "3d_lowres", "default", 0, work.device)
    with pytest.raises(InputError, match=r"--configuration=3d_lowres: nnU-Net plans only .*3d_fullres for this data"):
        steps.plan(small, None)


def test_monais_runner_still_trains_with_an_option_that_nnunet_does_not_know(tmp_path):
    """If this fails, MONAI has mended its runner, and scripts/nnunet/steps.py may train with it."""
    folders = {name: str(tmp_path / name) for name in ("nnunet_raw", "nnunet_preprocessed", "nnunet_results")}
    runner = nnUNetV2Runner({"dataset_name_or_id": 1, **folders})
    command, _ = runner.train_single_model_command("3d_fullres", 0, 0, {"device": "cpu"})
    assert "--device" in command
    assert "-device" not in command


def test_monais_runner_still_converts_no_datalist_of_several_modalities(cohort, tmp_path, caplog):
    """If this fails, MONAI's conversion takes our datalists; scripts/nnunet/conversion.py may be needless."""
    folders = {name: str(tmp_path / name) for name in ("nnunet_raw", "nnunet_preprocessed", "nnunet_results")}
    data = {"datalist": str(cohort.datalist), "dataroot": str(cohort.root), "modality": ["FLAIR", "T1ce", "T1", "T2"]}
    nnUNetV2Runner({"dataset_name_or_id": 1, **folders, **data}).convert_dataset()
    assert not list((tmp_path / "nnunet_raw").rglob("dataset.json"))
