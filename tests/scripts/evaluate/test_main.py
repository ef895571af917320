"""`python -m scripts.evaluate` on NIfTI files: figures against direct calls of the protocols, and every error."""

import csv
import json

import numpy as np
import pytest

from common import metrics
from common.errors import InputError
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
    cases = json.loads((folder / "out/cases.json").read_text())["cases"]
    assert [
        (case, lesion["volume"], lesion["is_found"])
        for case, entry in cases.items()
        for lesion in entry["regions"]["lesion"]["lesions"]
    ] == [(case, lesion.volume, lesion.is_found) for case, measured in scores.items() for lesion in measured.lesions]
    summary = json.loads((folder / "out/summary.json").read_text())
    assert (summary["protocol"], summary["cases"], summary["missing"]) == ("atlas", 5, [])
    dice = np.mean([dice_of(*pair) for pair in arrays.values()])
    assert summary["regions"]["lesion"]["dice"]["mean"] == pytest.approx(dice)
    shown = capsys.readouterr().out.splitlines()
    assert (shown[0], shown[-1]) == ("cases scored by atlas: 5", f"{folder}/out/evaluation.html")
    assert [line.split()[2] for line in shown if line.startswith("lesion  dice ")] == [f"{dice:.4g}"]


def test_an_absent_prediction_counts_as_empty_on_request(cohort, capsys):
    folder, arrays = cohort
    (folder / "p/c1.nii.gz").unlink()
    with pytest.raises(InputError, match=r"no prediction for 1 cases \(c1\)"):
        run(folder, folder / "out")
    assert not (folder / "out").exists()
    run(folder, folder / "out", missing="worst")
    expected = metrics.protocol("atlas").measure(np.zeros(BLOBS_SHAPE), arrays["c1"][1], SPACING).values
    values = figures(folder / "out/metrics.csv")
    assert {metric: value for (case, _, metric), value in values.items() if case == "c1"} == expected
    assert expected["dice"] == expected["lesion_f1"] == 0
    assert json.loads((folder / "out/summary.json").read_text())["missing"] == ["c1"]
    assert capsys.readouterr().out.startswith("cases scored by atlas: 5, 1 without prediction counted as empty\n")


def test_the_references_can_be_the_labels_of_a_datalist(cohort):
    folder, arrays = cohort
    entries = [{"subject": case, "image": [f"p/{case}.nii.gz"], "label": f"r/{case}.nii.gz"} for case in arrays]
    head = {"name": "toy", "modalities": ["T1"], "label_convention": "atlas"}
    (folder / "toy.json").write_text(json.dumps({**head, "testing": entries}))
    run(folder, folder / "out")
    run(folder, folder / "again", references=folder / "toy.json", dataset_dir=folder, workers=3)
    for name in ("metrics.csv", "summary.json"):  # whatever the number of processes
        assert (folder / "out" / name).read_bytes() == (folder / "again" / name).read_bytes()


def test_earlier_results_are_moved_aside_and_other_files_stay(cohort):
    folder, _ = cohort
    run(folder, folder / "out")
    (folder / "out/other.txt").touch()
    run(folder, folder / "out", protocol="isles")
    assert json.loads((folder / "out/summary.json").read_text())["protocol"] == "isles"
    (earlier,) = (folder / "out").glob("earlier-*")
    assert json.loads((earlier / "summary.json").read_text())["protocol"] == "atlas"
    assert (folder / "out/other.txt").exists()
