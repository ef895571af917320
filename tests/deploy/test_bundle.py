import json
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pydicom", reason="needs the environment of make deploy")

import torch
import yaml

from common import weights
from common.errors import InputError
from deploy.bundle import check_options, open_bundle, split_options
from deploy.tasks import TASKS
from tests.deploy.checks import refusal
from tests.deploy.micro_models import INFERENCE_OPTIONS
from tests.support import ROOT

BRATS = ROOT / "bundles/brats_finetune"


@pytest.fixture
def bundle(tmp_path, models):
    """A copy of a bundle's folder, with a checkpoint."""
    folder = tmp_path / "bundle"
    shutil.copytree(BRATS / "configs", folder / "configs")
    (folder / "models").mkdir()
    shutil.copy(models("brats"), folder / "models/model.pt")
    return folder


def test_a_bundle_is_described_by_its_metadata(bundle):
    opened = open_bundle(bundle)
    metadata = json.loads((bundle / "configs/metadata.json").read_text())
    assert opened.modalities == ("FLAIR", "T1ce", "T1", "T2")
    assert metadata["name"] == f"{opened.name} on BraTS 2021", "which the checkpoint does not say"
    assert (opened.version, opened.trained_on) == (
        metadata["version"],
        "a cohort that the weights do not name; FLAIR, T1ce, T1, T2",
    )
    assert opened.task is TASKS["tumour"]
    assert opened.config.name == "inference.yaml"
    assert len(opened.checkpoint_sha256) == 64


def test_a_bundle_for_strokes_is_recognised(models):
    opened = open_bundle(ROOT / "bundles/atlas_finetune", models("atlas"))
    assert opened.modalities == ("T1",)
    assert opened.task is TASKS["stroke"]
    assert not opened.task.skull_stripped


def test_a_checkpoint_says_on_which_scans_it_was_trained(models, tmp_path):
    """The quick start's model for strokes has seen brains without skull, unlike ATLAS."""
    content = torch.load(models("atlas"), weights_only=True)
    ranges = {
        "spacing": [[2.0] * 3] * 2,
        "extent": [[150.0] * 3] * 2,
        "volume": [1.9, 2.1],
        "air": [0, 0],
        "overlap": [1, 1],
    }
    said = {"cohort": "embedded", "dataset": {"name": "atlas", "training": 20}, "measured": ranges}
    weights.write_plain(content["network"], content["metadata"] | said, tmp_path / "model.pt")
    opened = open_bundle(ROOT / "bundles/atlas_finetune", tmp_path / "model.pt")
    assert opened.name == "BrainSegFounder stage 3: stroke lesion segmentation, synthetic"
    assert (
        "synthetic: computed from an anatomical template, without patients: 20 training subjects" in opened.trained_on
    )
    assert opened.task == replace(TASKS["stroke"], skull_stripped=True)
    assert opened.spacing == (2.0, 2.0)


def test_the_inference_config_may_be_json(bundle):
    config = bundle / "configs/inference.yaml"
    assert "checkpoint" in open_bundle(bundle).options
    config.with_suffix(".json").write_text(json.dumps(yaml.safe_load(config.read_text())))
    config.unlink()
    assert open_bundle(bundle).config.name == "inference.json"
    assert "checkpoint" in open_bundle(bundle).options
    config.with_suffix(".json").write_text("no config")
    assert "not a MONAI config" in refusal(open_bundle, bundle)


def test_archives_are_refused(tmp_path):
    archive = tmp_path / "bundle.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../outside.txt", "x")
    assert "archives are not unpacked" in refusal(open_bundle, archive)
    assert not (tmp_path.parent.parent / "outside.txt").exists()


class Harm:
    def __reduce__(self):
        return Path.touch, (Path("/tmp/harm-was-done"),)


def test_a_checkpoint_that_holds_code_is_refused(bundle):
    torch.save({"state_dict": {}, "harm": Harm()}, bundle / "models/model.pt")
    assert "unpickling can run any code" in refusal(open_bundle, bundle)
    (bundle / "models/model.pt").write_bytes(pickle.dumps(Harm()))
    assert "cannot be read as tensors alone" in refusal(open_bundle, bundle)
    assert not Path("/tmp/harm-was-done").exists()


def test_a_missing_checkpoint_is_reported(bundle):
    (bundle / "models/model.pt").unlink()
    assert refusal(open_bundle, bundle) == f"checkpoint {bundle / 'models/model.pt'}: no such file"


def test_other_folders_are_refused(bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no configs/inference.yaml or .json" in refusal(open_bundle, tmp_path / "empty")
    assert "no configs/inference.yaml or .json" in refusal(open_bundle, tmp_path / "missing")
    (bundle / "configs/metadata.json").write_text("{")
    assert "not JSON" in refusal(open_bundle, bundle)
    (bundle / "configs/metadata.json").write_text("{}")
    assert "no 'network_data_format'; expected a bundle's metadata" in refusal(open_bundle, bundle)


def test_a_bundle_that_segments_something_else_is_refused(bundle):
    metadata = json.loads((bundle / "configs/metadata.json").read_text())
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = {"0": "spleen"}
    (bundle / "configs/metadata.json").write_text(json.dumps(metadata))
    assert "segments spleen; expected brats_finetune or atlas_finetune" in refusal(open_bundle, bundle)


def test_options_are_split_and_reserved_ones_are_refused():
    assert split_options("--model_size=tiny --patch_size='[64, 64, 64]'") == [
        "--model_size=tiny",
        "--patch_size=[64, 64, 64]",
    ]
    assert split_options("") == []
    for text, message in {
        "--output_dir=x": "--output_dir is set by the application",
        "--config-file=x": "--config_file is set by the application",
        "word": "word: expected options such as",
        "--name='x": "No closing quotation",
    }.items():
        with pytest.raises(InputError, match=message):
            split_options(text)


@pytest.mark.parametrize(
    "text",
    [
        " ".join(INFERENCE_OPTIONS),
        "--model_size=tiny --overlap=0.25",
        "--amp --flips=[0,1,2] --window_batch_size 4",
        "--inferer::sw_batch_size=1 --postprocessing#_mode_=default",
        "--device=$torch.device('cpu') --stitch_device=@device",
    ],
)
def test_options_of_the_bundle_are_accepted(text, bundle):
    check_options(split_options(text), open_bundle(bundle))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--overlp=0.5", "--overlp: no such option; did you mean --overlap?"),
        ("--quux::a=1", "--quux::a: no such option; expected one of the bundle's inference"),
        ("--overlap=2", "--overlap=2: expected"),
        ("--model_size=huge", "--model_size=huge: expected"),
    ],
)
def test_other_options_are_refused_before_the_work(text, message, bundle):
    found = refusal(check_options, split_options(text), open_bundle(bundle))
    assert found.startswith(f"--bundle_options: {message}")
