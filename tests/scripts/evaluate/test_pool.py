"""Pooled evaluations: figures against a single evaluation of all cases, and refused pools."""

import json
import shutil

import pytest

from scripts.evaluate.__main__ import evaluate, pool


@pytest.fixture
def parts(cohort):
    """Evaluations of two parts of the cohort, `first` with c0 to c2 and `second` with c3 and c4, and of the whole."""
    folder, _ = cohort
    for name, cases in {"first": (0, 1, 2), "second": (3, 4), "whole": range(5)}.items():
        for kind in "pr":
            for case in cases:
                (folder / name / kind).mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / f"{kind}/c{case}.nii.gz", folder / name / kind)
        score(folder / name)
    return folder


def score(folder, **options):
    places = {"predictions": f"{folder}/p", "references": f"{folder}/r", "output": f"{folder}/out"}
    evaluate(**places | {"protocol": "atlas", "workers": 1} | options)


def content(folder, name):
    return json.loads((folder / name).read_text())


def pooled(folder, **options):
    pool(f"{folder}/second/out", f"{folder}/first/out", output=f"{folder}/pooled", **options)


def test_the_pool_has_the_figures_of_one_evaluation_of_all_cases(parts, capsys):
    capsys.readouterr()
    pooled(parts)
    shown = capsys.readouterr().out.splitlines()
    assert (shown[0], shown[-1]) == ("cases scored by atlas: 5", f"{parts}/pooled/evaluation.html")
    for name in ("metrics.csv", "summary.json"):
        assert (parts / "pooled" / name).read_bytes() == (parts / "whole/out" / name).read_bytes()
    merged, whole = (content(parts / folder, "cases.json") for folder in ("pooled", "whole/out"))
    assert {case: files["regions"] for case, files in merged["cases"].items()} == {
        case: files["regions"] for case, files in whole["cases"].items()
    }
    assert {case: files["part"] for case, files in merged["cases"].items()} == {
        **dict.fromkeys(("c0", "c1", "c2"), "first/out"),
        **dict.fromkeys(("c3", "c4"), "second/out"),
    }
    assert merged["cases"]["c4"]["prediction"] == f"{parts}/second/p/c4.nii.gz"
