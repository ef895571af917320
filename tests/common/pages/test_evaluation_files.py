"""The handler that writes an evaluation's files: cases, volumes and paths."""

import json

import ignite.distributed as idist
import numpy as np
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from torch import nn

from common import metrics
from common.inference.publishing import begin
from common.pages.handlers import EvaluationFiles
from common.training.handlers import RegionScores
from tests.common.random_cases import RandomCases

MODALITIES = ["FLAIR", "T1"]


def evaluate(folder, cases, lacking=()):
    protocol = metrics.protocol("brats")
    entries = [
        {
            "subject": f"case{n}",
            "image": [None if n in lacking else f"/data/{n}_flair.nii.gz", f"/data/{n}_t1.nii.gz"],
            "label": f"/data/{n}.nii",
        }
        for n in reversed(range(len(cases) + 1))  # one of them is not evaluated
    ]
    unfinished = begin(folder)
    files = EvaluationFiles(unfinished, protocol, entries, f"{unfinished}/predictions", "brats2021", "ours", MODALITIES)
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(cases, batch_size=2),
        network=nn.Identity(),
        key_val_metric={"dice": RegionScores("brats2021", protocol)},
        val_handlers=[files],
    ).run()
    return files


def test_an_evaluation_leaves_its_files_and_says_why_there_is_no_page(tmp_path, capsys, monkeypatch):
    cases = RandomCases(5)
    with monkeypatch.context() as second:
        second.setattr(idist, "get_rank", lambda: 1)
        evaluate(tmp_path, cases)
    assert list((tmp_path / ".unfinished").iterdir()) == [], "one process writes"
    evaluate(tmp_path, cases)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert line.startswith(f"warning: {tmp_path}/evaluation.html was not drawn: /data/")
    names = ["cases.json", "lesions.csv", "metrics.csv", "summary.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    content = json.loads((tmp_path / "cases.json").read_text())
    assert (content["name"], content["label_convention"]) == ("ours", "brats2021")
    assert list(content["cases"]) == [f"case{number}" for number in range(5)]
    case = content["cases"]["case3"]
    assert (case["prediction"], case["reference"]) == ("predictions/case3.nii.gz", "/data/3.nii")
    voxels = [np.count_nonzero(masks[3, 1]) for masks in (cases.predictions, cases.references)]
    assert case["regions"]["WT"]["volumes_mm3"] == [8.0 * count for count in voxels]
