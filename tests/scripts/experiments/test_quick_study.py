"""The study `quick` from end to end, from its phantoms to its report."""

import csv
import json

import numpy as np
import pytest

from scripts.experiments.__main__ import experiments

SEEDS = (0, 1)
JOBS = [
    *("cohorts/ukb", "cohorts/brats", "ukb", "brats", "stage1", "stage2"),
    *(f"{arm}/seed{seed}{end}" for arm in ("two_stage", "scratch") for seed in SEEDS for end in ("", "/evaluation")),
]


@pytest.mark.slow
def test_a_study_runs_from_nothing_to_scores(tmp_path):
    out = tmp_path / "out"
    experiments("run", "quick", output=str(out), jobs=2)
    experiments("plan", "quick", output=str(out), json=str(tmp_path / "plan.json"))
    rows = json.loads((tmp_path / "plan.json").read_text())["jobs"]
    assert [(row["job"], row["state"]) for row in rows] == [(job, "done") for job in JOBS]
    assert {row["steps"] for row in rows if "steps" in row} == {2}
    training = json.loads((out / "runs/two_stage/seed1/eval/run.json").read_text())
    assert training["weights"]["source"] == str(out / "runs/stage2/models/model.pt")
    experiments("report", "quick", output=str(out))
    with (out / "report/tables/table-8.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["row"]: row for row in csv.DictReader(file) if row["column"] == "average"}
    for row, arm in {"Two stages (micro)": "two_stage", "From scratch (micro)": "scratch"}.items():
        means = []
        for seed in SEEDS:
            summary = json.loads((out / f"runs/{arm}/seed{seed}/eval/evaluation/summary.json").read_text())
            assert (summary["cases"], list(summary["regions"])) == (2, ["WT", "TC", "ET"])
            means += [region["dice"]["mean"] for region in summary["regions"].values()]
        assert float(rows[row]["ours"]) == pytest.approx(np.mean(means))
        assert (rows[row]["reason"], rows[row]["stale"], rows[row]["runs_done"]) == ("", "0", "2")
    assert rows["Two stages (micro)"]["trainings"] == rows["Two stages (micro)"]["baseline_trainings"] == "2"
