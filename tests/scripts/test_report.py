"""The page about a folder of runs: scores, curves, weights; what runs recorded is escaped, and parts may be missing."""

import json
import re

import numpy as np
import pytest
from matplotlib.image import imsave

from scripts.report import report
from tests.html_pages import Page, text_of

EMBEDDED = "they prove that the software works, not the medicine"


def record(bundle, minute=0, source=None):
    terms = ["total"] if bundle.endswith("finetune") else ["total", "reconstruction"]
    tensors = {"changed": ["proj.weight: T1 -> T2"], "missing": ["decoder.one", "decoder.two"]}
    weights = {"source": source, "matched": 120, "changed": 1, "missing": 2, "unexpected": 0, "tensors": tensors}
    return {
        "bundle": bundle,
        "workflow": "train",
        "finished": True,
        "command": f"python -m monai.bundle run --bundle_root bundles/{bundle}",
        "started": f"2026-11-20T08:{minute:02}:00+00:00",
        "seconds": 7620.4,
        "peak_memory_gib": 1.5,
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "git_commit": "abcdef",
        "made_up": True,
        "config": {"learning_rate": "0.001", "modalities": ["T1", "T2"]},
        "weights": weights,
        "train": {
            "iteration": [1, 2, 3],
            "loss": {term: [4.0, None, 1.0] for term in terms},
            "learning_rate": [None, 1, 2],
        },
        "validation": {
            "iteration": [0, 4],
            "metrics": {"dice": [0.1, 0.625], "WT_hd95": [374.0, 12.5], "total": [2, 1]},
        },
        "pictures": [],
    }


def put(folder, content, means=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(content))
    regions = {
        region: {"dice": {"mean": mean, "n": 3}, "dice_present": {"mean": present, "n": n}}
        for region, (mean, present, n) in (means or {}).items()
    }
    if means:
        (folder / "summary.json").write_text(json.dumps({"cases": 3, "regions": regions}))
        (folder / "evaluation.html").touch()
    return folder


def page_of(folder):
    report(str(folder))
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def runs(tmp_path):
    """A stage 1, a fine-tuning that starts from it, and its evaluation."""
    put(tmp_path / "ukb_ssl_pretrain", record("ukb_ssl_pretrain") | {"pictures": ["pictures/inpainting.png"]})
    (tmp_path / "ukb_ssl_pretrain/pictures").mkdir()
    imsave(tmp_path / "ukb_ssl_pretrain/pictures/inpainting.png", np.eye(8))
    put(tmp_path / "brats_finetune", record("brats_finetune", 1, "ukb_ssl_pretrain/model.pt"))
    evaluated = record("brats_finetune", 2) | {"workflow": "evaluate", "train": {}, "validation": {}, "weights": None}
    means = {"TC": (0.55, 0.7, 3), "ET": (0.75, None, 0)}
    put(tmp_path / "brats_finetune/evaluation", evaluated, means)
    return tmp_path


def test_the_page_shows_each_run_and_loads_nothing(runs):
    page = page_of(runs)
    text, parsed = text_of(page), Page(page)
    assert parsed.open == []
    for words in ("TC 0.550 0.700 3", "ET 0.750 – 0", "decoder.two", record("ukb_ssl_pretrain")["command"], EMBEDDED):
        assert words in text
    assert "brats_finetune: hd95 (mm)" in page
    assert not re.search(r' (?:src|href|srcset|action)="(?!#|data:image/png;base64,|brats_finetune/)', page)
