"""The picture of a training that runs: there after each validation, whole after a resumption, and cheap."""

import json
import math
import time
from types import SimpleNamespace

import pytest
from ignite.engine import Engine, Events
from matplotlib.image import imread

from common.training import curves
from common.training.curves import Curves
from tests.common.toy import Training

LOSS = {"total": [3.0, 2.0, 1.0], "rotation": [1.0, 0.5, 0.25]}
METRICS = {"total": [None, 1.5], "dice": [0.1, math.nan], "dice_present": [0.2, 0.3], "TC": [0.1, 0.2]}


def record_of(loss=LOSS, metrics=METRICS):
    train = {"iteration": [1, 2, 3], "loss": loss}
    return SimpleNamespace(
        content={"bundle": "toy", "train": train, "validation": {"iteration": [2, 4], "metrics": metrics}}
    )


@pytest.fixture
def best():
    return SimpleNamespace(name="dice", best=0.25)


def run(handler, epochs=3):
    engine = Engine(lambda *_: None)
    handler.attach(engine)
    engine.run([0], max_epochs=epochs)


def lines(figure):
    return [
        {line.get_label(): json.loads(json.dumps(line.get_ydata().tolist())) for line in axes.lines}
        for axes in figure.axes
    ]


def test_losses_and_metrics_have_a_panel_each_and_means_over_some_cases_none(tmp_path, best):
    figure = Curves(tmp_path, record_of(), best)._draw()
    losses, others = lines(figure)
    assert losses["training total"] == LOSS["total"]
    assert losses["training rotation"] == LOSS["rotation"]
    assert math.isnan(losses["validation total"][0])
    assert losses["validation total"][1] == 1.5
    assert others.keys() == {"dice", "TC"}
    assert others["TC"] == METRICS["TC"]
    assert figure.get_suptitle() == "toy, iteration 3: best dice 0.2500"
    assert [line.get_color() for line in figure.axes[0].lines] == ["C0", "C1", "C0"], "a term has one colour"


def test_a_training_without_any_validation_has_one_panel(tmp_path, best):
    best.best = -math.inf
    empty = record_of({}, {})
    empty.content["train"]["iteration"] = []
    figure = Curves(tmp_path, empty, best)._draw()
    assert lines(figure) == [{}]
    assert figure.get_suptitle() == "toy, iteration 0"


def test_the_picture_is_there_from_the_first_validation_and_whole_in_the_end(tmp_path, best):
    seen = []
    handler = Curves(tmp_path, record_of(), best)
    engine = Engine(lambda *_: None)
    handler.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(imread(tmp_path / "progress.png").shape))
    engine.run([0], max_epochs=2)
    assert len(seen) == 2
    assert seen[0][0] > 380  # and the rows of the legend
    assert seen[0][1] == 1100
    assert [file.name for file in tmp_path.iterdir()] == ["progress.png"], "nothing half-written"


def test_a_resumed_training_draws_all_its_runs(tmp_path):
    made = []

    def also(record, best):
        made.append(Curves(tmp_path, record, best))
        return made[-1]

    Training(tmp_path, 2, [0.1, 0.2], also=also)
    first = (tmp_path / "progress.png").read_bytes()
    Training(tmp_path, 3, [0.3], resume=True, also=also)
    assert (tmp_path / "progress.png").read_bytes() != first
    losses, others = made[-1]._draw().axes
    assert list(losses.lines[0].get_xdata()) == list(range(1, 10))
    assert list(others.lines[0].get_xdata()) == [3, 6, 9]


def test_drawing_takes_a_hundredth_of_the_time_at_most(tmp_path, best, monkeypatch):
    handler = Curves(tmp_path, record_of(), best)
    clock, drawn = [0.0], []

    def draw(engine):
        drawn.append(clock[0])
        clock[0] += 2

    monkeypatch.setattr(handler, "_write", draw)
    monkeypatch.setattr(curves, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    for moment in (10, 20, 211, 213, 300):
        clock[0] = float(moment)
        handler._validated(None)
    assert drawn == [10, 213], "2 s for a picture, so 200 s without one"


def test_what_cannot_be_drawn_ends_nothing_and_is_said_once(tmp_path, best, capsys):
    (tmp_path / "progress.png").mkdir()
    run(Curves(tmp_path, record_of(), best))
    assert capsys.readouterr().err.count("progress.png: not drawn: ") == 1


def test_other_processes_than_the_main_one_draw_nothing(tmp_path, best, monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    run(Curves(tmp_path, record_of(), best))
    assert not list(tmp_path.iterdir())


def test_a_picture_of_a_thousand_points_is_quick(tmp_path, best):
    record = record_of({"total": [1.0] * 1000}, {"dice": [0.5] * 1000})
    record.content["train"]["iteration"] = record.content["validation"]["iteration"] = list(range(1000))
    handler = Curves(tmp_path, record, best)
    handler._write(None)
    start = time.process_time()
    handler._write(None)
    assert time.process_time() - start < 2, "0.14 s"
