import sys
from collections.abc import Sequence

import pytest

from common.errors import InputError
from scripts import cli

CALLS = []


def convert(file: str, output: str = "out.pt", times: int = 1, *, force: bool = False) -> None:
    """Turn a file into another."""
    CALLS.append((file, output, times, force))


def train(bundle: str, *overlays: str, jobs: int = 1, **options: str) -> None:
    """Train."""
    CALLS.append((bundle, overlays, jobs, options))


def measure(*, size: int, unit: str = "mm") -> None:
    """Measure by options alone."""
    CALLS.append((size, unit))


def rank(folders: str, number: str | float = 0, names: str | Sequence[str] | None = None) -> None:
    """Rank."""
    CALLS.append((folders, number, names))


COMMANDS = {"convert": convert, "train": train}


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs a command line; the default command is `measure`."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    CALLS.clear()

    def run(commands, words):
        monkeypatch.setattr(sys, "argv", ["tool", *words])
        cli.run(commands, "tool", default=measure)

    return run


@pytest.mark.parametrize(
    ("commands", "words", "expected"),
    [
        (COMMANDS, ["convert", "a.pt"], ("a.pt", "out.pt", 1, False)),
        (convert, ["--output=b.pt", "--times", "-3", "a.pt", "--force"], ("a.pt", "b.pt", -3, True)),
        (convert, ["1.10", "--output", "2026_11_27", "--force=false"], ("1.10", "2026_11_27", 1, False)),
        (
            train,
            ["a", "b", "--jobs=2", "--names=['T', 'U']", "--lr=1e-4"],
            ("a", ("b",), 2, {"names": "['T', 'U']", "lr": "1e-4"}),
        ),
        (COMMANDS, ["--unit", "cm", "--size", "3"], (3, "cm")),
        (rank, ["1e3", "--number=0.2", "--names=1.10,1.20"], ("1e3", 0.2, ["1.10", "1.20"])),
        (rank, ["None", "all"], ("None", "all", None)),
    ],
)
def test_commands_run_once_with_their_arguments(run, commands, words, expected):
    run(commands, words)
    assert [expected] == CALLS


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (["convert", "a.pt", "--outptu=b.pt"], "--outptu"),
        (["convert"], "convert"),
        (["convert", "a.pt", "--output"], "--output"),
        (["convert", "a.pt", "--times=two"], "--times=two"),
        (["convrt", "a.pt"], "convrt"),
    ],
)
def test_a_wrong_argument_is_refused_before_the_command_runs(run, words, culprit):
    with pytest.raises(InputError) as error:
        run(COMMANDS, words)
    assert (error.value.what, CALLS) == (culprit, [])
