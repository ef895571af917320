import re
import shutil
from types import SimpleNamespace

import matplotlib.image
import pytest
import torch
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from common.errors import InputError
from common.training.handlers import Forecast, Pictures, Progress, UnlearningWarning

# Progress


class Timed(list):
    """Data that a training has waited for."""

    waited = 0.0


def loop(length):
    return Engine(lambda *_: {"loss": torch.tensor(0.125)}), Timed([0] * length)


def test_progress_goes_to_standard_error(capsys):
    engine, data = loop(3)
    Progress("toy").attach(engine)
    engine.run(data, max_epochs=2)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "toy: 100%" in shown.err
    assert "6/6" in shown.err


def test_progress_of_a_resumed_run_begins_where_it_was(capsys):
    engine, data = loop(3)
    engine.load_state_dict({"epoch_length": 3, "max_epochs": 4, "iteration": 9})
    Progress("toy").attach(engine)
    engine.run(data)
    first = capsys.readouterr().err.strip().splitlines()[0].split("\r")[0]
    assert "toy:  75%" in first
    assert "9/12" in first


# Forecast


def forecast(folder, engine, crops_per_volume=1, store=None):
    network = nn.Linear(1000, 1000, bias=False)  # 4,000,000 bytes
    plan = SimpleNamespace(
        options=SimpleNamespace(batch_size=2, keep=2, ckpt_dir=str(folder), store=store),
        accumulation_steps=8,
        processes=SimpleNamespace(count=4),
        global_batch_size=64,
        crops_per_volume=crops_per_volume,
        training_cases=50,
    )
    Forecast(plan, network).attach(engine)


def test_what_a_run_will_cost_is_said_before_it_starts(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5 * 2**30))
    engine, data = loop(10)
    shown = []
    forecast(tmp_path, engine)
    engine.add_event_handler(
        Events.ITERATION_STARTED(once=1), lambda: shown.extend(capsys.readouterr().out.split("\n"))
    )
    engine.run(data, max_epochs=2)
    assert shown[0] == "to do: 20 steps of 64 crops (2 x 8 batches x 4 processes): 1,280 crops, 25.6 epochs of 50 cases"
    # model.pt twice (4 MB each), and three states of weights and two moments (12 MB each)
    assert shown[1] == f"disk: {44e6 / 2**30:.2f} GiB more for the checkpoints in {tmp_path}; 5.00 GiB free"


def test_crops_of_a_volume_are_one_read(tmp_path, capsys):
    engine, data = loop(10)
    forecast(tmp_path, engine, crops_per_volume=2)
    engine.run(data, max_epochs=2)
    line = capsys.readouterr().out.splitlines()[0]
    assert line.endswith(": 1,280 crops (2 of each volume that is read), 12.8 epochs of 50 cases")


def test_a_disk_that_is_too_small_is_refused_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=20_000_000))
    engine, data = loop(10)
    forecast(tmp_path, engine)
    with pytest.raises(InputError, match=r"^ckpt_dir=.*: 0.02 GiB free; expected 0.04 GiB at least"):
        engine.run(data)
    assert engine.state.iteration == 0


def test_what_is_there_already_needs_no_more_disk(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=20_000_000))
    for name, size in (("iteration-0000001.pt", 12), ("iteration-0000002.pt", 12), ("model.pt", 4), ("notes.txt", 9)):
        (tmp_path / name).write_bytes(bytes(size * 1_000_000))
    engine, data = loop(2)
    forecast(tmp_path, engine)
    engine.run(data)
    assert f"disk: {16e6 / 2**30:.2f} GiB more for the checkpoints" in capsys.readouterr().out


@pytest.mark.parametrize(("done", "timed"), [(0, 10), (85, 7)])
def test_the_time_left_is_told_from_the_first_steps(tmp_path, capsys, monkeypatch, done, timed):
    clock = iter([100.0] + [100.0 + 36 * timed] * 9)
    engine, data = loop(100)
    engine.load_state_dict({"epoch_length": 100, "max_epochs": 1, "iteration": done})
    forecast(tmp_path, engine)
    engine.add_event_handler(
        Events.STARTED, lambda: monkeypatch.setattr("common.training.handlers.time.monotonic", lambda: next(clock))
    )
    engine.run(data)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("time: ")]
    left = 100 - done - 1 - timed
    assert line.startswith(f"time: 36.00 s a step, so about {36 * left // 3600}:{36 * left % 3600 // 60:02d}:")
    assert re.search(r"to go; peak memory of one process: \d+\.\d\d GiB RAM$", line)


