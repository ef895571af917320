"""inference.yaml of the self-supervised bundles: a vector for each volume, as a user gets it."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch

from common.errors import input_error_message
from common.ssl.networks import SSLHead
from tests.bundles.workflows import SSL, config, without_name, workflow
from tests.support import execute

SIZE = ["--model_size=micro", "--patch_size=[64,64,64]", "--num_workers=0"]
CHANNELS = {"ukb": ["T1", "FLAIR"], "brats": ["FLAIR", "T1ce", "T1", "T2"], "atlas": ["T1"]}


@pytest.fixture
def checkpoint(tmp_path):
    """Writes a bundle's network as it is before any training."""

    def write(bundle):
        modalities = CHANNELS[bundle.split("_")[0]]
        torch.manual_seed(0)
        network = SSLHead(len(modalities), "micro")
        metadata = {"modalities": modalities, "model_size": "micro"}
        torch.save({"network": network.state_dict(), "metadata": metadata}, tmp_path / "model.pt")
        return str(tmp_path / "model.pt")

    return write


def test_the_three_bundles_embed_alike():
    first, *others = (without_name(config(bundle, "inference"), bundle) for bundle in SSL)
    for other in others:
        assert {key for key in first | other if first.get(key) != other.get(key)} == {"modalities"}


@pytest.mark.parametrize("bundle", SSL)
def test_training_and_embedding_prepare_an_image_alike_and_build_the_same_network(bundle):
    train, inference = config(bundle), config(bundle, "inference")
    steps = inference["preprocessing"]["transforms"]
    checks = ("common.inference.CheckFilesd", "common.data.CheckPreparationd")
    prepared = [step for step in steps if step["_target_"] not in checks]
    assert prepared == train["deterministic_transforms"]
    assert inference["modalities"] == f"$@trained.get('modalities', {train['modalities']})"
    network = {
        key: value for key, value in train["network_def"].items() if key not in ("use_checkpoint", "head_tokens")
    }
    assert inference["network_def"] == network


@pytest.mark.parametrize("bundle", SSL)
def test_embedding_has_the_properties_that_monai_requires(bundle, cohorts, tmp_path, checkpoint):
    options = {"checkpoint": checkpoint(bundle), "patch_size": [64, 64, 64]}
    assert workflow(bundle, "inference", "infer", cohorts, tmp_path, **options).check_properties() == []


def embeddings(folder):
    with np.load(folder / "embeddings.npz", allow_pickle=False) as content:
        return dict(content)


@pytest.mark.slow
@pytest.mark.parametrize("bundle", SSL)
def test_a_split_is_embedded(bundle, cohorts, tmp_path, checkpoint):
    options = {"checkpoint": checkpoint(bundle), "patch_size": [64, 64, 64], "num_workers": 0, "split": "validation"}
    workflow(bundle, "inference", "infer", cohorts, tmp_path / bundle, **options, levels=True, pictures=1).run()
    found = embeddings(tmp_path / bundle)
    validation = json.loads((cohorts / f"{bundle.split('_')[0]}.json").read_text())["validation"]
    subjects = sorted(entry["subject"] for entry in validation)
    assert found["subject"].tolist() == subjects
    assert set(found["split"].tolist()) == {"validation"}
    assert [found[f"level_{level}"].shape for level in range(5)] == [(len(subjects), 12 * 2**n) for n in range(5)]
    np.testing.assert_array_equal(found["embedding"], found["level_4"])
    assert all(np.isfinite(found[f"level_{level}"]).all() for level in range(5))
    assert len(np.unique(found["embedding"], axis=0)) == len(subjects)
    settings = json.loads(str(found["settings"]))
    assert settings["modalities"] == CHANNELS[bundle.split("_")[0]]
    pictures = [path.stem for path in (tmp_path / bundle / "pictures").iterdir()]
    assert pictures == [validation[0]["subject"]]


@pytest.mark.slow
def test_a_file_that_is_cut_off_is_named_and_the_others_are_embedded(run_bundle, cohorts, tmp_path, checkpoint):
    copy = shutil.copytree(cohorts / "atlas", tmp_path / "atlas")
    first, *others = json.loads((cohorts / "atlas.json").read_text())["validation"]
    broken = copy / first["image"][0]
    broken.write_bytes(broken.read_bytes()[:1000])
    options = [*SIZE, f"--checkpoint={checkpoint('atlas_stage2')}", f"--dataset_dir={copy}", "--pictures=1"]
    options.append("--split=validation")
    result = run_bundle("atlas_stage2", *options, config="configs/inference.yaml")
    assert result.returncode == 1
    assert f"failed: subject {first['subject']}: " in result.stderr
    assert broken.name in result.stderr
    found = embeddings(tmp_path / "atlas_stage2")
    assert found["subject"].tolist() == sorted(entry["subject"] for entry in others)
    assert [path.stem for path in (tmp_path / "atlas_stage2" / "pictures").iterdir()] == [others[0]["subject"]]


@pytest.mark.parametrize("option", [{"levels": "maybe"}, {"pictures": -1}, {"overlap": 1}, {"checkpoint": "gone.pt"}])
def test_an_option_that_cannot_be(option, cohorts, tmp_path, checkpoint):
    options = {"checkpoint": checkpoint("atlas_stage2"), "patch_size": [64, 64, 64]} | option
    with pytest.raises(RuntimeError, match="Failed to") as error:
        workflow("atlas_stage2", "inference", "infer", cohorts, tmp_path / "out", **options)
    assert re.match(r"(--\w+=\S+|checkpoint gone.pt): (expected|no such file)", input_error_message(error.value))
    assert not list(tmp_path.rglob("embeddings.npz"))


@pytest.mark.slow
def test_a_persons_second_visit_is_the_nearest(run_bundle, tmp_path, checkpoint):
    """The scanner varies from visit to visit, the head does not; a network that was never trained tells heads apart.

    It says that vectors are of the volume, and not of its noise; heads of the embedded cohort differ a lot.
    """
    people = ["--subjects=8", "--second_visits=8", "--spacing=4", f"--output={tmp_path / 'ukb'}", "--workers=1"]
    split = [f"--root={tmp_path / 'ukb'}", f"--output={tmp_path / 'ukb.json'}", "--validation=6"]
    execute([sys.executable, "-m", "scripts.phantoms", "make", "--layout=ukb", *people])
    execute([sys.executable, "-m", "scripts.datalists", "ukb", *split])
    data = [f"--dataset_dir={tmp_path / 'ukb'}", f"--datalist={tmp_path / 'ukb.json'}", "--pictures=0"]
    options = [*SIZE, *data, f"--checkpoint={checkpoint('ukb_ssl_pretrain')}"]
    result = run_bundle("ukb_ssl_pretrain", *options, config="configs/inference.yaml")
    assert result.returncode == 0, result.stderr
    found = embeddings(tmp_path / "ukb_ssl_pretrain")
    people = [subject.split("_")[0] for subject in found["subject"].tolist()]
    assert len(people) == 16
    listed = json.loads((tmp_path / "ukb.json").read_text())
    split_of = {entry["subject"]: split for split in ("training", "validation") for entry in listed[split]}
    assert dict(zip(found["subject"].tolist(), found["split"].tolist(), strict=True)) == split_of
    assert "16 subjects embedded: vectors of 192 values" in result.stdout
    vectors = found["embedding"] - found["embedding"].mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -2)
    assert [people[nearest] for nearest in cosine.argmax(axis=1)] == people
