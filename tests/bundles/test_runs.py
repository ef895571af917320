"""Trainings from end to end: on two processes, and from stage to stage."""

import json
import re

import pytest
import torch

from tests.support import TINY

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("bundle", ["ukb_ssl_pretrain", "atlas_finetune"])
def test_two_processes_train_one_network(run_bundle, tmp_path, bundle):
    result = run_bundle(bundle, *TINY, processes=2)
    assert result.returncode == 0, result.stdout + result.stderr
    folder = tmp_path / bundle
    record = json.loads((folder / "run.json").read_text())
    assert record["world_size"] == 2
    assert record["finished"]
    for name in ("model.pt", "iteration-0000001.pt"):
        network = torch.load(folder / "models" / name, weights_only=True)["network"]
        assert not any(key.startswith("module.") for key in network)
    ranks = torch.load(folder / "models" / "iteration-0000001.pt", weights_only=True)["ranks"]
    assert len(ranks) == 2
    assert not torch.equal(ranks[0]["random"]["torch"], ranks[1]["random"]["torch"])
    assert len(list(folder.glob("tensorboard/train/*"))) == 1, "one rank writes"


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
