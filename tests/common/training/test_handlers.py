import re
import shutil
import sys
import time
from types import SimpleNamespace
from unittest.mock import patch

import matplotlib.image
import pytest
import torch
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from common.training import handlers
from common.training.handlers import Forecast, Pictures, Progress


class Timed(list):
    """Data with the seconds that a training waited for them."""

    waited = 0.0


def loop(length, epochs=1, done=0, crops=2):
    """An engine and its data, in batches of `crops`; the engine resumes a run after `done` iterations."""
    engine = Engine(lambda *_: {"loss": torch.tensor(0.125), "crops": crops})
    engine.load_state_dict({"epoch_length": length, "max_epochs": epochs, "iteration": done})
    return engine, Timed([0] * length)


# Progress


@pytest.mark.parametrize(("done", "first"), [(0, "toy:   0%"), (9, "toy:  75%")])
def test_progress_goes_to_standard_error_and_begins_where_a_resumed_run_was(capsys, done, first):
    engine, data = loop(3, epochs=4, done=done)
    Progress("toy").attach(engine)
    engine.run(data)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert first in shown.err.strip().splitlines()[0].split("\r")[0]
    assert "12/12" in shown.err


def test_progress_shows_the_latest_loss_and_score(capsys):
    validator = SimpleNamespace(state=SimpleNamespace(key_metric_name="dice", metrics={"dice": 0.41234}))
    engine, data = loop(3, epochs=4)
    Progress("toy", validator).attach(engine)
    engine.add_event_handler(Events.ITERATION_STARTED, lambda engine: time.sleep(0.3))
    with patch.object(sys.stderr, "isatty", lambda: True):
        engine.run(data)
    assert "loss=" in (shown := capsys.readouterr().err)
    assert "dice=0.412" in shown


# Forecast


def forecast(folder, engine, crops_per_volume=1, store=None, num_workers=4, batch=64):
    network = nn.Linear(1000, 1000, bias=False)  # 4,000,000 bytes
    plan = SimpleNamespace(
        options=SimpleNamespace(batch_size=2, keep=2, ckpt_dir=str(folder), store=store, num_workers=num_workers),
        accumulation_steps=8,
        processes=SimpleNamespace(count=4),
        global_batch_size=batch,
        crops_per_volume=crops_per_volume,
        training_cases=50,
    )
    Forecast(plan, network).attach(engine)


@pytest.fixture
def disk(monkeypatch):
    """A function that sets the free bytes of the disk."""
    return lambda free: monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


@pytest.fixture
def said(capsys):
    """A function that returns the lines printed since the last call that begin with a word."""
    return lambda word="": [line for line in capsys.readouterr().out.splitlines() if line.startswith(word)]


@pytest.mark.parametrize(
    ("crops_per_volume", "reads"), [(1, "; 25.6 epochs"), (2, ", 2 from each volume; 12.8 epochs")]
)
def test_what_a_run_will_cost_is_said_before_it_starts(tmp_path, said, disk, crops_per_volume, reads):
    disk(5 * 2**30)
    engine, data = loop(10, epochs=2)
    forecast(tmp_path, engine, crops_per_volume)
    shown = []
    engine.add_event_handler(Events.ITERATION_STARTED(once=1), lambda: shown.extend(said()))
    engine.run(data)
    assert shown == [
        f"to do: 20 steps of 64 crops (batch_size 2 x batches 8 x processes 4); in all 1,280 crops{reads} of 50 cases",
        # model.pt twice (4 MB each), and three states of weights and two moments (12 MB each)
        f"disk: {44e6 / 2**30:.2f} GiB more for the checkpoints in {tmp_path}; 5.00 GiB free",
    ]


def test_a_single_crop_is_one(tmp_path, said, disk):
    disk(5 * 2**30)
    engine, data = loop(10)
    forecast(tmp_path, engine, batch=1)
    engine.run(data)
    assert said("to do: 10 steps of 1 crop (")


ADVICE = "; python -m scripts.store and --store read crops faster"
MORE = "; --num_workers=4 reads more crops at a time"


