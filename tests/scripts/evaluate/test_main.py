"""`python -m scripts.evaluate` on NIfTI files: figures against direct calls of the protocols, and every error."""

import csv
import json

import numpy as np
import pytest

from common import metrics
from common.errors import InputError
from common.pages import evaluation as pages
from scripts.evaluate.__main__ import evaluate
from tests.oracles.volumes import dice as dice_of
from tests.scripts.evaluate.evaluations import BLOBS_SHAPE

SPACING = (0.7, 1.3, 2.5)  # mm, of AFFINE


def figures(path):
    return {(row["case"], row["region"], row["metric"]): float(row["value"]) for row in rows(path)}


def run(folder, output="out", **options):
    arguments = {"predictions": folder / "p", "references": folder / "r", "protocol": "atlas", "workers": 1} | options
    evaluate(**{name: value if name == "workers" else str(value) for name, value in arguments.items()}, output=output)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_figures_are_those_of_the_protocol(cohort, capsys):
    folder, arrays = cohort
    run(folder, folder / "out")
    scores = {case: metrics.protocol("atlas").measure(*pair, SPACING) for case, pair in arrays.items()}
    assert figures(folder / "out/metrics.csv") == {
        (case, "lesion", metric): value
        for case, measured in scores.items()
        for metric, value in measured.values.items()
    }
    lesions = [
        (case, lesion.volume, lesion.is_found) for case, measured in scores.items() for lesion in measured.lesions
    ]
    listed = rows(folder / "out/lesions.csv")
    assert [(row["case"], float(row["volume_mm3"]), bool(int(row["found"]))) for row in listed] == lesions
    summary = json.loads((folder / "out/summary.json").read_text())
    assert (summary["protocol"], summary["cases"], summary["missing"]) == ("atlas", 5, [])
    dice = np.mean([dice_of(*pair) for pair in arrays.values()])
    assert summary["regions"]["lesion"]["dice"]["mean"] == pytest.approx(dice)
    assert (folder / "out/evaluation.html").read_text() == "page of p: 5 cases"
    shown = capsys.readouterr().out.splitlines()
    assert (shown[0], shown[-1]) == ("5 cases by atlas", f"{folder}/out/evaluation.html")
    assert [line.split()[2] for line in shown if line.startswith("lesion  dice ")] == [f"{dice:.4g}"]


def test_an_absent_prediction_counts_as_empty_on_request(cohort, capsys):
    folder, arrays = cohort
    (folder / "p/c1.nii.gz").unlink()
    with pytest.raises(InputError, match="no prediction for 1 of 5 cases: c1; "):
        run(folder, folder / "out")
    assert not (folder / "out").exists()
    run(folder, folder / "out", missing="worst")
    expected = metrics.protocol("atlas").measure(np.zeros(BLOBS_SHAPE), arrays["c1"][1], SPACING).values
    values = figures(folder / "out/metrics.csv")
    assert {metric: value for (case, _, metric), value in values.items() if case == "c1"} == expected
    assert expected["dice"] == expected["lesion_f1"] == 0
    assert json.loads((folder / "out/summary.json").read_text())["missing"] == ["c1"]
    assert capsys.readouterr().out.startswith("5 cases by atlas, 1 without prediction counted as empty\n")


def test_the_references_can_be_the_labels_of_a_datalist(cohort):
    folder, arrays = cohort
    entries = [{"subject": case, "image": [f"p/{case}.nii.gz"], "label": f"r/{case}.nii.gz"} for case in arrays]
    head = {"name": "toy", "modalities": ["T1"], "label_convention": "atlas"}
    (folder / "toy.json").write_text(json.dumps({**head, "testing": entries}))
    run(folder, folder / "out")
    run(folder, folder / "again", references=folder / "toy.json", dataset_dir=folder, workers=3)
    for name in ("metrics.csv", "lesions.csv", "summary.json"):  # whatever the number of processes
        assert (folder / "out" / name).read_bytes() == (folder / "again" / name).read_bytes()


def test_earlier_results_are_replaced_and_a_page_that_fails_leaves_no_older_one(cohort, monkeypatch, capsys):
    folder, _ = cohort
    run(folder, folder / "out")
    (folder / "out/other.txt").touch()

    def fail(*_):
        raise ZeroDivisionError("no page")

    monkeypatch.setattr(pages, "page_of", fail)
    run(folder, folder / "out", protocol="isles")
    printed = capsys.readouterr()
    assert f"warning: {folder}/out/evaluation.html was not drawn: ZeroDivisionError: no page\n" in printed.err
    assert printed.out.splitlines()[-1] == f"{folder}/out/metrics.csv"
    assert json.loads((folder / "out/summary.json").read_text())["protocol"] == "isles"
    assert not (folder / "out/evaluation.html").exists()
    assert (folder / "out/other.txt").exists()
