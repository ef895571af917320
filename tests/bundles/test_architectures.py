"""A step of training with each architecture, the evaluation and inference of what it leaves, and refusals."""

import csv

import pytest
import torch

from common.baselines import NETWORKS
from common.errors import input_error_message
from tests.bundles.workflows import PATCH, STEP, untrained, workflow

OWN_RECIPE = ("segresnet", "transbts")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", sorted(NETWORKS.keys() - {"swin_unetr"}))  # which all other tests use
def test_an_architecture_is_trained_evaluated_and_used(architecture, cohorts, tmp_path):
    overlays = (architecture,) if architecture in OWN_RECIPE else ()
    options = STEP | {"warmup_iterations": 0} | ({} if overlays else {"architecture": architecture})
    training = workflow("brats_finetune", "train", cohorts, tmp_path / "train", overlays, **options)
    before = {name: each.detach().clone() for name, each in training.network_def.named_parameters()}
    training.run()
    after = dict(training.network_def.named_parameters())
    assert [name for name, each in before.items() if torch.equal(each, after[name])] == []
    checkpoint = tmp_path / "train/models/model.pt"
    metadata = torch.load(checkpoint, weights_only=True)["metadata"]
    assert (metadata["architecture"], metadata["network"]) == (architecture, NETWORKS[architecture])
    assert metadata["patch_size"] == PATCH
    given = {"checkpoint": str(checkpoint), "overlap": 0}
    workflow("brats_finetune", "evaluate", cohorts, tmp_path / "evaluation", **given).run()
    with (tmp_path / "evaluation/metrics.csv").open(newline="") as file:
        assert {row["region"] for row in csv.DictReader(file)} == {"TC", "WT", "ET"}
    workflow("brats_finetune", "inference", cohorts, tmp_path / "predictions", **given, split="testing").run()
    assert len(list((tmp_path / "predictions").glob("*.nii.gz"))) == 1


@pytest.mark.parametrize(
    ("overlay", "rate", "decay", "squared_pred", "smooth_nr"),
    [("segresnet", 1e-4, 0.5, True, 0), ("transbts", 4e-4, 0.5**0.9, False, 1e-5)],
)
def test_the_overlay_of_a_baseline_sets_its_recipe(overlay, rate, decay, squared_pred, smooth_nr, cohorts, tmp_path):
    options = {"patch_size": PATCH, "warmup_iterations": 0, "iterations": 10, "val_interval": 5}
    started = workflow("brats_finetune", "train", cohorts, tmp_path, (overlay,), **options)
    optimizer, scheduler = (started.parser.get_parsed_content(name) for name in ("optimizer", "lr_scheduler"))
    assert type(optimizer) is torch.optim.Adam
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (rate, 1e-5)
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    assert group["lr"] == pytest.approx(rate * decay)  # after half of the iterations
    loss = started.parser.get_parsed_content("loss")
    assert (loss.squared_pred, loss.smooth_nr) == (squared_pred, smooth_nr)


@pytest.mark.parametrize(("trained", "given"), [("segresnet", "swin_unetr"), ("swin_unetr_v2", "swin_unetr")])
def test_a_checkpoint_of_another_architecture_is_refused(trained, given, cohorts, tmp_path):
    file = untrained("atlas_finetune", tmp_path / "model.pt", trained)
    with pytest.raises(RuntimeError) as error:
        workflow("atlas_finetune", "inference", cohorts, tmp_path, checkpoint=file, architecture=given)
    expected = f"--architecture={given}: {file} was trained with {trained}; leave the option out"
    assert input_error_message(error.value) == expected
