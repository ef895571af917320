"""The picture of a training that runs: there after each validation, and cheap."""

import math
from types import SimpleNamespace

import pytest
from ignite.engine import Engine, Events
from matplotlib.image import imread

from common.training.curves import Curves

LOSS = {"total": [3.0, 2.0, 1.0], "rotation": [1.0, 0.5, 0.25]}
METRICS = {"total": [None, 1.5], "dice": [0.1, math.nan], "dice_present": [0.2, 0.3], "TC": [0.1, 0.2]}


def curves_of(folder):
    train, validation = {"iteration": (1, 2, 3), "loss": LOSS}, {"iteration": (2, 4), "metrics": METRICS}
    content = {"bundle": "toy", "train": train, "validation": validation}
    return Curves(folder, SimpleNamespace(content=content), SimpleNamespace(name="dice", best=0.25))


def run(handler, at_epoch=lambda: None):
    engine = Engine(lambda *_: None)
    handler.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, at_epoch)
    engine.run([0], max_epochs=2)


def test_losses_and_metrics_have_a_panel_each_and_means_over_some_cases_none(tmp_path):
    figure = curves_of(tmp_path)._draw()
    losses, others = ({line.get_label(): line.get_ydata().tolist() for line in axes.lines} for axes in figure.axes)
    nan = pytest.approx(math.nan, nan_ok=True)
    expected = {"training total": LOSS["total"], "training rotation": LOSS["rotation"], "validation total": [nan, 1.5]}
    assert losses == expected
    assert others == {"dice": [0.1, nan], "TC": METRICS["TC"]}
    assert figure.get_suptitle() == "toy, iteration 3: best dice 0.2500"
    assert [line.get_color() for line in figure.axes[0].lines] == ["C0", "C1", "C0"], "a term has one colour"


def test_the_picture_is_there_from_the_first_validation_and_whole_in_the_end(tmp_path, monkeypatch):
    seen = []
    run(curves_of(tmp_path), lambda: seen.append(imread(tmp_path / "progress.png").shape))
    assert len(seen) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["progress.png"], "nothing half-written"
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    run(curves_of(tmp_path / "of_another_process"))
    assert not (tmp_path / "of_another_process").exists()


def test_what_cannot_be_drawn_ends_nothing_and_is_said_once(tmp_path, capsys):
    (tmp_path / "progress.png").mkdir()
    run(curves_of(tmp_path))
    assert capsys.readouterr().err.count("progress.png: not drawn: ") == 1
