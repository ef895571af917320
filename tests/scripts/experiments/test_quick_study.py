"""The study `quick` from end to end, by the commands of a user."""

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
