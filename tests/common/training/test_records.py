import json
import shutil

import numpy as np
import pytest
from ignite.engine import Engine
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from torch import nn

from common import metrics
from common.training.handlers import RegionScores
from common.training.records import EvaluationRecord, TrainingRecord
from common.weights.storage import versions
from common.weights.surgery import Report
from tests.common.random_cases import RandomCases
from tests.common.toy import CPU, METADATA, Training, plan_of
from tests.oracles.volumes import dice


def record_of(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_training_leaves_its_record(tmp_path):
    run = Training(tmp_path, 2, [0.25, 0.75])
    record = record_of(tmp_path)
    assert record["bundle"] == "toy"
    assert record["workflow"] == "train"
    assert record["finished"] is True
    assert record["world_size"] == 1
    assert record["config"] == METADATA
    assert record["train"]["iteration"] == [1, 2, 3, 4, 5, 6]
    assert record["train"]["loss"]["total"] == pytest.approx(run.losses, rel=1e-6, abs=1e-6)
    assert record["validation"] == {"iteration": [3, 6], "metrics": {"score": [0.25, 0.75]}}
    assert record["weights"]["source"] == "a.pt"
    assert record["weights"]["matched"] == 1
    assert record["weights"]["tensors"] == {"changed": [], "missing": [], "unexpected": []}
    assert record["weights"]["shares"] == {}
    assert record["versions"] == versions()
    assert 0 <= record["seconds"] < 60
    assert record["peak_memory_gib"] > 0.1
    assert record["pictures"] == []
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["run.json"]


def test_losses_are_means_over_stretches_that_end_with_an_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingRecord, "POINTS", 3)
    run = Training(tmp_path, 2, [0.5, 0.5])
    record = record_of(tmp_path)
    assert record["train"]["iteration"] == [2, 3, 4, 6]
    stretches = [run.losses[0:2], run.losses[2:3], run.losses[3:4], run.losses[4:6]]
    means = [sum(stretch) / len(stretch) for stretch in stretches]
    assert record["train"]["loss"]["total"] == pytest.approx(means, rel=1e-6, abs=1e-6)


def test_a_metric_that_is_no_number_keeps_its_place_in_the_record(tmp_path):
    Training(tmp_path, 2, [float("nan"), 0.5])
    assert record_of(tmp_path)["validation"] == {"iteration": [3, 6], "metrics": {"score": [None, 0.5]}}


def interrupt():
    raise KeyboardInterrupt


def test_a_run_that_is_stopped_leaves_an_unfinished_record(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path, 3, [0.5, 0.5, 0.5], at_iteration=(5, interrupt))
    record = record_of(tmp_path)
    assert record["finished"] is False
    assert record["validation"]["iteration"] == [3]


def test_the_record_of_a_resumed_run_is_whole(tmp_path):
    first = Training(tmp_path, 2, [0.1, 0.2])
    before = record_of(tmp_path)
    second = Training(tmp_path, 3, [0.3], resume=True)
    record = record_of(tmp_path)
    assert record["train"]["iteration"] == list(range(1, 10))
    assert record["train"]["loss"]["total"] == pytest.approx(first.losses + second.losses, abs=1e-6)
    assert record["validation"] == {"iteration": [3, 6, 9], "metrics": {"score": [0.1, 0.2, 0.3]}}
    assert record["started"] == before["started"]
    assert record["finished"] is True


def test_a_record_is_written_by_the_main_process_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    TrainingRecord(plan_of(tmp_path / "a"), Engine(print), Report(None)).write()
    assert not (tmp_path / "a").exists()


def test_an_evaluation_leaves_the_dice_of_each_case_and_region(tmp_path):
    cases = RandomCases(5)
    evaluator = SupervisedEvaluator(
        device=CPU,
        val_data_loader=DataLoader(cases, batch_size=2),
        network=nn.Identity(),
        key_val_metric={"dice": RegionScores("brats2021", metrics.protocol("brats"))},
        val_handlers=[EvaluationRecord(tmp_path, METADATA)],
    )
    evaluator.run()
    record = record_of(tmp_path)
    regions = ["TC", "WT", "ET"]
    expected = {
        f"case{number}": {
            region: dice(cases.predictions[number, channel], cases.references[number, channel])
            for channel, region in enumerate(regions)
        }
        for number in range(5)
    }
    assert record["workflow"] == "evaluate"
    assert record["finished"] is True
    assert record["scores"]["regions"] == regions
    assert list(record["scores"]["cases"]) == list(expected)
    for name, scores in expected.items():
        assert record["scores"]["cases"][name] == pytest.approx(scores, rel=1e-6, abs=1e-6)
    for region in regions:
        mean = np.mean([scores[region] for scores in expected.values()])
        assert record["scores"]["mean"][region] == pytest.approx(mean, rel=1e-6, abs=1e-6)
        assert record["scores"]["mean_present"][region] == pytest.approx(mean, rel=1e-6, abs=1e-6)
        assert record["scores"]["n_present"][region] == 5


def test_an_evaluation_tells_cases_with_a_region_from_all_cases(tmp_path):
    cases = RandomCases(3)
    cases.references[:, 0] = False  # no case has TC
    cases.references[0, 1] = cases.predictions[0, 1] = False  # one has no WT, and none is predicted
    evaluator = SupervisedEvaluator(
        device=CPU,
        val_data_loader=DataLoader(cases, batch_size=2),
        network=nn.Identity(),
        key_val_metric={"dice": RegionScores("brats2021")},
        val_handlers=[EvaluationRecord(tmp_path, METADATA)],
    )
    evaluator.run()
    scores = record_of(tmp_path)["scores"]
    others = [dice(cases.predictions[number, 1], cases.references[number, 1]) for number in (1, 2)]
    assert scores["mean"]["WT"] == pytest.approx((1 + sum(others)) / 3, rel=1e-6)
    assert scores["mean_present"]["WT"] == pytest.approx(sum(others) / 2, rel=1e-6)
    assert (scores["mean"]["TC"], scores["mean_present"]["TC"]) == (0, None)
    assert scores["n_present"] == {"TC": 0, "WT": 2, "ET": 3}


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
