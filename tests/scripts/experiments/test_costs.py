"""Costs: steps against the closed form, and a measured step."""

import json
from pathlib import Path

import pytest

from scripts.experiments.costs import batches_of_a_step, key_of, measure, settings_of, steps_of
from scripts.experiments.jobs import Places, jobs_of

ROOTS = {"ukb": Path("/data"), "brats": Path("/data"), "atlas": Path("/data")}


def training(bundle, layout, output=Path("/out"), options=None, gpus=1):
    datalists = {"data": {"layout": layout}}
    runs = {"it": {"bundle": bundle, "datalist": "data", "options": options or {}}}
    return jobs_of({"title": "", "datalists": datalists, "runs": runs}, Places(output, ROOTS, gpus=gpus))["it"]


@pytest.mark.parametrize(("gpus", "batches"), [(1, 64), (8, 8), (64, 1)])
def test_stage_1_is_as_long_as_the_paper_says_on_any_number_of_gpus(gpus, batches):
    job = training("ukb_ssl_pretrain", "ukb", gpus=gpus)
    assert steps_of(job, gpus) == (15_000, "")
    assert batches_of_a_step(settings_of(job), gpus) == batches  # of 2 crops, 128 a step


@pytest.mark.parametrize(("gpus", "steps"), [(1, 83_280), (2, 41_640), (4, 20_880)])
def test_a_length_in_epochs_needs_the_datalist(tmp_path, gpus, steps):
    job = training("atlas_finetune", "atlas", tmp_path, gpus=gpus)
    assert steps_of(job, gpus) == (None, "in epochs, and the datalist is not made yet")
    (tmp_path / "datalists").mkdir()
    cases = [{"subject": f"s{number}", "image": [f"s{number}.nii.gz"]} for number in range(555)]
    content = {"name": "atlas", "modalities": ["T1"], "label_convention": "atlas", "training": cases}
    (tmp_path / "datalists/data.json").write_text(json.dumps(content))
    assert steps_of(job, gpus) == (steps, "")  # docs/scale.md


def test_trainings_that_differ_in_seed_length_or_places_cost_the_same():
    keys = {
        key_of(training("brats_stage2", "brats", output, {"seed": seed, "iterations": 500 * seed}))
        for output in (Path("/a"), Path("/b"))
        for seed in (1, 2)
    }
    assert len(keys) == 1
    assert key_of(training("brats_stage2", "brats", options={"model_size": "base"})) not in keys


@pytest.mark.slow
def test_a_step_is_measured(tmp_path):
    options = {"model_size": "micro", "patch_size": [64, 64, 64], "num_workers": 0, "batch_size": 2}
    cost = measure(training("atlas_stage2", "atlas", tmp_path, options))
    assert cost["seconds"] > 0
    assert cost["memory"].endswith("GiB RAM")
    assert 0 < cost["checkpoint"] < cost["state"] < 4 * cost["checkpoint"]  # weights, and two moments beside
