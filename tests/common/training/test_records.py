"""run.json and TensorBoard of a training, also of a resumed one; peak memory."""

import json
import math
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.made import versions
from tests.common.toy import METADATA, Training
from tests.support import ROOT


def record_of(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_training_leaves_its_record_and_curves_which_a_resumed_run_continues(tmp_path):
    run = Training(tmp_path, 2, [0.25, 0.75])
    record = record_of(tmp_path)
    facts = {
        "bundle": "toy",
        "workflow": "train",
        "finished": True,
        "world_size": 1,
        "config": METADATA | {"network": "Sequential"},
    }
    assert record.items() >= (facts | {"versions": versions(), "pictures": []}).items()
    assert (record["weights"]["source"], record["weights"]["matched"]) == ("a.pt", 1)
    assert record["seconds"] >= 0
    assert record["peak_memory_gib"] > 0.1

    resumed = Training(tmp_path, 3, [math.nan], resume=True)
    continued, losses = record_of(tmp_path), run.losses + resumed.losses
    assert continued["train"]["iteration"] == list(range(1, 10))
    assert continued["train"]["loss"]["total"] == pytest.approx(losses, abs=1e-6)
    assert all(seconds >= 0 for seconds in continued["train"]["seconds_per_step"])
    assert continued["validation"] == {"iteration": [0, 3, 6, 9], "metrics": {"score": [0.5, 0.25, 0.75, None]}}
    assert continued["started"] == record["started"]
    assert continued["seconds"] >= record["seconds"]

    board = EventAccumulator(str(tmp_path / "tensorboard/curves"))
    board.Reload()  # files of one process and second are read in the order of their names, of which …10 is before …9
    tags = ("train/total", "train/learning_rate")
    total, rates = ({event.step: event.value for event in board.Scalars(tag)} for tag in tags)
    assert [total[step] for step in range(1, 10)] == pytest.approx(losses, abs=1e-6)
    assert [rates[step] for step in range(1, 7)] == pytest.approx([0.1, 0.07, 0.07, 0.049, 0.049, 0.0343])
    assert sorted(event.step for event in board.Scalars("validation/score")) == [0, 3, 6, 9]


def test_peak_memory_excludes_the_parent():
    child = "from common.training.records import peak_resident; print(peak_resident())"
    parent = f"import subprocess, sys; block = b'x' * 2**31; subprocess.run([sys.executable, '-c', {child!r}])"
    result = subprocess.run([sys.executable, "-c", parent], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 0 < float(result.stdout) < 1.5  # GiB
