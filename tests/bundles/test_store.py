"""`python -m scripts.store`, and trainings that read what it prepared."""

import json
import shutil
import sys
from itertools import islice

import pytest
import torch

from common.errors import input_error_message
from tests.bundles.workflows import workflow
from tests.support import MODALITIES, execute

START = {"num_workers": 0, "patch_size": [64] * 3, "spacing": [2] * 3, "global_batch_size": "null", "batch_size": 2}

SPELT = {"patch_size": "(64,64,64)", "spacing": "2,2,2", "learning_rate": "1e-4"}  # as MONAI's command takes them, too


@pytest.fixture
def scans(cohorts, tmp_path):
    """A copy of a bundle's cohort that a test may change: its folder, and its datalist."""

    def scans(bundle):
        name = bundle.split("_")[0]
        if not (tmp_path / name).exists():
            shutil.copytree(cohorts / name, tmp_path / name)
            shutil.copy(cohorts / f"{name}.json", tmp_path)
        return tmp_path / name, tmp_path / f"{name}.json"

    return scans


def prepare(bundle, folder, scans, **options):
    places = dict(zip(("dataset_dir", "datalist"), scans, strict=True))
    words = [
        f"--{name}={value}".replace(" ", "")
        for name, value in (START | SPELT | {"model_size": "micro"} | places | options).items()
    ]
    return execute([sys.executable, "-m", "scripts.store", bundle, f"--store={folder}", "--jobs=2", *words])


def batches(bundle, scans, out, count=3, **options):
    places = dict(zip(("dataset_dir", "datalist"), map(str, scans), strict=True))
    started = workflow(bundle, "train", "train", out, out / "eval", **(START | places | options))
    return list(islice(started.parser.get_parsed_content("train::dataloader"), count))


def refusal(bundle, scans, out, **options):
    with pytest.raises(Exception) as error:  # noqa: PT011, MONAI wraps it in its own
        batches(bundle, scans, out, **options)
    return input_error_message(error.value)


@pytest.mark.parametrize("bundle", ["ukb_ssl_pretrain", "brats_finetune", "atlas_finetune"])
def test_a_training_reads_the_same_crops_from_a_store(bundle, scans, tmp_path):
    store, places = tmp_path / "store", scans(bundle)
    result = prepare(bundle, store, places)
    assert result.returncode == 0, result.stderr
    subjects = len(json.loads(places[1].read_text())["training"])
    assert f"{subjects} subjects: 0 are there, {subjects} to prepare" in result.stdout
    several = {"crops_per_volume": 2} if bundle == "ukb_ssl_pretrain" else {}
    plain = batches(bundle, places, tmp_path, **several)
    for number, batch in enumerate(batches(bundle, places, tmp_path, store=str(store), **several)):
        for key in {"image", "label"} & plain[0].keys():
            assert torch.equal(batch[key], plain[number][key])
            assert torch.equal(batch[key].affine, plain[number][key].affine)
    assert plain[0]["image"].shape == (2, len(MODALITIES[bundle]), 64, 64, 64)
    assert f"{subjects} are there, 0 to prepare" in prepare(bundle, store, places).stdout


def test_a_store_is_for_its_files_and_settings_only(scans, tmp_path):
    store, places = tmp_path / "store", scans("brats_finetune")
    assert prepare("brats_finetune", store, places).returncode == 0
    read = {"store": str(store)}
    assert "lacks 3 of 3 subjects" in refusal("brats_finetune", places, tmp_path, normalization="nonzero", **read)
    assert "a store needs no cache" in refusal("brats_finetune", places, tmp_path, cache_rate=1.0, **read)
    label = next(places[0].rglob("*_seg.nii.gz"))
    label.touch()
    assert "lacks 1 of 3 subjects" in refusal("brats_finetune", places, tmp_path, **read)
    assert "2 are there, 1 to prepare" in prepare("brats_finetune", store, places).stdout
    assert len(batches("brats_finetune", places, tmp_path, **read)) == 3


def test_a_changed_file_is_not_trained_on(scans, tmp_path):
    store, places = tmp_path / "store", scans("atlas_stage2")
    assert prepare("atlas_stage2", store, places).returncode == 0
    for file in store.glob("*.image.b2nd"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    assert "its checksum differs" in refusal("atlas_stage2", places, tmp_path, store=str(store))


def test_a_subject_that_cannot_be_read_does_not_stop_the_others(scans, tmp_path):
    store, places = tmp_path / "store", scans("atlas_stage2")
    entries = json.loads(places[1].read_text())["training"]
    broken = places[0] / entries[1]["image"][0]
    broken.write_bytes(broken.read_bytes()[:-2000])
    result = prepare("atlas_stage2", store, places)
    assert result.returncode == 1
    assert f"subject {entries[1]['subject']}: {broken}" in result.stderr
    assert f"1 of {len(entries)} subjects are not prepared" in result.stderr
    assert len(list(store.glob("*.json"))) == len(entries) - 1
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rat": 1}, "learning_rat"),
        ({"normalization": "skull"}, "normalization=skull"),
        ({"jobs": -1}, "jobs=-1"),
        ({"datalist": "nowhere.json"}, "nowhere.json"),
    ],
)
def test_a_mistake_ends_in_one_line(scans, tmp_path, options, message):
    result = prepare("atlas_stage2", tmp_path / "store", scans("atlas_stage2"), **options)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
