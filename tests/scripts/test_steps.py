"""Steps: what runs, what was done before, what is moved aside."""

import pytest

from scripts.steps import run_step

PROGRAM = """
import sys
from pathlib import Path
folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
(folder / "made").write_text(sys.argv[2])
sys.exit(int(sys.argv[3]))
"""


@pytest.fixture
def step(tmp_path, monkeypatch):
    """Run a step whose command writes a text to results/made; return its content and the number of earlier results."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "input").write_text("a")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    results = tmp_path / "results"

    def run(text, status=0):
        target = results / "made"
        run_step(["program", results, text, status], target, [tmp_path / "input"], results, tmp_path / "logs/a.log")
        return target.read_text(), len([*tmp_path.glob("results-*")])

    return run


def test_a_step_runs_again_only_for_another_command_or_input(step, tmp_path, capsys):
    assert step("one") == ("one", 0)
    assert step("one") == ("one", 0)
    assert "done before" in capsys.readouterr().out
    (tmp_path / "input").write_text("b")
    assert step("one") == ("one", 1)
    assert step("two") == ("two", 2)


def test_a_step_that_fails_is_not_done(step):
    with pytest.raises(SystemExit) as error:
        step("one", 3)
    assert error.value.code == 3
    assert step("one") == ("one", 0)
