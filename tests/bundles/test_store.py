"""`python -m scripts.store`, and trainings that read its stores."""

import json
import os
import shutil
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch

from common.errors import explained
from tests.bundles.workflows import PATCH, workflow
from tests.oracles import nifti
from tests.support import COHORT_OF, execute

START = {"patch_size": PATCH, "spacing": [2] * 3, "global_batch_size": "null", "batch_size": 2}
SPELT = {"patch_size": "(32,32,64)", "spacing": "2,2,2", "learning_rate": "1e-4"}  # as MONAI's command takes them, too


@pytest.fixture
def scans(cohorts, tmp_path):
    """Function: copy a bundle's cohort for changes by a test; return the options for its folder and datalist."""

    def scans(bundle):
        name = COHORT_OF[bundle]
        shutil.copytree(cohorts / name, tmp_path / name)
        shutil.copy(cohorts / f"{name}.json", tmp_path)
        return {"dataset_dir": str(tmp_path / name), "datalist": str(tmp_path / f"{name}.json")}

    return scans


def prepare(bundle, folder, scans):
    values = START | SPELT | {"model_size": "micro"} | scans
    words = [f"--{name}={value}".replace(" ", "") for name, value in values.items()]
    return execute([sys.executable, "-m", "scripts.store", bundle, f"--store={folder}", "--jobs=2", *words])


def batches(bundle, scans, out, count=3, **options):
    started = workflow(bundle, "train", out, out / "eval", **(START | scans | options))
    return list(islice(started.parser.get_parsed_content("train::dataloader"), count))


def refusal(*arguments, **options):
    with pytest.raises(Exception) as error:  # noqa: PT011, MONAI wraps it in its own
        batches(*arguments, **options)
    return explained(error.value)


@pytest.mark.parametrize("bundle", ["ukb_ssl_pretrain", "atlas_finetune"])
def test_a_training_reads_the_same_crops_from_a_store(bundle, scans, tmp_path):
    store, places = tmp_path / "store", scans(bundle)
    for file in Path(places["dataset_dir"]).rglob("*.nii.gz"):
        nifti.contradict(file)
    result = prepare(bundle, store, places)
    assert result.returncode == 0, result.stderr
    assert "sform and qform place voxels up to 40 mm apart; expected one position" in result.stderr
    assert "subjects: 3 (0 stored, 3 to prepare)" in result.stdout
    several = {"crops_per_volume": 2} if bundle == "ukb_ssl_pretrain" else {}
    plain, stored = (batches(bundle, places, tmp_path, store=value, **several) for value in ("null", str(store)))
    for mine, expected in zip(stored, plain, strict=True):
        for key in {"image", "label"} & expected.keys():
            assert torch.equal(mine[key], expected[key])
            assert torch.equal(mine[key].affine, expected[key].affine)


def test_a_store_is_for_its_files_and_settings_only(scans, tmp_path, monkeypatch):
    bundle, store, places = "brats_finetune", tmp_path / "store", scans("brats_finetune")
    weights = {"pretrained": "stage2.pt", "pretrained_lr_factor": 0.1}  # of the training, not read here
    assert prepare(bundle, store, places | weights).returncode == 0
    monkeypatch.setenv("HOME", str(tmp_path))
    read = {"store": "~/store"}
    assert "lacks 3 of 3 subjects" in refusal(bundle, places, tmp_path, normalization="nonzero", **read)
    entry = json.loads((tmp_path / "brats.json").read_text())["training"][0]
    label = tmp_path / "brats" / entry["label"]
    times = label.stat().st_atime_ns, label.stat().st_mtime_ns
    label.write_bytes(label.read_bytes())
    os.utime(label, ns=times)  # the same size and modification time
    assert "lacks 1 of 3 subjects" in refusal(bundle, places, tmp_path, **read)
    assert "2 stored, 1 to prepare" in prepare(bundle, store, places).stdout
    assert len(batches(bundle, places, tmp_path, cache_rate=1.0, **read)) == 3