@pytest.mark.parametrize(("seconds", "store", "advice"), [(0.9, None, True), (1.1, "store", False), (0.1, None, False)])
def test_waiting_for_data_is_told_with_what_helps(tmp_path, capsys, monkeypatch, seconds, store, advice):
    clock = iter([100.0] + [100.0 + 3 * 10] * 9)
    engine, data = loop(100)
    forecast(tmp_path, engine, store=store)

    def wait_a_moment():
        data.waited += seconds

    engine.add_event_handler(Events.ITERATION_STARTED, wait_a_moment)
    engine.add_event_handler(
        Events.STARTED, lambda: monkeypatch.setattr("common.training.handlers.time.monotonic", lambda: next(clock))
    )
    engine.run(data)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("data: "))
    said = "; python -m scripts.store and --store read crops faster"
    assert line == f"data: waiting for it takes {100 * seconds / 3:.0f} % of a step{said if advice else ''}"


def test_waiting_that_begins_later_is_told_once_and_in_the_end(tmp_path, capsys, monkeypatch):
    """Steps of a second; from the second epoch on, each waits for half of it."""
    engine, data = loop(20)
    forecast(tmp_path, engine)

    def step():
        data.waited += 0.5 if engine.state.epoch > 1 else 0

    engine.add_event_handler(Events.ITERATION_STARTED, step)
    clock = SimpleNamespace(monotonic=lambda: float(engine.state.iteration))
    monkeypatch.setattr("common.training.handlers.time", clock)
    engine.run(data, max_epochs=4)
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("data: ")] == [
        "data: waiting for it takes 0 % of a step",
        "data: waiting for it has taken 26 % of the time so far; python -m scripts.store and --store read crops faster",
        "data: waiting for it took 38 % of the time",
    ]


def test_each_run_of_an_engine_tells_its_own_time_once(tmp_path, capsys):
    engine, data = loop(20)
    forecast(tmp_path, engine)
    for _ in range(3):
        engine.run(data, max_epochs=1)
        lines = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
        assert lines == ["to do", "disk", "time", "data", "data"]


def test_a_run_that_ends_in_its_first_step_tells_no_time(tmp_path, capsys):
    engine, data = loop(20)
    forecast(tmp_path, engine)
    engine.add_event_handler(Events.ITERATION_STARTED, engine.terminate)
    engine.run(data)
    assert "data: " not in capsys.readouterr().out


def test_a_run_of_one_step_tells_no_time(tmp_path, capsys):
    engine, data = loop(1)
    forecast(tmp_path, engine)
    engine.run(data)
    assert "time: " not in capsys.readouterr().out


# Unlearning


def unlearning(losses, pretrained="stage1.pt", warmup=2, before=None):
    """Train with the held-out losses {iteration: loss}, where 0 is before the first; None was not finite.

    A resumed run has losses of `before` in its record.
    """
    before = before or {}
    metrics = {"total": [], "rotation": [], "contrastive": []}
    validation = {"iteration": [], "metrics": metrics}

    def add(iteration, loss):
        """A measurement of which half is the rotation, and whose contrastive term falls."""
        validation["iteration"].append(iteration)
        metrics["total"].append(loss)
        metrics["rotation"].append(loss and loss / 2)
        metrics["contrastive"].append(1 - iteration / 10)

    for iteration, loss in before.items():
        add(iteration, loss)
    options = SimpleNamespace(pretrained=pretrained, learning_rate=5e-3)
    plan = SimpleNamespace(options=options, length=SimpleNamespace(warmup_iterations=warmup))
    engine, data = loop(1)

    def validate():
        if engine.state.iteration in losses:
            add(engine.state.iteration, losses[engine.state.iteration])

    engine.add_event_handler(Events.STARTED, validate)
    engine.add_event_handler(Events.EPOCH_COMPLETED, validate)
    record = SimpleNamespace(content={"validation": validation})
    UnlearningWarning(plan, record).attach(engine)
    engine.load_state_dict({"epoch_length": 1, "max_epochs": max(losses), "iteration": max(before, default=0)})
    engine.run(data)


