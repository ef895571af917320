"""Each architecture is trained for a step and evaluated; overlays of baselines set their recipes."""

import csv

import pytest
import torch

from common.networks import ARCHITECTURES
from tests.bundles.workflows import STEP, workflow

OWN_RECIPE = ("segresnet", "transbts")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES[1:])  # all other tests use the first
def test_an_architecture_is_trained_and_evaluated(architecture, cohorts, tmp_path):
    overlays = (architecture,) if architecture in OWN_RECIPE else ()
    options = STEP | {"warmup_iterations": 0} | ({} if overlays else {"architecture": architecture})
    training = workflow("brats_finetune", "train", cohorts, tmp_path / "train", overlays, **options)
    before = {name: weight.detach().clone() for name, weight in training.network_def.named_parameters()}
    training.run()
    after = dict(training.network_def.named_parameters())
    unchanged = {name for name, weight in before.items() if torch.equal(weight, after[name])}
    assert unchanged == {name for name, weight in after.items() if not weight.requires_grad}
    assert all(name.startswith("swinViT.") and architecture == "probe" for name in unchanged)
    checkpoint = tmp_path / "train/models/model.pt"
    metadata = torch.load(checkpoint, weights_only=True)["metadata"]
    assert metadata["architecture"] == architecture
    assert metadata["network"] == type(training.network_def).__name__
    workflow(
        "brats_finetune", "evaluate", cohorts, tmp_path / "evaluation", checkpoint=str(checkpoint), overlap=0
    ).run()
    with (tmp_path / "evaluation/metrics.csv").open(newline="") as file:
        assert {row["region"] for row in csv.DictReader(file)} == {"TC", "WT", "ET"}
