"""What becomes of a training's record on this machine: its picture, TensorBoard's curves, a warning, the last lines."""

import contextlib
import math
from types import SimpleNamespace

import pytest
from ignite.engine import Engine
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.training.sinks import BestValidation, Curves, TensorBoard, UnlearningWarning
from common.training.workflows import prediction_handlers
from tests.common.toy import Training

ENGINE = Engine(print)


def begun(sink, **content):
    """A sink of a record with this content."""
    sink.begin(SimpleNamespace(content={"bundle": "toy"} | content), ENGINE)
    return sink


def test_tensorboard_has_each_value_at_its_iteration_also_of_a_resumed_run(tmp_path):
    Training(tmp_path, 1, [0.5], sinks=[TensorBoard(tmp_path)])
    run = Training(tmp_path, 2, [math.nan], resume=True, sinks=[TensorBoard(tmp_path)])
    train, validation = (EventAccumulator(str(tmp_path / "tensorboard" / name)) for name in ("train", "validation"))
    total = [(event.step, event.value) for event in train.Reload().Scalars("total")]
    assert [step for step, _ in total] == [1, 2, 3, 4, 5, 6]
    assert [value for _, value in total[3:]] == pytest.approx(run.losses, abs=1e-6)
    rates = [event.value for event in train.Scalars("learning_rate")]
    assert rates == pytest.approx([0.1, 0.07, 0.07, 0.049, 0.049, 0.0343])
    assert [(event.step, event.value) for event in validation.Reload().Scalars("score")] == [(3, 0.5)]


# progress.png

LOSS = {"total": [3.0, 2.0, 1.0], "rotation": [1.0, 0.5, 0.25]}
METRICS = {"total": [None, 1.5], "dice": [0.1, math.nan], "dice_present": [0.2, 0.3], "TC": [0.1, 0.2]}


def curves_of(folder):
    train, validation = {"iteration": (1, 2, 3), "loss": LOSS}, {"iteration": (2, 4), "metrics": METRICS}
    return begun(Curves(folder, SimpleNamespace(name="dice", best=0.25)), train=train, validation=validation)


def test_losses_and_metrics_have_a_panel_each_and_means_over_some_cases_none(tmp_path):
    figure = curves_of(tmp_path).draw()
    losses, others = ({line.get_label(): line.get_ydata().tolist() for line in axes.lines} for axes in figure.axes)
    nan = pytest.approx(math.nan, nan_ok=True)
    expected = {"training total": LOSS["total"], "training rotation": LOSS["rotation"], "validation total": [nan, 1.5]}
    assert losses == expected
    assert others == {"dice": [0.1, nan], "TC": METRICS["TC"]}
    assert figure.get_suptitle() == "toy, iteration 3: best dice 0.2500"
    assert [line.get_color() for line in figure.axes[0].lines] == ["C0", "C1", "C0"], "a term has one colour"


def test_the_picture_is_there_from_the_first_validation_and_whole_in_the_end(tmp_path):
    curves = curves_of(tmp_path)
    curves.add("train", 1, {"total": 3.0})
    assert list(tmp_path.iterdir()) == []
    curves.add("validation", 2, {"dice": 0.1})
    first = imread(tmp_path / "progress.png").shape
    curves.end(ENGINE)
    assert imread(tmp_path / "progress.png").shape == first
    assert [file.name for file in tmp_path.iterdir()] == ["progress.png"], "nothing half-written"


def test_what_cannot_be_drawn_ends_nothing_and_is_said_once(tmp_path, capsys):
    (tmp_path / "progress.png").mkdir()
    curves = curves_of(tmp_path)
    curves.add("validation", 2, {})
    curves.end(ENGINE)
    assert capsys.readouterr().err.count("progress.png: not drawn: ") == 1


# Unlearning


def unlearning(losses, before=(), pretrained="stage1.pt"):
    """Train with these held-out losses by iteration; those of `before` are in the record of the run that it resumes.

    Half of a loss is the rotation; the contrastive term falls. None was not finite. The warm-up ends at iteration 2.
    """
    validation = {"iteration": [], "metrics": {"total": [], "rotation": [], "contrastive": []}}
    options = SimpleNamespace(pretrained=pretrained, learning_rate=5e-3)
    plan = SimpleNamespace(options=options, length=SimpleNamespace(warmup_iterations=2))
    warning = begun(UnlearningWarning(plan), validation=validation)
    for iteration, loss in losses.items():
        validation["iteration"].append(iteration)
        for values, value in zip(validation["metrics"].values(), (loss, loss and loss / 2, 1 - iteration), strict=True):
            values.append(value)
        if iteration not in before:
            warning.add("validation", iteration, {})


