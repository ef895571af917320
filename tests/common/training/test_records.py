import json
import math
import shutil

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.weights.records import versions
from tests.common.toy import METADATA, Training


def record_of(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_training_leaves_its_record_which_a_resumed_run_continues(tmp_path):
    run = Training(tmp_path, 2, [0.25, 0.75])
    record = record_of(tmp_path)
    facts = {"bundle": "toy", "workflow": "train", "finished": True, "world_size": 1, "config": METADATA}
    facts |= {"versions": versions(), "pictures": []}
    assert record.items() >= facts.items()
    assert record["train"]["iteration"] == [1, 2, 3, 4, 5, 6]
    assert record["train"]["loss"]["total"] == pytest.approx(run.losses, rel=1e-6, abs=1e-6)
    assert record["validation"] == {"iteration": [3, 6], "metrics": {"score": [0.25, 0.75]}}
    weights = {"source": "a.pt", "matched": 1, "shares": {}}
    weights["tensors"] = {"changed": [], "missing": [], "unexpected": []}
    assert record["weights"].items() >= weights.items()
    assert 0 <= record["seconds"] < 60
    assert record["peak_memory_gib"] > 0.1
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["run.json"]

    resumed = Training(tmp_path, 3, [0.3], resume=True)
    continued = record_of(tmp_path)
    assert continued["train"]["iteration"] == list(range(1, 10))
    assert continued["train"]["loss"]["total"] == pytest.approx(run.losses + resumed.losses, abs=1e-6)
    assert [len(continued["train"][name]) for name in ("learning_rate", "seconds_per_step")] == [9, 9]
    assert all(0 <= seconds < 5 for seconds in continued["train"]["seconds_per_step"])
    assert continued["validation"] == {"iteration": [3, 6, 9], "metrics": {"score": [0.25, 0.75, 0.3]}}
    assert continued["started"] == record["started"]
    assert continued["seconds"] >= record["seconds"]
    assert continued["finished"] is True


def test_the_record_of_an_earlier_run_is_kept(tmp_path):
    Training(tmp_path, 1)
    first = (tmp_path / "run.json").read_bytes()
    shutil.rmtree(tmp_path / "models")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/old.png").touch()
    Training(tmp_path, 2)
    assert record_of(tmp_path)["pictures"] == []
    assert {path.name.partition("-")[0] for path in tmp_path.glob("*-*") if path.is_dir()} == {
        "pictures",
        "tensorboard",
    }
    (earlier,) = tmp_path.glob("run-*.json")
    assert earlier.read_bytes() == first
    assert record_of(tmp_path)["train"]["iteration"] == [1, 2, 3, 4, 5, 6]
    Training(tmp_path, 3, resume=True)
    assert len(list(tmp_path.glob("run*.json"))) == 2, "a resumed run goes on with its own record"
    assert len(list(tmp_path.glob("tensorboard*"))) == 2


def test_tensorboard_has_each_value_at_its_iteration_also_of_a_resumed_run(tmp_path):
    Training(tmp_path, 1, [0.5])
    run = Training(tmp_path, 2, [math.nan], resume=True)
    board = EventAccumulator(str(tmp_path / "tensorboard/curves"))
    board.Reload()  # files of one process and second are read in the order of their names, of which …10 is before …9
    tags = ("train/total", "train/learning_rate")
    total, rates = ({event.step: event.value for event in board.Scalars(tag)} for tag in tags)
    assert sorted(total) == [1, 2, 3, 4, 5, 6]
    assert [total[step] for step in (4, 5, 6)] == pytest.approx(run.losses, abs=1e-6)
    rates = [rates[step] for step in sorted(rates)]
    assert rates == pytest.approx([0.1, 0.07, 0.07, 0.049, 0.049, 0.0343])
    assert sorted(event.step for event in board.Scalars("validation/score")) == [3, 6]
