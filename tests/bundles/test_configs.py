"""Configs: rules for all bundles, and the properties that MONAI requires."""

from types import SimpleNamespace

import pytest
import torch
from monai.bundle import ConfigParser

from common.data import datalists
from common.errors import input_error_message
from common.values import TRAINING_DEFAULTS
from tests.bundles.workflows import PATCH, SSL, SUPERVISED, config, untrained, workflow
from tests.support import BUNDLES, MODALITIES, ROOT

PREDICTING = [(bundle, name) for bundle in SUPERVISED for name in ("evaluate", "inference")]
PREDICTING += [(bundle, "inference") for bundle in SSL]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_each_key_of_an_overlay_exists_in_its_base_and_none_is_addressed_by_position(bundle):
    base = ConfigParser(config(bundle))
    for path in (ROOT / "bundles" / bundle / "configs").glob("*.yaml"):
        content = config(bundle, path.stem)
        assert not [key for key in content if any(part.isdigit() for part in key.split("::"))]
        if path.stem not in ("train", "evaluate", "inference"):
            known = {*TRAINING_DEFAULTS} | ({"without"} if path.stem == "recipe_robust" else set())
            assert [key for key in content if key not in base and key not in known] == []
            assert "cohort" not in content, "which only the data can tell"


SUPERVISED_KEYS = {"modalities", "accept", "label_convention", "batch_size", "iterations", "val_interval"}
SUPERVISED_KEYS |= {"divisible_foreground", "normalize_crops"}  # padding and z-scores of crops (DIFF-24)
SUPERVISED_KEYS |= {"train::random_transforms", "train::preprocessing"}  # augmentation (DIFF-17, DIFF-18)
SUPERVISED_KEYS |= {"network_def::drop_rate"}  # dropout (DIFF-13)


@pytest.mark.parametrize(("bundle", "name"), PREDICTING)
def test_training_and_prediction_prepare_an_image_alike_and_build_the_same_network(bundle, name):
    def of_image(steps):
        """The steps that change the image, without checks, which training lacks, and without the keys of labels."""
        checks = ("common.inference.Check", "common.data.CheckPreparation")
        steps = [step for step in steps if not step["_target_"].startswith(checks)]
        steps = [step for step in steps if "image" in step.get("keys", step.get("image"))]
        switch = "$not @crop_foreground"  # crop of the foreground (DIFF-20)
        of_published_files = ("Flipd", "Resized")  # disabled by default; no training has these settings
        return [
            {key: value for key, value in step.items() if key not in ("keys", "label") and value != switch}
            for step in steps
            if step["_target_"] not in of_published_files
        ]

    train, predict = config(bundle), config(bundle, name)
    assert of_image(predict["preprocessing"]["transforms"]) == of_image(train["deterministic_transforms"])
    assert predict["modalities"] == f"$@trained.get('modalities', {train['modalities']})"
    of_one = {"drop_rate", "prior", "use_checkpoint", "head_tokens", "tasks", "window"}
    ours, theirs = (
        {key: value for key, value in content["network_def"].items() if key not in of_one}
        for content in (predict, train)
    )
    assert ours == theirs
    assert predict["network_def"].get("tasks") == ("$@trained.get('tasks')" if bundle in SSL else None)


@pytest.fixture(scope="module", params=["ukb_ssl_pretrain", "brats_stage2", "brats_finetune"])
def started(request, cohorts, tmp_path_factory):
    """An initialised training: bundle, workflow, names of resolved components, paths of the datalists it read."""
    read, paths = datalists.read, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datalists, "read", lambda path: paths.append(path) or read(path))
        options = {"learning_rate": 0.003, "patch_size": PATCH}
        ready = workflow(request.param, "train", cohorts, tmp_path_factory.mktemp("started"), **options)
        assert ready.trainer is not None
        built = [*ready.parser.ref_resolver.resolved_content]
    return SimpleNamespace(bundle=request.param, workflow=ready, built=built, read=paths)


def test_a_training_records_what_its_config_declares(started):
    recorded = started.workflow.parser.get_parsed_content("plan").settings["components"]
    declared = config(started.bundle)
    assert recorded["optimizer"] == declared["optimizer"] | {"lr": 0.003}  # params stays a reference
    assert declared["optimizer"]["fused"] is True
    targets = [step["_target_"] for step in declared["train"]["random_transforms"]]
    assert [step["_target_"] for step in recorded["random_transforms"]] == targets
    assert recorded["loss"]["_target_"] == declared["loss"]["_target_"]


@pytest.mark.parametrize(
    ("bundle", "name"),
    [("brats_finetune", "evaluate"), ("brats_finetune", "inference"), ("ukb_ssl_pretrain", "inference")],
)
def test_inference_has_the_properties_that_monai_requires(bundle, name, cohorts, tmp_path):
    """It also takes its options from the checkpoint, and refuses a normalization that differs from the training's."""
    checkpoint = untrained(bundle, tmp_path / "model.pt", normalization="nonzero")
    followed = workflow(bundle, name, cohorts, tmp_path, checkpoint=checkpoint)
    assert followed.check_properties() == []
    options = followed.parser.get_parsed_content("options")
    assert (options.normalization, options.modalities) == ("nonzero", MODALITIES[bundle])
    with pytest.raises(RuntimeError, match="Failed to") as error:
        workflow(bundle, name, cohorts, tmp_path, checkpoint=checkpoint, normalization="brain")
    assert "--normalization=brain: " in input_error_message(error.value)


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize("split", ["train", "validate"])
def test_dropout_does_not_depend_on_the_number_of_workers(bundle, split):
    """MONAI's DataLoader resets PyTorch's global generator if it has no workers, unless it has its own generator."""
    content = config(bundle)
    content[split] |= {"dataset": [{"image": 0.0}] * 2, "sampler": None}
    content["plan"] = {"_target_": "types.SimpleNamespace", "volumes_per_batch": 1}
    drawn = []
    for workers in (0, 1):
        torch.manual_seed(0)
        torch.rand(3)
        [*ConfigParser(content | {"num_workers": workers}).get_parsed_content(f"{split}::dataloader")]
        drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[1]
