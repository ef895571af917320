"""Optimiser steps against the closed form."""

import json
from pathlib import Path

import pytest

from scripts.experiments.jobs import Places, jobs_of
from scripts.experiments.steps import steps_of

ROOTS = {"ukb": Path("/data"), "brats": Path("/data"), "atlas": Path("/data")}


def training(bundle, layout, output=Path("/out"), options=None, gpus=1):
    datalists = {"data": {"layout": layout}}
    runs = {"it": {"bundle": bundle, "datalist": "data", "options": options or {}}}
    return jobs_of({"title": "", "datalists": datalists, "runs": runs}, Places(output, ROOTS, gpus=gpus))["it"]


@pytest.mark.parametrize("gpus", [1, 64])
def test_stage_1_is_as_long_as_the_paper_says_on_any_number_of_gpus(gpus):
    assert steps_of(training("ukb_ssl_pretrain", "ukb", gpus=gpus), gpus) == 15_000


@pytest.mark.parametrize(("gpus", "steps"), [(1, 83_280), (2, 41_640), (4, 20_880)])
def test_a_length_in_epochs_needs_the_datalist(tmp_path, gpus, steps):
    job = training("atlas_finetune", "atlas", tmp_path, gpus=gpus)
    assert steps_of(job, gpus) is None
    (tmp_path / "datalists").mkdir()
    cases = [{"subject": f"s{number}", "image": [f"s{number}.nii.gz"]} for number in range(555)]
    content = {"name": "atlas", "modalities": ["T1"], "label_convention": "atlas", "training": cases}
    (tmp_path / "datalists/data.json").write_text(json.dumps(content))
    assert steps_of(job, gpus) == steps  # docs/how-to/use-many-gpus.md
