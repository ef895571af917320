"""`python -m scripts.evaluate` on NIfTI files: figures against direct calls of the protocols, and refusals."""

import csv
import json
import shutil

import numpy as np
import pytest

from common import metrics
from scripts.evaluate.__main__ import evaluate, pool
from scripts.evaluate.cases import find_cases
from scripts.pages import evaluation as pages
from tests.oracles.volumes import dice as dice_of
from tests.scripts.evaluate.evaluations import AFFINE, BLOBS_SHAPE, blobs, save
from tests.support import refused

SPACING = (0.7, 1.3, 2.5)  # mm, of AFFINE


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """Predictions and references of five cases with labels 0 and 1, one prediction empty; the page is left out."""
    monkeypatch.setattr(pages, "write_pages", lambda folder, *_: folder / "evaluation.html")
    arrays = {f"c{number}": (blobs(2 * number) * (number != 3), blobs(2 * number + 1)) for number in range(5)}
    for case, pair in arrays.items():
        for kind, labels in zip("pr", pair, strict=True):
            save(tmp_path / f"{kind}/{case}.nii.gz", labels, AFFINE)
    return tmp_path, arrays


def run(folder, output="out", **options):
    """Score folder/p against folder/r; return the values of metrics.csv by case and metric, and summary.json."""
    paths = {"predictions": f"{folder}/p", "references": f"{folder}/r", "output": f"{folder}/{output}"}
    evaluate(**paths | {"protocol": "atlas", "workers": 1} | options)
    with (folder / output / "metrics.csv").open(newline="") as file:
        values = {(row["case"], row["metric"]): float(row["value"]) for row in csv.DictReader(file)}
    return values, read(folder / output / "summary.json")


def read(file):
    return json.loads(file.read_text())


def test_figures_are_those_of_the_protocol(cohort, capsys):
    folder, arrays = cohort
    values, summary = run(folder)
    scores = {case: metrics.protocol("atlas").measure(*pair, SPACING) for case, pair in arrays.items()}
    assert values == {(case, metric): score for case in scores for metric, score in scores[case].values.items()}
    entries = {case: entry["regions"]["lesion"] for case, entry in read(folder / "out/cases.json")["cases"].items()}
    assert {case: [lesion["volume"] for lesion in entry["lesions"]] for case, entry in entries.items()} == {
        case: [lesion.volume for lesion in measured.lesions] for case, measured in scores.items()
    }
    assert (summary["protocol"], summary["cases"], summary["missing"]) == ("atlas", 5, [])
    dice = np.mean([dice_of(*pair) for pair in arrays.values()])
    assert summary["regions"]["lesion"]["dice"]["mean"] == pytest.approx(dice)
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in shown if line.startswith("lesion  dice ")] == [f"{dice:.4g}"]


def test_an_absent_prediction_counts_as_empty_on_request(cohort):
    folder, arrays = cohort
    (folder / "p/c1.nii.gz").unlink()
    with refused(text="no prediction for 1 cases (c1)"):
        run(folder)
    assert not (folder / "out").exists()
    values, summary = run(folder, missing="worst")
    expected = metrics.protocol("atlas").measure(np.zeros(BLOBS_SHAPE), arrays["c1"][1], SPACING).values
    assert {metric: value for (case, metric), value in values.items() if case == "c1"} == expected
    assert expected["dice"] == expected["lesion_f1"] == 0
    assert summary["missing"] == ["c1"]


def test_the_references_can_be_the_labels_of_a_datalist(cohort):
    folder, arrays = cohort
    entries = [{"subject": case, "image": [f"p/{case}.nii.gz"], "label": f"r/{case}.nii.gz"} for case in arrays]
    head = {"name": "toy", "modalities": ["T1"], "label_convention": "atlas"}
    (folder / "toy.json").write_text(json.dumps({**head, "testing": entries}))
    again = run(folder, "again", references=f"{folder}/toy.json", dataset_dir=str(folder), workers=3)
    assert again == run(folder), "whatever the number of processes"
    with refused(f"--references={folder}/r"):
        run(folder, "folder", dataset_dir=str(folder))


def test_earlier_results_are_moved_aside_and_other_files_stay(cohort):
    folder, _ = cohort
    run(folder)
    (folder / "out/other.txt").touch()
    assert run(folder, protocol="isles")[1]["protocol"] == "isles"
    (earlier,) = (folder / "out").glob("earlier-*")
    assert read(earlier / "summary.json")["protocol"] == "atlas"
    assert (folder / "out/other.txt").exists()


def test_the_protocol_or_the_user_names_the_label_convention_of_a_folder(cohort):
    def convention(name, given=None):
        rules = None if name is None else metrics.protocol(name)
        return find_cases(f"{cohort[0]}/p", f"{cohort[0]}/r", rules, label_convention=given)[0]

    assert [convention("isles"), convention("brats"), convention("dice", "a=1")] == ["atlas", "brats2023", "a=1"]
    assert convention("dice") == convention("lesions") == convention(None) == "lesion=1"


def test_the_pool_has_the_figures_of_one_evaluation_of_all_cases(cohort):
    folder, arrays = cohort
    whole = run(folder)
    for case in arrays:
        part = folder / ("first" if case < "c3" else "second")
        for kind in "pr":
            (part / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / f"{kind}/{case}.nii.gz", part / kind)
    for part in ("first", "second"):
        run(folder / part)
    pool(f"{folder}/second/out", f"{folder}/first/out", output=f"{folder}/pooled", names=["2", "1"])
    assert read(folder / "pooled/summary.json") == whole[1]
    assert (folder / "pooled/metrics.csv").read_bytes() == (folder / "out/metrics.csv").read_bytes()
    cases = read(folder / "pooled/cases.json")["cases"]
    assert [entry["part"] for entry in cases.values()] == ["1"] * 3 + ["2"] * 2
    assert cases["c4"]["prediction"] == f"{folder}/second/p/c4.nii.gz"
    with refused("case c0"):
        pool(f"{folder}/out", f"{folder}/first/out", output=f"{folder}/twice")


def test_a_reference_is_not_scored_against_itself(cohort):
    folder, _ = cohort
    (folder / "p/c2.nii.gz").unlink()
    (folder / "p/c2.nii.gz").symlink_to(folder / "r/c2.nii.gz")
    with refused(f"--predictions={folder}/p", text="c2.nii.gz is the reference itself"):
        run(folder)