def test_a_loss_above_that_of_the_pretrained_weights_is_warned_about_once(capsys):
    unlearning({0: 3.0, 1: 9.0, 2: 2.9, 3: 3.25, 4: 8.0})
    assert capsys.readouterr().out.strip() == (
        "warning: unlearning stage1.pt: held-out losses rose by iteration 3: total 3.0000 -> 3.2500, "
        "rotation 1.5000 -> 1.6250; learning_rate=0.005 may be too high"
    )


def test_a_loss_that_is_not_finite_is_warned_about_once(capsys):
    unlearning({0: 3.0, 1: 2.0, 2: None, 3: None})
    assert "by iteration 2: total 3.0000 -> not finite, rotation 1.5000 -> not finite; " in capsys.readouterr().out


def test_a_resumed_run_does_not_warn_again(capsys):
    unlearning({3: 3.5, 4: 4.0}, before={0: 3.0, 2: 3.25})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "losses",
    [{0: 3.0, 1: 9.0, 2: 3.0, 3: 2.0}, {2: 3.0, 3: 4.0}, {0: None, 2: 3.0}],
    ids=["not after the warm-up", "not measured at the start", "not finite at the start"],
)
def test_no_warning_without_a_higher_loss_after_the_warm_up(losses, capsys):
    unlearning(losses)
    assert capsys.readouterr().out == ""


def test_no_warning_for_a_network_as_initialised(capsys):
    unlearning({0: 3.0, 2: 4.0}, pretrained=None)
    assert capsys.readouterr().out == ""


# Pictures


def draw(output, batch):
    figure = Figure(figsize=(1, 1))
    figure.subplots().imshow([[output, batch]])
    return {f"case{batch}": figure}


@pytest.mark.parametrize(("last_only", "names"), [(False, ["case1", "case2", "case3"]), (True, ["case3"])])
def test_pictures_are_drawn_into_files_and_events(tmp_path, last_only, names):
    engine = Engine(lambda _, batch: 10 * batch)
    Pictures(tmp_path, draw, last_only).attach(engine)
    engine.run([1, 2, 3])
    files = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in files] == [f"{name}.png" for name in names]
    assert all(matplotlib.image.imread(path).shape == (110, 110, 4) for path in files)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "pictures")).Reload()
    assert sorted(events.Tags()["images"]) == names


def test_a_picture_that_cannot_be_drawn_does_not_end_the_run(tmp_path, capsys):
    def draw_the_last(output, batch):
        if batch < 3:
            raise ValueError(f"batch {batch} without\nimage")
        return draw(output, batch)

    engine = Engine(lambda _, batch: 10 * batch)
    Pictures(tmp_path, draw_the_last).attach(engine)
    engine.run([1, 2, 3])
    warning = f"warning: {tmp_path}/pictures: not drawn: ValueError: batch 1 without"
    assert capsys.readouterr().err.splitlines() == [warning]
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["case3.png"]


def test_a_picture_that_cannot_be_written_does_not_end_the_run(tmp_path, capsys):
    (tmp_path / "pictures").touch()
    engine = Engine(lambda _, batch: 10 * batch)
    Pictures(tmp_path, draw).attach(engine)
    engine.run([1, 1])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {tmp_path}/pictures: not drawn: {tmp_path}/pictures/case1.png: ")
    assert engine.state.iteration == 2


def test_a_run_can_be_interrupted_while_it_draws(tmp_path):
    def interrupt(output, batch):
        raise KeyboardInterrupt

    engine = Engine(lambda _, batch: None)
    Pictures(tmp_path, interrupt).attach(engine)
    with pytest.raises(KeyboardInterrupt):
        engine.run([1])