@pytest.mark.parametrize(
    ("losses", "others", "told"),
    [
        ({0: 3.0, 1: 9.0, 2: 2.9, 3: 3.25, 4: 8.0}, {}, "3: total 3.0000 -> 3.2500, rotation 1.5000 -> 1.6250; learni"),
        ({0: 3.0, 1: 2.0, 2: None, 3: None}, {}, "2: total 3.0000 -> not finite, rotation 1.5000 -> not finite;"),
        ({0: 3.0, 1: 9.0, 2: 3.0, 3: 2.0}, {}, None),  # not after the warm-up
        ({2: 3.0, 3: 4.0}, {}, None),  # not measured at the start
        ({0: None, 2: 3.0}, {}, None),  # not finite at the start
        ({0: 3.0, 2: 4.0}, {"pretrained": None}, None),
        ({0: 3.0, 2: 3.25, 3: 3.5, 4: 4.0}, {"before": (0, 2)}, None),  # the run that is resumed has warned
    ],
)
def test_a_loss_above_that_of_the_pretrained_weights_after_the_warm_up_is_warned_about_once(
    capsys, losses, others, told
):
    unlearning(losses, **others)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (told is not None)
    warning = "warning: unlearning stage1.pt: held-out losses rose by iteration"
    assert told is None or lines[0].startswith(f"{warning} {told}")


# The end


def test_an_evaluation_ends_with_its_figures_and_the_results_that_exist(tmp_path, capsys, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").touch()
    monkeypatch.chdir(tmp_path)
    results = {"model": "model.pt", "record": "run.json", "predictions": "."}
    for figures, step, lines in (
        (lambda engine: [f"steps: {engine.state.iteration}"], lambda *_: None, ["steps: 2", *PLACES]),
        (lambda engine: [], lambda *_: None, []),
        (lambda engine: ["figures"], lambda *_: 1 / 0, []),
    ):
        engine = Engine(step)
        (*_, told) = prediction_handlers([], "out", {"bundle": "toy"}, SimpleNamespace(figures=figures), results)
        told.attach(engine)
        with contextlib.suppress(ZeroDivisionError):
            engine.run([0, 1])
        assert capsys.readouterr().out.splitlines() == [line.format(tmp_path) for line in lines]


PLACES = ["record       {}/out/run.json", "predictions  {}/out"]


@pytest.mark.parametrize(
    ("scores", "lower", "expected"),
    [
        ([0.25, 0.75, 0.5], False, "best validation: score 0.7500 at iteration 6 of 9"),
        ([0.75, 0.25, 0.25], True, "best validation: score 0.2500 at iteration 6 of 9"),
        ([math.nan, 0.5, 0.5], False, "best validation: score 0.5000 at iteration 6 of 9"),
        ([math.nan] * 3, False, "no model was saved: score was never finite"),
        ([], False, "best validation: score 0.5000 at iteration 3 of 9"),  # 0.5 at each validation, also at the start
    ],
)
def test_a_training_ends_with_its_best_validation(tmp_path, scores, lower, expected):
    training = Training(tmp_path, 3, scores, lower_is_better=lower)
    best = begun(BestValidation(training.best, {}), **training.record.content)
    assert best.figures(training.trainer) == [expected]


def test_the_best_validation_may_be_that_of_the_run_that_was_resumed_and_has_other_metrics(tmp_path):
    Training(tmp_path, 2, [0.25, 0.75])
    resumed = Training(tmp_path, 3, [0.5], resume=True)
    others = {"WT": [0.1, 0.9, 0], "ET": [0.2, None, 0], "score_present": [1, 1, 1]}
    others |= {"rotation": [1.4, 1.2, 1.4], "contrastive": [1, 1.09, 1]}
    resumed.record.content["validation"]["metrics"] |= others
    best = BestValidation(resumed.best, {}, {"rotation": 1.3863, "contrastive": 1.0986})
    line, warning = begun(best, **resumed.record.content).figures(resumed.trainer)
    figures = "(WT 0.9000, rotation 1.2000, contrastive 1.0900)"
    assert line == f"best validation: score 0.7500 at iteration 6 of 9 {figures}"
    assert warning.startswith("warning: contrastive 1.0900: no better than chance (1.0986)")
