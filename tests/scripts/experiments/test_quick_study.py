"""The study `quick` from end to end, by the commands of a user."""

import csv
import json
import sys

import pytest

from scripts.experiments.status import read_record
from tests.support import execute

JOBS = [
    *("cohorts/ukb", "cohorts/brats", "ukb", "brats", "stage1/seed0", "stage2/seed0", "two_stage/seed0"),
    *("two_stage/seed0/evaluation", "scratch/seed0", "scratch/seed0/evaluation"),
]


@pytest.mark.slow
def test_a_study_runs_from_nothing_to_scores(tmp_path):
    command = [sys.executable, "-m", "scripts.experiments"]
    place = f"--output={tmp_path / 'out'}"
    result = execute([*command, "run", "quick", place, "--jobs=2"])
    assert result.returncode == 0, result.stdout + result.stderr
    planned = execute([*command, "plan", "quick", place, f"--json={tmp_path / 'plan.json'}"])
    assert planned.returncode == 0, planned.stderr
    rows = json.loads((tmp_path / "plan.json").read_text())["jobs"]
    assert [(row["job"], row["state"]) for row in rows] == [(job, "done") for job in JOBS]
    record = read_record(tmp_path / "out/jobs/two_stage/seed0")
    assert record["state"] == "done"
    training = json.loads((tmp_path / "out/runs/two_stage/seed0/eval/run.json").read_text())
    assert training["weights"]["source"] == str(tmp_path / "out/runs/stage2/seed0/models/model.pt")
    for entry in ("two_stage", "scratch"):
        summary = json.loads((tmp_path / f"out/runs/{entry}/seed0/eval/evaluation/summary.json").read_text())
        assert (summary["cases"], list(summary["regions"])) == (2, ["WT", "TC", "ET"])
    reported = execute([*command, "report", "quick", place])
    assert reported.returncode == 0, reported.stderr
    with (tmp_path / "out/report/tables/table-8.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["row"]: row for row in csv.DictReader(file) if row["column"] == "average"}
    for row, entry in {"Two stages (micro)": "two_stage", "From scratch (micro)": "scratch"}.items():
        summary = json.loads((tmp_path / f"out/runs/{entry}/seed0/eval/evaluation/summary.json").read_text())
        means = [region["dice"]["mean"] for region in summary["regions"].values()]
        assert float(rows[row]["ours"]) == pytest.approx(sum(means) / 3)
        assert (rows[row]["reason"], rows[row]["stale"]) == ("", "0")
