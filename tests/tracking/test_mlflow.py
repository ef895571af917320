"""What MLflow gets of a run, in a store of its own."""

import sqlite3
import sys
from contextlib import closing
from types import SimpleNamespace

import mlflow
import pytest
from ignite.engine import Engine, Events
from monai.handlers import MLFlowHandler

from common.errors import InputError
from common.training.tracking import MLflow


@pytest.fixture
def client(store, monkeypatch):
    """A client of an empty store, which MONAI's handler uses, too."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    return mlflow.MlflowClient()


@pytest.fixture(autouse=True)
def at_exit(monkeypatch):
    """What the process would do when it ends."""
    actions = []
    monkeypatch.setattr("common.training.tracking.atexit", SimpleNamespace(register=actions.append))
    return actions


def runs(client):
    experiment = client.get_experiment_by_name("monai_experiment")
    return client.search_runs([experiment.experiment_id])


def curve(client, run, name):
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]


def training(settings, files=(), fails_at=None, resumed_from=0):
    """A tracked trainer: losses are measured at each step, a metric before the first step and after each epoch."""
    content = {"bundle": "b", "started": "2026-01-01", "weights": {"source": "stage1.pt"}, "config": settings}
    sink = MLflow(MLFlowHandler(), files)

    def begin(engine):
        engine.state.iteration, engine.state.epoch = resumed_from, resumed_from // 2
        sink.begin(SimpleNamespace(content=content), engine)
        if not resumed_from:
            validate(engine)

    def step(engine, batch):
        if engine.state.iteration == fails_at:
            raise RuntimeError("no memory")

    def validate(engine):
        sink.add("validation", engine.state.iteration, {"dice": 0.5, "NCR+ED": None})

    trainer = Engine(step)
    trainer.add_event_handler(Events.STARTED, begin)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: sink.add("train", engine.state.iteration, {"total": 1 / engine.state.iteration}),
    )
    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    trainer.add_event_handler(Events.COMPLETED, sink.end)
    return trainer


def test_a_training_is_one_run_with_settings_losses_metrics_and_files(client, tmp_path):
    file = tmp_path / "run.json"
    settings = {"bundle": "b", "learning_rate": 0.25, "components": "c" * 9999} | {f"o{n}": n for n in range(120)}
    trainer = training(settings, [str(file), str(tmp_path / "nothing.pt")])
    file.write_text("{}")
    trainer.run([0, 0], max_epochs=2)
    (run,) = runs(client)
    assert (run.info.run_name, run.info.status) == ("b 2026-01-01", "FINISHED")
    params = run.data.params
    assert [params[name] for name in ("bundle", "learning_rate", "o119", "pretrained")] == [
        *("b", "0.25", "119", "stage1.pt"),
    ]
    assert params["components"] == "c" * 6000
    assert curve(client, run, "train/total") == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25)]
    assert curve(client, run, "validation/dice") == [(0, 0.5), (2, 0.5), (4, 0.5)]
    assert set(run.data.metrics) == {"train/total", "validation/dice"}
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["run.json"]


def test_a_resumed_training_continues_its_run_and_tells_what_has_changed(client, at_exit):
    with pytest.raises(RuntimeError, match="no memory"):
        training({"bundle": "b", "keep": 2, "seed": 0}, fails_at=3).run([0, 0], max_epochs=2)
    (end,) = at_exit
    end()
    assert [run.info.status for run in runs(client)] == ["KILLED"]
    training({"bundle": "b", "keep": 5, "seed": 0}, resumed_from=2).run([0, 0], max_epochs=2)
    (run,) = runs(client)
    assert curve(client, run, "train/total") == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25)]
    assert run.info.status == "FINISHED"
    assert run.data.params["keep"] == "2"
    assert {name: value for name, value in run.data.tags.items() if name.startswith("resumed")} == {"resumed.keep": "5"}
    at_exit.pop()()
    assert [run.info.status for run in runs(client)] == ["FINISHED"]


def test_a_run_that_an_exception_ends_has_failed(client, at_exit, monkeypatch):
    with pytest.raises(RuntimeError) as error:
        training({"bundle": "b"}, fails_at=1).run([0], max_epochs=1)
    monkeypatch.setattr(sys, "last_value", error.value, raising=False)  # as Python does for one that nobody catches
    at_exit.pop()()
    assert [run.info.status for run in runs(client)] == ["FAILED"]


def test_a_lost_store_ends_no_training(client, store, capsys):
    def lose():
        with closing(sqlite3.connect(store)) as database:
            database.execute("ALTER TABLE metrics RENAME TO lost")

    trainer = training({"bundle": "b"})
    trainer.add_event_handler(Events.ITERATION_STARTED(once=2), lose)
    trainer.run([0, 0], max_epochs=2)
    assert trainer.state.iteration == 4
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert line.startswith("warning: no longer tracked by MLflow: MlflowException: ")


def test_a_server_that_is_not_there_ends_a_run_at_once(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # where nothing listens
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match=r"^tracking of run b 2026-01-01: MlflowException: API request to .* failed"):
        training({"bundle": "b"}).run([0], max_epochs=1)
