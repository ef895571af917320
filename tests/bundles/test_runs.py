"""Trainings from end to end: on two processes, and interrupted and resumed."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.bundles.conftest import ROOT, TINY

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("bundle", ["ukb_ssl_pretrain", "atlas_finetune"])
def test_two_processes_train_one_network(run_bundle, tmp_path, bundle):
    result = run_bundle(bundle, *TINY, processes=2)
    assert result.returncode == 0, result.stdout + result.stderr
    folder = tmp_path / bundle
    record = json.loads((folder / "run.json").read_text())
    assert record["world_size"] == 2
    assert record["finished"]
    for name in ("model.pt", "last.pt"):
        network = torch.load(folder / "models" / name, weights_only=True)["network"]
        assert not any(key.startswith("module.") for key in network)
    ranks = torch.load(folder / "models" / "last.pt", weights_only=True)["ranks"]
    assert len(ranks) == 2
    assert not torch.equal(ranks[0]["random"]["torch"], ranks[1]["random"]["torch"])
    assert len(list(folder.glob("tensorboard/train/*"))) == 1, "one rank writes"


def test_an_interrupted_run_goes_on(run_bundle, cohorts, tmp_path):
    """Killed after its first epochs, resumed: every validation is recorded once, the schedule and the steps go on."""
    options = [option for option in TINY if "iterations=1" not in option] + ["--warmup_iterations=2"]
    folder = tmp_path / "ukb_ssl_pretrain"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file=configs/train.yaml", *options]
    command += [f"--dataset_dir={cohorts / 'ukb'}", f"--datalist={cohorts / 'ukb'}.json", "--iterations=1000"]
    command += [f"--output_dir={folder}", f"--ckpt_dir={folder / 'models'}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    place = ROOT / "bundles" / "ukb_ssl_pretrain"
    with subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.DEVNULL) as process:
        while not (folder / "models" / "last.pt").is_file():
            assert process.poll() is None
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    before = torch.load(folder / "models" / "last.pt", weights_only=True)
    done = before["trainer"]["iteration"]
    assert done >= 1

    result = run_bundle("ukb_ssl_pretrain", *options, f"--iterations={done + 2}", "--resume", "true")
    assert result.returncode == 0, result.stderr
    after = torch.load(folder / "models" / "last.pt", weights_only=True)
    assert after["trainer"]["iteration"] == done + 2
    assert after["lr_scheduler"]["last_epoch"] == done + 2
    assert after["optimizer"]["state"][0]["step"] == done + 2
    record = json.loads((folder / "run.json").read_text())
    assert record["validation"]["iteration"] == list(range(done + 3))
    assert len(record["train"]["loss"]["total"]) == len(record["train"]["iteration"])


def test_surgery_and_its_report(run_bundle, tmp_path):
    """Stage 1 to stage 2: the stem is changed by name, nothing of the encoder is missing, and the run says so."""
    assert run_bundle("ukb_ssl_pretrain", *TINY).returncode == 0
    source = tmp_path / "ukb_ssl_pretrain" / "models" / "model.pt"
    result = run_bundle("brats_stage2", *TINY, f"--pretrained={source}")
    assert result.returncode == 0, result.stderr
    weights = json.loads((tmp_path / "brats_stage2" / "run.json").read_text())["weights"]
    assert weights["changed"] == 3  # the stem, and the last convolution of the reconstruction with its bias
    assert weights["missing"] == weights["unexpected"] == 0
    assert re.search(rf"{weights['matched']} matched, 3 changed, 0 missing, 0 unexpected", result.stdout)
    metadata = torch.load(tmp_path / "brats_stage2" / "models" / "model.pt", weights_only=True)["metadata"]
    assert metadata["modalities"] == ["FLAIR", "T1ce", "T1", "T2"]
