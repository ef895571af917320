"""Training, evaluation and the command line measure with the same functions: their scores and pages agree."""

import csv
import json
import sys

import numpy as np
import pytest

from tests.support import TINY, execute

pytestmark = pytest.mark.slow

SIZE = ["--model_size=micro", "--patch_size=[64,64,64]", "--num_workers=0", "--split=validation"]


@pytest.mark.parametrize(("bundle", "protocol"), [("brats_finetune", "brats"), ("atlas_finetune", "atlas")])
def test_training_evaluation_and_command_line_agree(run_bundle, cohorts, tmp_path, bundle, protocol):
    trained = run_bundle(bundle, *TINY, "--learning_rate=1e-12")
    assert trained.returncode == 0, trained.stderr
    validation = json.loads((tmp_path / bundle / "run.json").read_text())["validation"]["metrics"]
    checkpoint = f"--checkpoint={tmp_path / bundle / 'models' / 'model.pt'}"
    evaluated = run_bundle(bundle, *SIZE, checkpoint, config="configs/evaluate.yaml")
    assert evaluated.returncode == 0, evaluated.stderr
    by_bundle, cohort = tmp_path / bundle, bundle.split("_")[0]
    by_command = tmp_path / "command"
    data = [f"--references={cohorts / cohort}.json", f"--dataset_dir={cohorts / cohort}", "--split=validation"]
    places = [f"--predictions={by_bundle / 'predictions'}", f"--output={by_command}", f"--protocol={protocol}"]
    scored = execute([sys.executable, "-m", "scripts.evaluate", *places, *data])
    assert scored.returncode == 0, scored.stderr
    for name in ("metrics.csv", "lesions.csv", "summary.json"):
        assert (by_bundle / name).read_bytes() == (by_command / name).read_bytes()
    with (by_command / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "dice"]
    regions = {row["region"] for row in rows}
    summary = json.loads((by_command / "summary.json").read_text())["regions"]
    for region in regions:
        values = [float(row["value"]) for row in rows if row["region"] == region]
        assert 0 < np.mean(values) < 1
        assert validation[region] == [pytest.approx(np.mean(values), rel=1e-12)]
        present = summary[region]["dice_present"]
        assert validation[f"{region}_dice_present"] == [pytest.approx(present["mean"], rel=1e-12)]
        assert validation[f"{region}_n_present"] == [present["n"]]
    evaluated_scores = json.loads((by_bundle / "run.json").read_text())["scores"]
    assert evaluated_scores["mean_present"] == {
        region: pytest.approx(summary[region]["dice_present"]["mean"], rel=1e-12) for region in regions
    }
    printed = evaluated.stdout.splitlines()
    counts = summary[next(iter(summary))]["dice"]
    assert f"{counts['n']} cases by {protocol}" in printed
    assert f"page         {by_bundle.resolve()}/evaluation.html" in printed
    pages = [(folder / "evaluation.html").read_text() for folder in (by_bundle, by_command)]
    assert len(pages[0]) > 10_000
    assert f"<h1>Evaluation of {bundle}</h1>" in pages[0]
    assert pages[0].replace(f"Evaluation of {bundle}", "Evaluation of predictions") == pages[1]
