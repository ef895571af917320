"""A step of training with each architecture, the evaluation and inference of what it leaves, and refusals."""

import csv

import pytest
import torch

from common import weights
from common.baselines import NETWORKS, segmentation_network
from common.errors import input_error_message
from common.ssl import SSLHead
from tests.bundles.workflows import workflow
from tests.support import MODALITIES

PATCH = [64, 64, 64]
STEP = {
    "patch_size": PATCH,
    "batch_size": 1,
    "global_batch_size": None,
    "num_workers": 0,
    "warmup_iterations": 0,
    "iterations": 1,
    "val_interval": 1,
}
SIZE = {"patch_size": PATCH, "num_workers": 0}
OWN_RECIPE = ("segresnet", "transbts")


def channels(bundle):
    return (4, 3) if bundle.startswith("brats") else (1, 1)


def untrained(bundle, architecture, file):
    network = segmentation_network(architecture, *channels(bundle), "micro", PATCH)
    metadata = {"modalities": MODALITIES[bundle], "normalization": "brain", "architecture": architecture}
    weights.write({"network": network.state_dict(), "metadata": metadata | {"model_size": "micro"}}, file)
    return str(file)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bundle", "architecture"),
    [*(("brats_finetune", each) for each in NETWORKS), ("atlas_finetune", "segresnet"), ("atlas_finetune", "transbts")],
)
def test_an_architecture_is_trained_evaluated_and_used(bundle, architecture, cohorts, tmp_path):
    with_recipe = bundle == "brats_finetune" and architecture in OWN_RECIPE
    overlays = (architecture,) if with_recipe else ()
    options = STEP | ({} if with_recipe else {"architecture": architecture})
    places = {"ckpt_dir": str(tmp_path / "models")}
    training = workflow(bundle, "train", "train", cohorts, tmp_path / "train", overlays, **options, **places)
    before = {name: each.detach().clone() for name, each in training.network_def.named_parameters()}
    training.run()
    after = dict(training.network_def.named_parameters())
    assert [name for name, each in before.items() if torch.equal(each, after[name])] == []
    checkpoint = tmp_path / "models" / "model.pt"
    metadata = torch.load(checkpoint, weights_only=True)["metadata"]
    assert (metadata["architecture"], metadata["network"]) == (architecture, NETWORKS[architecture])
    assert metadata["patch_size"] == PATCH
    given = SIZE | {"checkpoint": str(checkpoint), "architecture": architecture}
    workflow(bundle, "evaluate", "infer", cohorts, tmp_path / "evaluation", **given).run()
    with (tmp_path / "evaluation" / "metrics.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) > 0
    workflow(bundle, "inference", "infer", cohorts, tmp_path / "predictions", **given | {"split": "testing"}).run()
    assert len(list((tmp_path / "predictions").glob("*.nii.gz"))) == 1


@pytest.mark.parametrize(
    ("overlay", "kind", "rate", "decay"),
    [("segresnet", torch.optim.Adam, 1e-4, 0.5), ("transbts", torch.optim.Adam, 4e-4, 0.5**0.9)],
)
def test_the_overlay_of_a_baseline_sets_its_recipe(overlay, kind, rate, decay, cohorts, tmp_path):
    options = {"patch_size": PATCH, "num_workers": 0, "iterations": 10, "val_interval": 5}
    options["ckpt_dir"] = str(tmp_path / "models")
    started = workflow("brats_finetune", "train", "train", cohorts, tmp_path, (overlay,), **options)
    optimizer, scheduler = (started.parser.get_parsed_content(name) for name in ("optimizer", "lr_scheduler"))
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (rate, 1e-5)
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    assert group["lr"] == pytest.approx(rate * decay)  # after half of the iterations
    loss = started.parser.get_parsed_content("loss")
    assert (loss.squared_pred, loss.smooth_nr) == ((True, 0) if overlay == "segresnet" else (False, 1e-5))


@pytest.mark.parametrize("name", ["evaluate", "inference"])
@pytest.mark.parametrize(
    ("trained", "given"), [("segresnet", "swin_unetr"), ("swin_unetr", "transbts"), ("swin_unetr_v2", "swin_unetr")]
)
def test_a_checkpoint_of_another_architecture_is_refused(name, trained, given, cohorts, tmp_path):
    file = untrained("atlas_finetune", trained, tmp_path / "model.pt")
    with pytest.raises(RuntimeError) as error:
        workflow("atlas_finetune", name, "infer", cohorts, tmp_path, checkpoint=file, architecture=given, **SIZE)
    expected = f"--architecture={given}: {file} was trained with {trained}; leave the option out"
    assert input_error_message(error.value) == expected


def test_transbts_of_another_window_is_refused(cohorts, tmp_path):
    file = untrained("atlas_finetune", "transbts", tmp_path / "model.pt")
    options = {"checkpoint": file, "architecture": "transbts", "patch_size": [64, 64, 96], "num_workers": 0}
    with pytest.raises(RuntimeError) as error:
        workflow("atlas_finetune", "inference", "infer", cohorts, tmp_path, **options)
    expected = "1 tensors do not fit; first positions is [1, 64, 8, 8, 8], expected [1, 64, 8, 8, 12]"
    assert input_error_message(error.value).endswith(expected)


@pytest.mark.parametrize("architecture", OWN_RECIPE)
def test_a_self_supervised_checkpoint_starts_no_other_network(architecture, cohorts, tmp_path):
    metadata = {"modalities": ["T1"], "model_size": "micro"}
    weights.write({"network": SSLHead(1, "micro").state_dict(), "metadata": metadata}, tmp_path / "ssl.pt")
    options = STEP | {"architecture": architecture, "pretrained": str(tmp_path / "ssl.pt")}
    with pytest.raises(RuntimeError) as error:
        workflow("atlas_finetune", "train", "train", cohorts, tmp_path, **options, ckpt_dir=str(tmp_path / "models"))
    assert input_error_message(error.value).endswith("ssl.pt: has no tensor in common with the network")
