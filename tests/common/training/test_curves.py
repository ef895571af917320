"""The picture of a training that runs: there after each validation, and cheap."""

import json
import math
from types import SimpleNamespace

from ignite.engine import Engine, Events
from matplotlib.image import imread

from common.training import curves
from common.training.curves import Curves

LOSS = {"total": [3.0, 2.0, 1.0], "rotation": [1.0, 0.5, 0.25]}
METRICS = {"total": [None, 1.5], "dice": [0.1, math.nan], "dice_present": [0.2, 0.3], "TC": [0.1, 0.2]}


def curves_of(folder, loss=LOSS, metrics=METRICS, best=0.25, steps=(1, 2, 3)):
    train, validation = {"iteration": steps, "loss": loss}, {"iteration": (2, 4), "metrics": metrics}
    content = {"bundle": "toy", "train": train, "validation": validation}
    return Curves(folder, SimpleNamespace(content=content), SimpleNamespace(name="dice", best=best))


def run(handler, at_epoch=lambda: None):
    engine = Engine(lambda *_: None)
    handler.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, at_epoch)
    engine.run([0], max_epochs=2)


def lines(figure):
    return [
        {line.get_label(): json.loads(json.dumps(line.get_ydata().tolist())) for line in axes.lines}
        for axes in figure.axes
    ]


def test_losses_and_metrics_have_a_panel_each_and_means_over_some_cases_none(tmp_path):
    figure = curves_of(tmp_path)._draw()
    losses, others = lines(figure)
    assert losses["training total"] == LOSS["total"]
    assert losses["training rotation"] == LOSS["rotation"]
    assert math.isnan(losses["validation total"][0])
    assert losses["validation total"][1] == 1.5
    assert others.keys() == {"dice", "TC"}
    assert others["TC"] == METRICS["TC"]
    assert figure.get_suptitle() == "toy, iteration 3: best dice 0.2500"
    assert [line.get_color() for line in figure.axes[0].lines] == ["C0", "C1", "C0"], "a term has one colour"


def test_a_training_without_any_validation_has_one_panel(tmp_path):
    figure = curves_of(tmp_path, {}, {}, best=-math.inf, steps=())._draw()
    assert lines(figure) == [{}]
    assert figure.get_suptitle() == "toy, iteration 0"


def test_the_picture_is_there_from_the_first_validation_and_whole_in_the_end(tmp_path, monkeypatch):
    seen = []
    run(curves_of(tmp_path), lambda: seen.append(imread(tmp_path / "progress.png").shape))
    assert len(seen) == 2
    assert seen[0][0] > 380  # and the rows of the legend
    assert seen[0][1] == 1100
    assert [file.name for file in tmp_path.iterdir()] == ["progress.png"], "nothing half-written"
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    run(curves_of(tmp_path / "of_another_process"))
    assert not (tmp_path / "of_another_process").exists()


def test_drawing_takes_a_hundredth_of_the_time_at_most(tmp_path, monkeypatch):
    handler, clock, drawn = curves_of(tmp_path), [0.0], []

    def draw(engine):
        drawn.append(clock[0])
        clock[0] += 2

    monkeypatch.setattr(handler, "_write", draw)
    monkeypatch.setattr(curves, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    for moment in (10, 20, 211, 213, 300):
        clock[0] = float(moment)
        handler._validated(None)
    assert drawn == [10, 213], "2 s for a picture, so 200 s without one"


def test_what_cannot_be_drawn_ends_nothing_and_is_said_once(tmp_path, capsys):
    (tmp_path / "progress.png").mkdir()
    run(curves_of(tmp_path))
    assert capsys.readouterr().err.count("progress.png: not drawn: ") == 1
