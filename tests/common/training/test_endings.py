"""What a run prints when it has ended, and how it ends when the machine lets it down."""

import resource
import subprocess
import sys

import ignite.distributed as idist
import pytest
from ignite.engine import Engine

from common.errors import InputError
from common.training.endings import BestValidation, Ending
from tests.common.toy import Training
from tests.support import ROOT


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


# Runs that the machine ends


def test_a_disk_that_fills_in_a_save_leaves_the_last_state(tmp_path, capsys):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))

    try:
        with pytest.raises(InputError) as error:
            Training(tmp_path, 20, at_iteration=(5, fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    line = f"{tmp_path}/models/iteration-0000006.pt: File too large; expected a file that can be written"
    assert str(error.value) == line
    names = sorted(path.name for path in (tmp_path / "models").iterdir() if path.name != ".in_use")
    assert names == ["iteration-0000003.pt", "model.pt"]
    assert Training(tmp_path, 2, resume=True).trainer.state.iteration == 6


KILLED = """
import multiprocessing, os, signal, sys
from functools import partial
from pathlib import Path
from common.errors import report_in_one_line
from common.memory import explain_out_of_memory
from tests.common import toy
folder = Path(sys.argv[1])
options = {"num_workers": 2, "ckpt_dir": str(folder / "models")}
report_in_one_line(explain=lambda error: explain_out_of_memory(error, options))
toy.DataLoader = partial(toy.DataLoader, num_workers=2)
toy.Training(folder, 20, at_iteration=(5, lambda: os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)))
"""


def test_a_reading_process_that_is_killed_is_told_in_a_line(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    change = "lower --num_workers=2, or set it to 0, so that the run itself reads"
    why = f"a process that reads data was killed by SIGKILL, probably for lack of memory: {change}"
    assert [line for line in process.stderr.splitlines() if line.startswith("error: ")] == [
        f"error: {why}; {tmp_path}/models keeps the last state"
    ]
    assert process.stderr.splitlines()[-1].startswith("error: ")
