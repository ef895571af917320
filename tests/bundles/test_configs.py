"""What the configs of the five bundles must have in common, and what MONAI asks of each."""

import json

import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow

from common.data import datalists
from common.errors import input_error_message
from common.ssl.networks import SSLHead, swin_unetr
from tests.bundles.workflows import SSL, SUPERVISED, config, without_name, workflow
from tests.support import BUNDLES, MODALITIES, ROOT


def test_there_are_five_bundles():
    assert sorted([*SSL, *SUPERVISED]) == BUNDLES


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize("overlay", ["multi_gpu_train", "quickstart"])
def test_each_key_of_an_overlay_exists_in_its_base(bundle, overlay):
    base = ConfigParser(config(bundle))
    unknown = [key for key in config(bundle, overlay) if key not in base]
    assert unknown == []


@pytest.mark.parametrize("overlay", ["segresnet", "transbts"])
def test_the_overlay_of_a_baseline_holds_what_differs_in_its_recipe(overlay):
    base, own = config("brats_finetune"), config("brats_finetune", overlay)
    assert own.keys() <= base.keys()
    assert [key for key, value in own.items() if base[key] == value] == []
    assert own["architecture"] == overlay


@pytest.mark.parametrize("bundle", BUNDLES)
def test_nothing_is_addressed_by_position(bundle):
    for path in (ROOT / "bundles" / bundle / "configs").glob("*.yaml"):
        for key in yaml.safe_load(path.read_text()):
            assert not any(part.isdigit() for part in key.split("::")), f"{path}: {key}"


def test_the_multi_gpu_overlay_is_the_same_in_all_bundles():
    texts = {(ROOT / "bundles" / bundle / "configs" / "multi_gpu_train.yaml").read_text() for bundle in BUNDLES}
    assert len(texts) == 1


def differing_keys(bundles: list[str]) -> set[str]:
    first, *others = (without_name(config(bundle), bundle) for bundle in bundles)
    for content in (first, *others):
        for section in ("train", "validate", "network_def", "plan"):
            content |= {f"{section}::{key}": value for key, value in content.pop(section).items()}
    names = {name for content in (first, *others) for name in content}
    return {name for name in names for other in others if first.get(name) != other.get(name)}


def test_the_ssl_workflow_agrees_across_the_three_bundles():
    own = {"modalities", "accept", "recipes", "batch_size", "global_batch_size", "warmup_iterations", "val_interval"}
    assert differing_keys(SSL) == own


def test_the_supervised_workflow_agrees_across_the_two_bundles():
    own = {"modalities", "accept", "label_convention", "recipes", "batch_size", "learning_rate"}
    own |= {"patch_size", "divisible_foreground", "normalize_crops", "window_weighting"}  # DIFF-24, DIFF-25
    own |= {"train::random_transforms", "train::preprocessing", "network_def::drop_rate"}  # DIFF-17, DIFF-18; DIFF-13
    assert differing_keys(SUPERVISED) == own


ATLAS_CASES = 3  # of the training split of the test's cohort


@pytest.mark.parametrize("bundle", ["atlas_stage2", "atlas_finetune"])
@pytest.mark.parametrize(
    ("given", "iterations", "interval"),
    [
        ({}, 452, 4),  # 600 epochs of 3 cases are 450 batches of 4; intervals of 5 epochs, 15 / 4, are rounded up to 4
        ({"iterations": "8 epochs"}, 8, 4),
        ({"iterations": 200, "val_interval": 20}, 200, 20),
        ({"iterations": "4 epochs", "val_interval": "4epochs"}, 3, 3),
    ],
)
def test_a_training_on_atlas_is_given_in_epochs_or_iterations(bundle, given, iterations, interval, cohorts, tmp_path):
    assert len(json.loads((cohorts / "atlas.json").read_text())["training"]) == ATLAS_CASES
    started = workflow(bundle, "train", "train", cohorts, tmp_path, warmup_iterations=1, **given)
    assert started.trainer.state.epoch_length == interval
    assert started.max_epochs * interval == iterations
    assert started.parser.get_parsed_content("lr_scheduler").t_total == iterations


@pytest.mark.parametrize("bundle", SUPERVISED)
@pytest.mark.parametrize("name", ["evaluate", "inference"])
def test_training_and_evaluation_prepare_an_image_alike(bundle, name):
    def of_image(steps: list[dict]) -> list[dict]:
        """The steps that change the image, without checks that training lacks, nor the keys besides."""
        checks = ("common.inference.Check", "common.data.CheckPreparation")
        steps = [step for step in steps if not step["_target_"].startswith(checks)]
        steps = [step for step in steps if "image" in step.get("keys", step.get("image"))]
        return [{key: value for key, value in step.items() if key not in ("keys", "label")} for step in steps]

    trained = of_image(config(bundle)["deterministic_transforms"])
    assert of_image(config(bundle, name)["preprocessing"]["transforms"]) == trained
    of_training = {"drop_rate", "use_checkpoint"}
    network = {key: value for key, value in config(bundle)["network_def"].items() if key not in of_training}
    assert config(bundle, name)["network_def"] == network


@pytest.mark.parametrize("bundle", BUNDLES)
def test_training_has_the_properties_that_monai_requires(bundle, cohorts, tmp_path):
    assert workflow(bundle, "train", "train", cohorts, tmp_path, warmup_iterations=1).check_properties() == []


