import json
import shutil

import numpy as np
import pytest
from ignite.engine import Engine
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from torch import nn

from common.training.handlers import RegionScores
from common.training.records import EvaluationRecord, TrainingRecord
from common.weights.storage import versions
from common.weights.surgery import Report
from tests.common.random_cases import RandomCases
from tests.common.toy import CPU, METADATA, Training, plan_of
from tests.oracles.volumes import dice


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
    assert continued["validation"] == {"iteration": [3, 6, 9], "metrics": {"score": [0.25, 0.75, 0.3]}}
    assert continued["started"] == record["started"]
    assert continued["seconds"] >= record["seconds"]
    assert continued["finished"] is True


def test_losses_are_means_over_stretches_that_end_with_an_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingRecord, "POINTS", 3)
    run = Training(tmp_path, 2, [float("nan"), 0.5])
    record = record_of(tmp_path)
    assert record["train"]["iteration"] == [2, 3, 4, 6]
    means = [np.mean(run.losses[start:end]) for start, end in ((0, 2), (2, 3), (3, 4), (4, 6))]
    assert record["train"]["loss"]["total"] == pytest.approx(means, rel=1e-6, abs=1e-6)
    no_number = {"iteration": [3, 6], "metrics": {"score": [None, 0.5]}}
    assert record["validation"] == no_number, "what is no number keeps its place"


def test_a_run_that_is_stopped_leaves_an_unfinished_record(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Training(tmp_path, 3, [0.5, 0.5, 0.5], at_iteration=(5, lambda: 1 / 0))
    record = record_of(tmp_path)
    assert record["finished"] is False
    assert record["validation"]["iteration"] == [3]


def test_a_record_is_written_by_the_main_process_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    TrainingRecord(plan_of(tmp_path / "a"), Engine(print), Report(None)).write()
    assert not (tmp_path / "a").exists()


def test_an_evaluation_leaves_the_dice_of_each_case_and_region(tmp_path):
    """No case has TC."""
    cases, regions = RandomCases(2), ["TC", "WT", "ET"]
    cases.references[:, 0] = False
    SupervisedEvaluator(
        device=CPU,
        val_data_loader=DataLoader(cases, batch_size=2),
        network=nn.Identity(),
        key_val_metric={"dice": RegionScores("brats2021", "brats")},
        val_handlers=[EvaluationRecord(tmp_path, METADATA)],
    ).run()
    record = record_of(tmp_path)
    assert (record["workflow"], record["finished"]) == ("evaluate", True)
    pairs = [zip(*pair, strict=True) for pair in zip(cases.predictions, cases.references, strict=True)]
    expected = np.array([[dice(*masks) for masks in pair] for pair in pairs])
    mean = dict(zip(regions, expected.mean(axis=0), strict=True))
    assert record["scores"] == {
        "regions": regions,
        "cases": {f"case{n}": pytest.approx(dict(zip(regions, row, strict=True))) for n, row in enumerate(expected)},
        "mean": pytest.approx(mean),
        "mean_present": {"TC": None, "WT": pytest.approx(mean["WT"]), "ET": pytest.approx(mean["ET"])},
        "n_present": {"TC": 0, "WT": 2, "ET": 2},
    }


def test_the_record_of_an_earlier_run_is_kept(tmp_path):
    Training(tmp_path, 1)
    first = (tmp_path / "run.json").read_bytes()
    shutil.rmtree(tmp_path / "models")
    Training(tmp_path, 2)
    (earlier,) = tmp_path.glob("run-*.json")
    assert earlier.read_bytes() == first
    assert record_of(tmp_path)["train"]["iteration"] == [1, 2, 3, 4, 5, 6]
    Training(tmp_path, 3, resume=True)
    assert len(list(tmp_path.glob("run*.json"))) == 2, "a resumed run goes on with its own record"
