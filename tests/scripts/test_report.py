"""The page about a folder of runs: scores, curves, weights; what runs recorded is escaped, and parts may be missing."""

import json
import re

import numpy as np
from matplotlib.image import imsave

from scripts.report import report
from tests.html_pages import text_of

EMBEDDED = "they prove that the software works, not the medicine"


def put(folder, workflow="train", source=None, **content):
    """Write the record of a run."""
    folder.mkdir(parents=True)
    tensors = {"changed": ["proj.weight: T1 -> T2"], "missing": ["decoder.one", "decoder.two"]}
    record = {
        "bundle": folder.name,
        "workflow": workflow,
        "finished": True,
        "command": "python -m a b",
        "made_up": True,
    }
    record |= {"started": "2026-11-20T08:00:00+00:00", "seconds": 7620.4, "peak_memory_gib": 1.5, "pictures": []}
    record |= {"config": {"rate": "0.001"}, "weights": {"source": source, "matched": 120, "tensors": tensors}}
    if workflow == "train":
        losses, rates = {"total": [4.0, None, 1.0]}, [None, 1, 2]
        metrics = {"dice": [0.1, 0.625], "WT_hd95": [374.0, 12.5], "total": [2, 1]}
        record["train"] = {"iteration": [1, 2, 3], "loss": losses, "learning_rate": rates}
        record["validation"] = {"iteration": [0, 4], "metrics": metrics}
    (folder / "run.json").write_text(json.dumps(record | content))


def test_the_page_shows_each_run_and_loads_nothing(tmp_path):
    """A stage 1, a fine-tuning that starts from it, its evaluation, and an earlier evaluation, which is left out."""
    put(tmp_path / "ukb_ssl_pretrain", pictures=["pictures/inpainting.png", "pictures/lost.png"])
    (tmp_path / "ukb_ssl_pretrain/pictures").mkdir()
    imsave(tmp_path / "ukb_ssl_pretrain/pictures/inpainting.png", np.eye(8))
    put(tmp_path / "brats_finetune", source="ukb_ssl_pretrain/model.pt")
    for folder in ("evaluation", "evaluation/earlier-1"):
        put(tmp_path / "brats_finetune" / folder, "evaluate")
    regions = {"TC": (0.55, 0.7, 3), "ET": (0.75, None, 0)}
    regions = {
        region: {"dice": {"mean": mean, "n": 3}, "dice_present": {"mean": present, "n": n}}
        for region, (mean, present, n) in regions.items()
    }
    summary = json.dumps({"cases": 3, "regions": regions})
    (tmp_path / "brats_finetune/evaluation/summary.json").write_text(summary)
    (tmp_path / "brats_finetune/evaluation/evaluation.html").touch()
    report(str(tmp_path))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    text = text_of(page)
    for words in ("TC 0.550 0.700 3", "ET 0.750 – 0", "decoder.two", "python -m a b", EMBEDDED):
        assert words in text
    assert 'alt="hd95 (mm) over the iterations, brats_finetune"' in page
    assert page.count('alt="inpainting, ') == 1
    assert "lost" not in page
    assert "earlier-1" not in page
    assert not re.search(r' (?:src|href|srcset|action)="(?!#|data:image/png;base64,|brats_finetune/)', page)