@pytest.mark.parametrize("bundle", ["brats_finetune", "ukb_ssl_pretrain"])
def test_the_network_of_a_training_needs_no_data_and_its_trainer_does(bundle, tmp_path, monkeypatch):
    """`monai.bundle.load` initialises the training and takes its network."""
    monkeypatch.chdir(tmp_path)
    folder = ROOT / "bundles" / bundle / "configs"
    files = {"config_file": str(folder / "train.yaml"), "meta_file": str(folder / "metadata.json")}
    opened = ConfigWorkflow(**files, logging_file=False, workflow_type="train", model_size="micro")
    opened.initialize()
    assert opened.network_def.swinViT.patch_embed.proj.weight.shape[1] == len(MODALITIES[bundle])
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError) as error:
        opened.trainer  # noqa: B018
    assert input_error_message(error.value).startswith("datalist data/datalist.json: No such file or directory")


def save_network(bundle, path, **metadata):
    channels = (4, 3) if bundle.startswith("brats") else (1, 1)
    network = SSLHead(len(MODALITIES[bundle]), "micro") if bundle in SSL else swin_unetr(*channels, "micro")
    torch.save({"network": network.state_dict(), "metadata": metadata}, path)
    return str(path)


@pytest.mark.parametrize("bundle", SUPERVISED)
@pytest.mark.parametrize("name", ["evaluate", "inference"])
def test_inference_has_the_properties_that_monai_requires(bundle, name, cohorts, tmp_path):
    checkpoint = save_network(bundle, tmp_path / "model.pt")
    assert workflow(bundle, name, "infer", cohorts, tmp_path, checkpoint=checkpoint).check_properties() == []


PREDICTING = [(bundle, name) for bundle in SUPERVISED for name in ("evaluate", "inference")]
PREDICTING += [(bundle, "inference") for bundle in SSL]


@pytest.mark.parametrize(("bundle", "name"), PREDICTING)
def test_a_checkpoint_trained_on_images_of_another_normalization_is_refused(bundle, name, cohorts, tmp_path):
    checkpoint = save_network(bundle, tmp_path / "model.pt", modalities=MODALITIES[bundle], normalization="nonzero")
    with pytest.raises(RuntimeError, match="Failed to") as error:
        workflow(bundle, name, "infer", cohorts, tmp_path, checkpoint=checkpoint, normalization="brain")
    expected = f"--normalization=brain: {checkpoint} was trained with nonzero; leave the option out"
    assert input_error_message(error.value) == expected
    followed = workflow(bundle, name, "infer", cohorts, tmp_path, checkpoint=checkpoint)
    assert followed.parser.get_parsed_content("options").normalization == "nonzero"


@pytest.mark.parametrize(("bundle", "name"), [("brats_finetune", "train"), ("ukb_ssl_pretrain", "train")])
def test_the_datalist_is_read_once(bundle, name, cohorts, tmp_path, monkeypatch):
    read, paths = datalists.read, []
    monkeypatch.setattr(datalists, "read", lambda path: paths.append(path) or read(path))
    options = {"ckpt_dir": str(tmp_path / "models"), "warmup_iterations": 1}
    started = workflow(bundle, name, "train", cohorts, tmp_path, **options)
    assert started.trainer is not None
    assert len(paths) == 1


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("bundles/*/configs/*.yaml")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_lines_fit_a_screen(path):
    assert [line for line in path.read_text().splitlines() if len(line) > 140] == []


@pytest.mark.parametrize("bundle", BUNDLES)
def test_weights_are_in_place_before_anything_is_built_on_the_network(bundle, cohorts, tmp_path):
    """The initialisation of new channels draws random numbers, and DistributedDataParallel copies what it wraps."""
    options = {"ckpt_dir": str(tmp_path / "models"), "warmup_iterations": 1}
    started = workflow(bundle, "train", "train", cohorts, tmp_path, **options)
    built = started.parser.ref_resolver.resolved_content
    assert "weights_report" in built
    assert not {"model", "optimizer", "train::dataloader", "train::trainer"} & built.keys()


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_training_records_what_its_config_declares(bundle, cohorts, tmp_path):
    given = {"learning_rate": 0.003, "warmup_iterations": 1, "patch_size": [64, 64, 64]}
    started = workflow(bundle, "train", "train", cohorts, tmp_path, ckpt_dir=str(tmp_path / "models"), **given)
    recorded = started.parser.get_parsed_content("plan").settings["components"]
    declared = config(bundle)
    assert recorded["optimizer"] == declared["optimizer"] | {"lr": 0.003}  # params stays a reference
    assert [step["_target_"] for step in recorded["random_transforms"]] == [
        step["_target_"] for step in declared["train"]["random_transforms"]
    ]
    pads = [step for step in recorded["random_transforms"] if step["_target_"] == "DivisiblePadd"]
    assert [(pad["_disabled_"], pad["k"]) for pad in pads] == [(True, [64, 64, 64])] * (bundle != "atlas_finetune")
    assert recorded["loss"]["_target_"] == declared["loss"]["_target_"]
    assert not any("@options" in str(value) for value in recorded["loss"].values())
