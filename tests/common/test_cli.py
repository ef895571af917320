import sys
from collections.abc import Mapping, Sequence

import pytest

from common import cli

CALLS = []


def convert(file: str, output: str = "out.pt", times: int = 1) -> None:
    """Turn a file into another.

    Args:
        file: to be read.
        output: to be written.
        times: how often.
    """
    CALLS.append((file, output, times))


def inspect() -> None:
    """Look at nothing."""
    CALLS.append("inspect")


def train(bundle: str, *, jobs: int = 1, **options: str) -> None:
    """Train."""
    CALLS.append((bundle, jobs, options))


def measure(*, size: int, unit: str = "mm") -> None:
    """Measure by options alone.

    Args:
        size: in the unit.
        unit: of the size.
    """
    CALLS.append((size, unit))


def join(*files: str, output: str | None = None) -> None:
    """Join any number of files.

    Args:
        files: in their order.
        output: of all.
    """
    CALLS.append((files, output))


def rank(
    folders: str,
    number: str | float = 0,
    names: str | Sequence[str] | None = None,
    files: Mapping[str, str] | None = None,
    sizes: Sequence[int] | None = None,
) -> None:
    """Rank."""
    CALLS.append((folders, number, names, files, sizes))


COMMANDS = {"convert": convert, "inspect": inspect}


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs a command line; with the command `join`, the default is `measure`."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    CALLS.clear()

    def run(commands, words, **settings):
        monkeypatch.setattr(sys, "argv", ["tool", *words])
        monkeypatch.delattr(measure, "join", raising=False)
        settings |= {"default": measure} if commands == {"join": join} else {}
        cli.run(commands, "tool", **settings)

    return run


@pytest.mark.parametrize(
    ("commands", "words", "expected"),
    [
        *(
            (commands, [*name, *words], expected)
            for commands, name in ((COMMANDS, ["convert"]), (convert, []))
            for words, expected in (
                (["a.pt"], ("a.pt", "out.pt", 1)),
                (["--output=b.pt", "--times", "-3", "a.pt"], ("a.pt", "b.pt", -3)),
            )
        ),
        (
            train,
            ["brats", "--jobs=2", "--modalities=['T1', 'T2']", "--learning-rate=1e-4", "--iterations", "5 epochs"],
            ("brats", 2, {"modalities": "['T1', 'T2']", "learning_rate": "1e-4", "iterations": "5 epochs"}),
        ),
        (convert, ["1.10", "--output", "2026_11_27"], ("1.10", "2026_11_27", 1)),
        (rank, ["1e3", "--number=0.2", "--names=1.10,1.20"], ("1e3", 0.2, ["1.10", "1.20"], None, None)),
        (
            rank,
            ["None", "all", "--files={'a': 'b', 1_0: 2.50}"],
            ("None", "all", None, {"a": "b", "1_0": "2.50"}, None),
        ),
        (rank, ["[1]", "1_000", "--sizes=1,2"], ("[1]", "1_000", None, None, (1, 2))),
        (rank, ["a", "1", "--sizes={[1]: 2}"], ("a", 1, None, None, "{[1]: 2}")),  # a list cannot be a key
        (rank, ["a", "1", "--sizes=" + 500 * "["], ("a", 1, None, None, 500 * "[")),
        (convert, ["a", "b", "--times=0x10"], ("a", "b", "0x10")),
        ({"join": join}, ["join", "1.10", "2_0"], (("1.10", "2_0"), None)),
        ({"join": join}, ["--unit", "cm", "--size", "3"], (3, "cm")),
        ({"join": join}, ["join", "a", "b", "--output=c"], (("a", "b"), "c")),
    ],
)
def test_commands_run_once_with_their_arguments(run, commands, words, expected):
    run(commands, words)
    assert [expected] == CALLS


@pytest.mark.parametrize(
    ("arguments", "positional", "options"),
    [
        (["a", "--b", "c", "d"], ["a", "d"], {"b": "c"}),
        (["--b", "--c", "d"], [], {"b": "", "c": "d"}),
        (["--b-c=d-e=f", "--b="], [], {"b_c": "d-e=f", "b": ""}),
        (["--b", "-", "-.5"], ["-.5"], {"b": "-"}),
        (["-x", "3", "-yes"], [], {"x": "3", "yes": ""}),
    ],
)
def test_command_lines_are_split_as_python_fire_splits_them(arguments, positional, options):
    assert cli.options_of(arguments) == (positional, options)
