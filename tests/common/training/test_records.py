import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from ignite.engine import Engine, Events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.training.records import TrainingRecord
from common.weights.records import versions
from common.weights.surgery import Report
from tests.common.toy import METADATA, Training, plan_of


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


def test_weights_that_a_resumed_run_does_not_read_are_warned_of(tmp_path, capsys):
    state = {"started": "", "weights": {"source": "a.pt"}, "train": {}, "validation": {}, "seconds": 1.0}
    for source, warned in (
        ("b.pt", "warning: --pretrained=b.pt: ignored; the resumed run started from a.pt\n"),
        (None, ""),
    ):
        record = TrainingRecord(plan_of(tmp_path), Engine(print), Report(source))
        record.load_state_dict(state)
        assert capsys.readouterr().err == warned
        assert record.content["weights"]["source"] == "a.pt"


def test_tensorboard_has_each_value_at_its_iteration_also_of_a_resumed_run(tmp_path):
    Training(tmp_path, 1, [0.5])
    run = Training(tmp_path, 2, [math.nan], resume=True)
    train, validation = (EventAccumulator(str(tmp_path / "tensorboard" / name)) for name in ("train", "validation"))
    train.Reload()  # files of one process and second are read in the order of their names, of which …10 is before …9
    total, rates = ({event.step: event.value for event in train.Scalars(tag)} for tag in ("total", "learning_rate"))
    assert sorted(total) == [1, 2, 3, 4, 5, 6]
    assert [total[step] for step in (4, 5, 6)] == pytest.approx(run.losses, abs=1e-6)
    rates = [rates[step] for step in sorted(rates)]
    assert rates == pytest.approx([0.1, 0.07, 0.07, 0.049, 0.049, 0.0343])
    assert [(event.step, event.value) for event in validation.Reload().Scalars("score")] == [(3, 0.5)]
    (settings,) = {event.tensor_proto.string_val[0].decode() for event in train.Tensors("settings/text_summary")}
    assert json.loads(settings) == METADATA
    assert len(train.Tensors("settings/text_summary")) == 2, "of both runs"
    assert record_of(tmp_path)["quantities"] == {"total": "MSELoss"}


@pytest.mark.parametrize(
    ("losses", "source", "text"),
    [
        ({0: 3.0, 1: 9.0, 2: 2.9, 3: 3.25, 4: 8.0}, "stage1.pt", "3.0000 to 3.2500 by iteration 3; learning_rate=0"),
        ({0: 3.0, 1: 2.0, 2: math.nan, 3: math.nan}, "stage1.pt", "3.0000 to not finite by iteration 2; learning_rate"),
        ({0: 3.0, 1: 9.0, 2: 3.0, 3: 2.0}, "stage1.pt", None),  # not after the warm-up
        ({2: 3.0, 3: 4.0}, "stage1.pt", None),  # not measured at the start
        ({0: math.nan, 2: 3.0}, "stage1.pt", None),  # not finite at the start
        ({0: 3.0, 2: 4.0}, None, None),
    ],
)
def test_a_loss_above_that_of_the_pretrained_weights_after_the_warm_up_is_warned_about_once(
    tmp_path, capsys, losses, source, text
):
    plan, validator, trainer = plan_of(tmp_path), Engine(lambda *_: None), Engine(lambda *_: None)
    plan.options.learning_rate, plan.length = 5e-3, SimpleNamespace(warmup_iterations=2)
    record = TrainingRecord(plan, validator, Report(source))
    record.attach(trainer)
    capsys.readouterr()
    for iteration, loss in losses.items():
        trainer.state.iteration = iteration
        validator.state.metrics = {"total": loss}
        validator.fire_event(Events.EPOCH_COMPLETED)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (text is not None)
    assert text is None or lines[0].startswith(f"warning: pretrained=stage1.pt: the held-out loss rose from {text}")


@pytest.mark.parametrize(
    ("cosines", "text"),
    [
        ({0: 0.99, 1: 0.99, 2: 0.95, 3: 0.96, 4: 0.99}, "0.9600 at iteration 3"),  # once, after the warm-up
        ({0: 0.99, 1: 1.0}, None),
        ({2: 0.94, 3: 0.95}, None),
    ],
)
def test_embeddings_that_agree_after_the_warm_up_are_warned_about_once(tmp_path, capsys, cosines, text):
    plan, validator, trainer = plan_of(tmp_path), Engine(lambda *_: None), Engine(lambda *_: None)
    plan.options.learning_rate, plan.length = 5e-3, SimpleNamespace(warmup_iterations=2)
    TrainingRecord(plan, validator, Report(None)).attach(trainer)
    capsys.readouterr()
    for iteration, cosine in cosines.items():
        trainer.state.iteration = iteration
        validator.state.metrics = {"total": 1.0, "contrastive_cosine": cosine}
        validator.fire_event(Events.EPOCH_COMPLETED)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (text is not None)
    assert text is None or lines[0].startswith(f"warning: contrastive_cosine {text}: embeddings of different subjects")
