"""What a run prints when it has ended."""

import ignite.distributed as idist
import pytest
from ignite.engine import Engine

from common.training.endings import BestValidation, Ending
from tests.common.toy import Training


def run(ending, step=lambda *_: None):
    engine = Engine(step)
    ending.attach(engine)
    engine.run([0, 1])


def test_an_ending_has_the_figures_and_the_results_that_exist(tmp_path, capsys, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").touch()
    monkeypatch.chdir(tmp_path)
    results = {"model": "out/model.pt", "record": "./out/run.json", "predictions": "out"}
    run(Ending(lambda engine: [f"steps: {engine.state.iteration}"], results))
    lines = ["steps: 2", f"record       {tmp_path}/out/run.json", f"predictions  {tmp_path}/out"]
    assert capsys.readouterr().out.splitlines() == lines


def test_a_run_without_figures_one_that_fails_and_another_process_print_nothing(tmp_path, capsys, monkeypatch):
    results = {"folder": str(tmp_path)}
    run(Ending(lambda engine: [], results))
    ending = Ending(lambda engine: ["figures"], results)
    with pytest.raises(ZeroDivisionError):
        run(ending, lambda *_: 1 / 0)
    monkeypatch.setattr(idist, "get_rank", lambda: 1)
    run(ending)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("scores", "lower", "expected"),
    [
        ([0.25, 0.75, 0.5], False, "best validation: score 0.7500 at iteration 6 of 9"),
        ([0.75, 0.25, 0.25], True, "best validation: score 0.2500 at iteration 6 of 9"),
        ([float("nan"), 0.5, 0.5], False, "best validation: score 0.5000 at iteration 6 of 9"),
        ([float("nan")] * 3, False, "no model was saved: score was never finite"),
        ([], False, "best validation: score 0.5000 at iteration 3 of 9"),  # 0.5 at each validation, also at the start
    ],
)
def test_the_best_validation_is_told_with_its_iteration(tmp_path, scores, lower, expected):
    training = Training(tmp_path, 3, scores, lower_is_better=lower)
    assert BestValidation(training.best, training.record)(training.trainer) == [expected]


def test_the_best_validation_may_be_that_of_the_run_that_was_resumed_and_has_other_metrics(tmp_path):
    Training(tmp_path, 2, [0.25, 0.75])
    resumed = Training(tmp_path, 3, [0.5], resume=True)
    others = {"WT": [0.1, 0.9, 0], "ET": [0.2, None, 0], "score_present": [1, 1, 1]}
    others |= {"rotation": [1.4, 1.2, 1.4], "contrastive": [1, 1.09, 1]}
    resumed.record.content["validation"]["metrics"] |= others
    chance = {"rotation": 1.3863, "contrastive": 1.0986}
    line, warning = BestValidation(resumed.best, resumed.record, chance)(resumed.trainer)
    figures = "(WT 0.9000, rotation 1.2000, contrastive 1.0900)"
    assert line == f"best validation: score 0.7500 at iteration 6 of 9 {figures}"
    assert warning.startswith("warning: contrastive 1.0900: guessing gives 1.0986")
