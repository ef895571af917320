"""Training, evaluation and the command line measure with the same functions: their scores and pages agree."""

import csv
import json
import sys

import numpy as np
import pytest

from tests.support import COHORT_OF, execute

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("bundle", "protocol"), [("brats_finetune", "brats"), ("atlas_finetune", "atlas")])
def test_training_evaluation_and_command_line_agree(run_bundle, cohorts, trained, tmp_path, bundle, protocol):
    validation = json.loads((trained(bundle) / "run.json").read_text())["validation"]["metrics"]
    by_bundle, by_command, cohort = tmp_path / bundle, tmp_path / "command", COHORT_OF[bundle]
    options = [f"--checkpoint={trained(bundle) / 'models/model.pt'}", "--num_workers=0", "--split=validation"]
    options += ["--amp=false"]  # as the training
    evaluated = run_bundle(bundle, *options, config="configs/evaluate.yaml")
    assert evaluated.returncode == 0, evaluated.stderr
    data = [f"--references={cohorts / cohort}.json", f"--dataset_dir={cohorts / cohort}", "--split=validation"]
    places = [f"--predictions={by_bundle / 'predictions'}", f"--output={by_command}", f"--protocol={protocol}"]
    scored = execute([sys.executable, "-m", "scripts.evaluate", *places, *data])
    assert scored.returncode == 0, scored.stderr
    for name in ("metrics.csv", "lesions.csv", "summary.json"):
        assert (by_bundle / name).read_bytes() == (by_command / name).read_bytes()
    with (by_command / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "dice"]
    summary = json.loads((by_command / "summary.json").read_text())["regions"]
    for region in {row["region"] for row in rows}:
        values = [float(row["value"]) for row in rows if row["region"] == region]
        assert 0 < np.mean(values) < 1
        assert validation[region] == [pytest.approx(np.mean(values), rel=1e-12)]
        present = summary[region]["dice_present"]
        assert validation[f"{region}_dice_present"] == [pytest.approx(present["mean"], rel=1e-12)]
        assert validation[f"{region}_n_present"] == [present["n"]]
    record = json.loads((by_bundle / "run.json").read_text())
    assert record["workflow"] == "evaluate"
    assert record["made_up"], "as the files say"
    assert f"page         {by_bundle.resolve()}/evaluation.html" in evaluated.stdout.splitlines()
    pages = [
        (folder / "evaluation.html").read_text().partition("About this page")[0] for folder in (by_bundle, by_command)
    ]
    assert pages[0].replace(f"Evaluation of {bundle}", "Evaluation of predictions") == pages[1]
