import matplotlib.image
import pytest
import torch
from ignite.engine import Engine
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.training.handlers import Pictures, Progress


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


# Forecast


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
