"""`python -m scripts.folds`: each held-out case is scored once, by the model of its fold; repeated, it continues."""

import csv
import json
import sys

import pytest

from tests.support import execute


@pytest.mark.slow
def test_every_case_is_scored_by_the_model_that_has_not_seen_it(cohorts, tmp_path):
    words = [
        f"--datalist={cohorts / 'brats.json'}",
        f"--dataset_dir={cohorts / 'brats'}",
        f"--output={tmp_path / 'out'}",
    ]
    words += ["--folds=2", "--fold_to=validation", "--jobs=2", "--overlays=quickstart", "--patch_size=32,32,64"]
    words += ["--iterations=2", "--val_interval=2", "--warmup_iterations=1", "--seed={fold}", "--overlap=0.25"]
    command = [sys.executable, "-m", "scripts.folds", "brats_finetune", *words]
    result = execute(command)
    assert result.returncode == 0, result.stderr
    with (tmp_path / "out/pooled/metrics.csv").open(newline="") as file:
        scored = {line["case"] for line in csv.DictReader(file)}
    listed = json.loads((cohorts / "brats.json").read_text())
    assert scored == {entry["subject"] for split in ("training", "validation") for entry in listed[split]}
    for fold in (0, 1):
        place = tmp_path / f"out/fold{fold}"
        held_out = {entry["subject"] for entry in json.loads((place / "datalist.json").read_text())["validation"]}
        assert {path.name.removesuffix(".nii.gz") for path in place.glob("evaluation/predictions/*")} >= held_out
        assert json.loads((place / "training/run.json").read_text())["config"]["seed"] == fold
        assert json.loads((place / "evaluation/run.json").read_text())["config"]["overlap"] == 0.25
    again = execute(command)
    assert again.stdout.count("done before") == 4