@pytest.mark.parametrize(
    ("length", "done", "seconds", "share", "store", "line"),
    [
        (100, 0, 36, 0, None, "36.00 s a step (0 % waiting for data); about 0:53:24 to go; "),  # 89 steps
        (100, 85, 36, 0, None, "36.00 s a step (0 % waiting for data); about 0:04:12 to go; "),  # 7 steps
        (3, 0, 0.01, 0, None, "0.01 s a step (0 % waiting for data); about 0:00:01 to go; "),
        (2, 0, 0.01, 0, None, "0.01 s a step (0 % waiting for data); "),
        (20, 0, 1, 0.3, None, f"1.00 s a step (30 % waiting for data){ADVICE}; about 0:00:09 to go; "),
        (20, 0, 1, 0.4, "store", "1.00 s a step (40 % waiting for data); about 0:00:09 to go; "),
        (20, 0, 1, 0.4, "slow", f"1.00 s a step (40 % waiting for data){MORE}; about 0:00:09 to go; "),
        (20, 0, 1, 0.05, None, "1.00 s a step (5 % waiting for data); about 0:00:09 to go; "),
    ],
)
def test_time_and_waiting_are_told_from_the_first_steps(
    tmp_path, said, monkeypatch, length, done, seconds, share, store, line
):
    engine, data = loop(length, done=done)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(16))  # for four processes
    forecast(tmp_path, engine, store=store, num_workers=2 if store == "slow" else 4)

    def wait():
        data.waited += share * seconds

    engine.add_event_handler(Events.ITERATION_STARTED, wait)
    monkeypatch.setattr(handlers, "time", SimpleNamespace(monotonic=lambda: seconds * engine.state.iteration))
    engine.run(data)
    (shown,) = said("time: ")
    assert re.fullmatch(rf"time: {re.escape(line)}peak memory .*: \d+\.\d\d GiB", shown)


# Pictures


def draw(output, batch):
    figure = Figure(figsize=(1, 1))
    figure.subplots().imshow([[output, batch]])
    return {f"case{batch}": figure}


def run_with_pictures(folder, drawing=draw, **settings):
    engine = Engine(lambda _, batch: 10 * batch)
    Pictures(folder, drawing, epoch_length=40, **settings).attach(engine)
    engine.run([1, 2, 3])
    return engine


@pytest.mark.parametrize(("last_only", "names"), [(False, ["case1", "case2", "case3"]), (True, ["case3"])])
def test_pictures_are_drawn_into_files_and_events(tmp_path, last_only, names):
    run_with_pictures(tmp_path, last_only=last_only)
    files = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in files] == [f"{name}.png" for name in names]
    assert all(matplotlib.image.imread(path).shape == (110, 110, 3) for path in files)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "pictures")).Reload()
    assert sorted(events.Tags()["images"]) == names
    assert [event.step for event in events.Images("case3")] == [40], "iterations, as of all other tags"


def test_nothing_is_written_before_the_first_picture(tmp_path):
    Pictures(tmp_path, draw).attach(Engine(print))
    assert not [*tmp_path.iterdir()]


def test_a_picture_that_cannot_be_drawn_or_written_does_not_end_the_run(tmp_path, capsys):
    def draw_the_last(output, batch):
        if batch < 3:
            raise ValueError(f"batch {batch} without\nimage")
        return draw(output, batch)

    run_with_pictures(tmp_path / "a", draw_the_last)
    assert [path.name for path in (tmp_path / "a/pictures").iterdir()] == ["case3.png"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b/pictures").touch()
    assert run_with_pictures(tmp_path / "b").state.iteration == 3
    (tmp_path / "c").mkdir()
    (tmp_path / "c/tensorboard").touch()  # the end of the run would write events, too
    assert run_with_pictures(tmp_path / "c").state.iteration == 3
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == f"warning: {tmp_path}/a/pictures: not drawn: ValueError: batch 1 without"
    assert third.startswith(f"warning: {tmp_path}/c/pictures: not drawn: {tmp_path}/c")
    assert second.startswith(f"warning: {tmp_path}/b/pictures: not drawn: {tmp_path}/b/pictures/case1.png: ")
