"""`python -m scripts.mine` on the six heads of a cohort: planned, trained, and by folds."""

import csv
import json
import sys

import pytest
import yaml

from tests.support import execute

TINY = {"patch_size": [32, 32, 64], "iterations": 3, "val_interval": 3, "warmup_iterations": 0}


def edit(file, **sections):
    plan = yaml.safe_load(file.read_text())
    for section, options in sections.items():
        plan[section] |= options
    file.write_text(yaml.safe_dump(plan))


@pytest.mark.slow
def test_a_folder_of_scans_becomes_a_model_and_an_ensemble_of_folds(cohorts, tmp_path):
    output, loss = tmp_path / "out", tmp_path / "loss.yaml"
    command = [sys.executable, "-m", "scripts.mine", f"--output={output}"]
    planned = execute([*command, str(cohorts / "brats"), "--hours=0.01", "--device=cpu"])
    assert planned.returncode == 0, planned.stderr
    assert "a trial of the commands only" in planned.stdout
    assert [path.name for path in output.iterdir() if path.name[0] != "."] == ["plan.yaml"], "a plan does nothing yet"

    loss.write_text("loss: {_target_: DiceFocalLoss, sigmoid: true}")
    edit(output / "plan.yaml", train=TINY | {"overlays": [str(loss)]}, regions={"tumour": [1, 2, 4]})
    done = execute([*command, "--yes"])
    assert done.returncode == 0, done.stderr
    record = json.loads((output / "training/run.json").read_text())
    assert (record["config"]["iterations"], record["config"]["components"]["loss"]["_target_"]) == (3, "DiceFocalLoss")
    assert "<h1>Evaluation of brats</h1>" in (output / "evaluation/evaluation.html").read_text()
    assert "Run report: brats" in (output / "report.html").read_text()

    edit(output / "plan.yaml", train={"seed": "{fold}"}, evaluate={"overlap": 0.25})
    result = execute([*command, "--yes", "--folds=3"])
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("done before") == 3  # list, check and split
    listed = json.loads((output / "datalist.json").read_text())
    with (output / "folds/pooled/metrics.csv").open(newline="") as file:
        pooled = {line["case"] for line in csv.DictReader(file)}
    assert pooled == {entry["subject"] for split in ("training", "validation") for entry in listed[split]}
    for fold in range(3):
        place = output / f"folds/fold{fold}"
        held_out = {entry["subject"] for entry in json.loads((place / "datalist.json").read_text())["testing"]}
        assert {path.name.removesuffix(".nii.gz") for path in place.glob("evaluation/predictions/*.gz")} == held_out
        assert json.loads((place / "training/run.json").read_text())["config"]["seed"] == fold
        assert json.loads((place / "evaluation/run.json").read_text())["config"]["overlap"] == 0.25
    ensemble = json.loads((output / "folds/ensemble/run.json").read_text())
    assert len(ensemble["checkpoints"]) == 3
    predicted = {path.name for path in (output / "folds/ensemble/predictions").glob("*.gz")}
    assert predicted == {f"{entry['subject']}.nii.gz" for entry in listed["testing"]}
