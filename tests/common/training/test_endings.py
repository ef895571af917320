"""What a run prints when it has ended."""

import subprocess
import sys

import ignite.distributed as idist
import pytest
from ignite.engine import Engine

from common.training.endings import BestValidation, Ending
from tests.common.toy import Training
from tests.support import ROOT


def run(ending, fails=False):
    def step(engine, batch):
        if fails:
            raise RuntimeError("out of memory")

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


def test_a_run_without_figures_prints_nothing(tmp_path, capsys):
    run(Ending(lambda engine: [], {"folder": str(tmp_path)}))
    assert capsys.readouterr().out == ""


def test_a_run_that_fails_and_another_process_print_nothing(tmp_path, capsys, monkeypatch):
    ending = Ending(lambda engine: ["figures"], {"folder": str(tmp_path)})
    with pytest.raises(RuntimeError, match="out of memory"):
        run(ending, fails=True)
    monkeypatch.setattr(idist, "get_rank", lambda: 1)
    run(ending)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("scores", "lower", "expected"),
    [
        ([0.25, 0.75, 0.5], False, "score 0.7500 at iteration 6 of 9"),
        ([0.75, 0.25, 0.25], True, "score 0.2500 at iteration 6 of 9"),
        ([float("nan"), 0.5, 0.5], False, "score 0.5000 at iteration 6 of 9"),
    ],
)
def test_the_best_validation_is_told_with_its_iteration(tmp_path, scores, lower, expected):
    training = Training(tmp_path, 3, scores, lower_is_better=lower)
    assert BestValidation(training.best, training.record)(training.trainer) == [f"best validation: {expected}"]


def test_the_best_validation_may_be_that_of_the_run_that_was_resumed(tmp_path):
    Training(tmp_path, 2, [0.25, 0.75])
    resumed = Training(tmp_path, 3, [0.5], resume=True)
    found = BestValidation(resumed.best, resumed.record)(resumed.trainer)
    assert found == ["best validation: score 0.7500 at iteration 6 of 9"]


def test_the_other_metrics_of_the_best_validation_are_told_too(tmp_path):
    training = Training(tmp_path, 2, [0.25, 0.75])
    training.record.content["validation"]["metrics"] |= {"WT": [0.1, 0.9], "ET": [0.2, None], "score_present": [1, 1]}
    found = BestValidation(training.best, training.record)(training.trainer)
    assert found == ["best validation: score 0.7500 at iteration 6 of 6 (WT 0.9000)"]


def test_terms_near_chance_are_warned_of(tmp_path):
    training = Training(tmp_path, 2, [0.25, 0.75])
    training.record.content["validation"]["metrics"] |= {"rotation": [1.4, 1.2], "contrastive": [1, 1.09], "ET": [1, 1]}
    chance = {"rotation": 1.3863, "contrastive": 1.0986}
    _, warning = BestValidation(training.best, training.record, chance)(training.trainer)
    assert warning.startswith("warning: contrastive 1.0900: guessing gives 1.0986, so this task is hardly learnt")


def test_a_training_whose_metric_was_never_finite_has_no_best_validation(tmp_path):
    training = Training(tmp_path, 2, [float("nan")] * 2)
    found = BestValidation(training.best, training.record)(training.trainer)
    assert found == ["no model was saved: score was never finite"]


def test_what_comes_before_the_first_iteration_is_not_the_best(tmp_path):
    """The toy's score without `scores` is 0.5 at each validation, also at the start."""
    training = Training(tmp_path, 1)
    found = BestValidation(training.best, training.record)(training.trainer)
    assert training.record.content["validation"]["iteration"] == [0, 3]
    assert found == ["best validation: score 0.5000 at iteration 3 of 3"]


# Runs that the machine ends

TRAINING = """
import multiprocessing, os, resource, signal, sys
from functools import partial
from pathlib import Path
from common.errors import report_in_one_line
from common.memory import explain_out_of_memory
from tests.common import toy
folder, fault = Path(sys.argv[1]), sys.argv[2]
def happen():
    if fault == "disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, -1))
    else:
        os.kill(multiprocessing.active_children()[0].pid, getattr(signal, fault))
options = {"num_workers": 2, "ckpt_dir": str(folder / "models")}
report_in_one_line(explain=lambda error: explain_out_of_memory(error, options))
toy.DataLoader = partial(toy.DataLoader, num_workers=0 if fault == "disk" else 2)
toy.Training(folder, 20, at_iteration=(5, happen))
"""


def ended(folder, fault):
    """The lines on stderr of a training in a process of its own, to which something happens in its fifth step."""
    command = [sys.executable, "-c", TRAINING, str(folder), fault]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    errors = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert process.stderr.splitlines()[-1:] == errors
    return errors[0]


def test_a_disk_that_fills_in_a_save_leaves_the_last_state(tmp_path):
    models = tmp_path / "models"
    line = ended(tmp_path, "disk")
    assert line == f"error: {models}/iteration-0000006.pt: File too large; expected a file that can be written"
    assert sorted(path.name for path in models.iterdir()) == ["iteration-0000003.pt", "model.pt"]
    assert Training(tmp_path, 2, resume=True).trainer.state.iteration == 6


@pytest.mark.parametrize(("sent", "why"), [("SIGKILL", "SIGKILL, probably for lack of memory"), ("SIGSEGV", "SIGSEGV")])
def test_a_reading_process_that_is_killed_is_told_in_a_line(tmp_path, sent, why):
    change = "lower --num_workers=2, or set it to 0, so that the run itself reads"
    expected = f"error: a process that reads data was killed by {why}: {change}; {tmp_path}/models keeps the last state"
    assert ended(tmp_path, sent) == expected
