"""The study `quick` from end to end, from its phantoms to its report."""

import csv
import json

import pytest

from scripts.experiments.__main__ import plan, report, run

JOBS = [
    *("cohorts/ukb", "cohorts/brats", "ukb", "brats", "stage1/seed0", "stage2/seed0", "two_stage/seed0"),
    *("two_stage/seed0/evaluation", "scratch/seed0", "scratch/seed0/evaluation"),
]


@pytest.mark.slow
def test_a_study_runs_from_nothing_to_scores(tmp_path):
    out = tmp_path / "out"
    run("quick", output=str(out), jobs=2)
    plan("quick", output=str(out), json=str(tmp_path / "plan.json"))
    rows = json.loads((tmp_path / "plan.json").read_text())["jobs"]
    assert [(row["job"], row["state"]) for row in rows] == [(job, "done") for job in JOBS]
    training = json.loads((out / "runs/two_stage/seed0/eval/run.json").read_text())
    assert training["weights"]["source"] == str(out / "runs/stage2/seed0/models/model.pt")
    report("quick", output=str(out))
    with (out / "report/tables/table-8.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["row"]: row for row in csv.DictReader(file) if row["column"] == "average"}
    for row, entry in {"Two stages (micro)": "two_stage", "From scratch (micro)": "scratch"}.items():
        summary = json.loads((out / f"runs/{entry}/seed0/eval/evaluation/summary.json").read_text())
        assert (summary["cases"], list(summary["regions"])) == (2, ["WT", "TC", "ET"])
        means = [region["dice"]["mean"] for region in summary["regions"].values()]
        assert float(rows[row]["ours"]) == pytest.approx(sum(means) / 3)
        assert (rows[row]["reason"], rows[row]["stale"]) == ("", "0")
