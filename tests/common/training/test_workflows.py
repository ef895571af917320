"""The lines that a run prints at its end."""

import contextlib
import math
from types import SimpleNamespace

import pytest
from ignite.engine import Engine

from common.training.workflows import best_validation, prediction_handlers
from tests.common.toy import Training


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
        (*_, conclusion) = prediction_handlers([], "out", "toy", SimpleNamespace(figures=figures), results)
        conclusion.attach(engine)
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
    assert best_validation(training.record, training.best, {}, 9) == [expected]


def test_a_warning_says_when_nothing_was_learnt(tmp_path):
    training = Training(tmp_path, 3, [0, 0, 0])
    _, warning = best_validation(training.record, training.best, {}, 9)
    assert warning == "warning: score 0: nothing was learnt; a lower learning_rate or more iterations may help"


def test_the_loss_that_selects_the_checkpoint_may_be_at_chance_too(tmp_path):
    training = Training(tmp_path, 3, [0.75, 0.7, 0.72], lower_is_better=True)
    _, warning = best_validation(training.record, training.best, {"score": 0.71}, 9)
    assert warning.startswith("warning: score 0.7000: no better than chance (0.7100)")


def test_the_best_validation_may_be_that_of_the_run_that_was_resumed_and_has_other_metrics(tmp_path):
    Training(tmp_path, 2, [0.25, 0.75])
    resumed = Training(tmp_path, 3, [0.5], resume=True)
    others = {"WT": [0.1, 0.9, 0], "ET": [0.2, None, 0], "score_present": [1, 1, 1]}
    others |= {"rotation": [1.4, 1.2, 1.4], "contrastive": [1, 1.09, 1]}
    resumed.record.content["validation"]["metrics"] |= others
    line, warning = best_validation(resumed.record, resumed.best, {"rotation": 1.3863, "contrastive": 1.0986}, 9)
    figures = "(WT 0.9000, rotation 1.2000, contrastive 1.0900)"
    assert line == f"best validation: score 0.7500 at iteration 6 of 9 {figures}"
    assert warning.startswith("warning: contrastive 1.0900: no better than chance (1.0986)")
