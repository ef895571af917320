import signal
import subprocess
import sys

import pytest

from common import cli
from common.errors import InputError

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
    """Train.

    Args:
        bundle: name.
        jobs: how many.
        options: of the bundle.
    """
    CALLS.append((bundle, jobs, options))


COMMANDS = {"convert": convert, "inspect": inspect}


@pytest.fixture(autouse=True)
def no_calls(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    CALLS.clear()


def run(commands, *arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tool", *arguments])
    cli.run(commands, "tool")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a.pt"], ("a.pt", "out.pt", 1)),
        (["--file=a.pt"], ("a.pt", "out.pt", 1)),
        (["--file", "a.pt", "--times", "-3"], ("a.pt", "out.pt", -3)),
        (["a.pt", "b.pt", "2"], ("a.pt", "b.pt", 2)),
        (["a.pt", "--output=b.pt"], ("a.pt", "b.pt", 1)),
        (["--output=b.pt", "a.pt"], ("a.pt", "b.pt", 1)),
    ],
)
def test_commands_run_once_with_their_arguments(arguments, expected, monkeypatch):
    run(COMMANDS, "convert", *arguments, monkeypatch=monkeypatch)
    run(convert, *arguments, monkeypatch=monkeypatch)
    assert [expected, expected] == CALLS


def test_further_options_are_passed_on_as_they_are_spelt(monkeypatch):
    words = ["--modalities=['T1', 'T2']", "--learning-rate=1e-4", "--iterations", "5 epochs", "--cohort=a,b"]
    run(train, "brats", "--jobs=2", *words, monkeypatch=monkeypatch)
    options = {"modalities": "['T1', 'T2']", "learning_rate": "1e-4", "iterations": "5 epochs", "cohort": "a,b"}
    assert [("brats", 2, options)] == CALLS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["brats", "--amp"], "--amp: no value; expected one"),
        (["brats", "more", "--amp=true"], "argument more: not expected; options are --bundle, --jobs"),
        (["--amp=true"], "--bundle: missing; it has no default"),
    ],
)
def test_further_options_need_a_value_and_leave_the_others_as_they_are(arguments, message, monkeypatch):
    with pytest.raises(InputError, match=message):
        run(train, *arguments, monkeypatch=monkeypatch)
    assert CALLS == []


def test_a_command_without_parameters_runs(monkeypatch):
    run(COMMANDS, "inspect", monkeypatch=monkeypatch)
    assert CALLS == ["inspect"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.pt", "--outptu=b.pt"], r"--outptu=b.pt: no such option; did you mean --output\?"),
        (["a.pt", "--outptu", "b.pt"], r"--outptu=b.pt: no such option; did you mean --output\?"),
        (["a.pt", "--zzz"], "--zzz=: no such option; expected one of --file, --output, --times"),
        (["a.pt", "-outptu=b.pt"], r"--outptu=b.pt: no such option; did you mean --output\?"),
        (["a.pt", "-z"], "--z=: no such option"),
        ([], "--file: missing; it has no default"),
        (["--output=b.pt"], "--file: missing; it has no default"),
        (["a.pt", "b.pt", "1", "extra"], "argument extra: not expected; options are --file, --output, --times"),
        (["a.pt", "b.pt", "extra", "--times=1"], "argument extra: not expected"),
        ([""], "argument '': empty; expected a value"),
    ],
)
def test_what_fire_would_notice_too_late_is_refused_before_the_command_runs(arguments, message, monkeypatch):
    for commands, words in ((COMMANDS, ["convert", *arguments]), (convert, arguments)):
        with pytest.raises(InputError, match=message) as error:
            run(commands, *words, monkeypatch=monkeypatch)
        assert "\n" not in str(error.value)
    assert CALLS == []


@pytest.mark.parametrize(
    "arguments",
    [["a.pt", "--outptu=/NAME"], ["a.pt", "--outptu", "/NAME"], ["a.pt", "b", "1", "/NAME"], ["a.pt", "--output/NAME"]],
)
def test_confidential_arguments_are_not_quoted(arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tool", *arguments])
    with pytest.raises(InputError, match=r"^(an option: no such option|argument: not expected); .*--output") as error:
        cli.run(convert, "tool", confidential=True)
    assert "NAME" not in str(error.value)
    assert CALLS == []


@pytest.mark.parametrize(("words", "given"), [([], "nothing"), (["convrt", "a.pt"], "convrt")])
def test_an_unknown_command_is_refused(words, given, monkeypatch):
    with pytest.raises(InputError, match=f"^command {given}: expected one of convert, inspect$"):
        run(COMMANDS, *words, monkeypatch=monkeypatch)
    assert CALLS == []


@pytest.mark.parametrize("words", [["convert", "--help"], ["convert", "-h"], ["convert", "--", "--help"]])
def test_help_shows_the_docstring_and_runs_nothing(words, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        run(COMMANDS, *words, monkeypatch=monkeypatch)
    assert end.value.code == 0
    shown = capsys.readouterr()
    assert "Turn a file into another." in shown.out + shown.err
    assert "to be read." in shown.out + shown.err
    assert CALLS == []


def test_a_process_ends_with_one_line_and_status_2(tmp_path):
    marker = tmp_path / "marker"
    script = tmp_path / "tool.py"
    script.write_text(
        "from pathlib import Path\n"
        "from common import cli\n"
        f"def make(size: int):\n    Path({str(marker)!r}).touch()\n"
        "cli.run({'make': make}, 'tool')\n"
    )

    code = f"import runpy; runpy.run_path({str(script)!r})"
    command = [sys.executable, "-c", code, "make", "3", "--siez=4"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: --siez=4: no such option; did you mean --size?\n"
    assert not marker.exists()


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_of_the_output_may_end_first(lines, tmp_path):
    """As head does; a few lines are written only when the command ends."""
    script = tmp_path / "tool.py"
    script.write_text(
        "import time\nfrom common import cli\n"
        f"def count():\n    time.sleep(0.5)\n    print('line\\n' * {lines})\n"
        "cli.run({'count': count}, 'tool')\n"
    )
    code = f"import runpy; runpy.run_path({str(script)!r})"
    process = subprocess.Popen([sys.executable, "-c", code, "count"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 128 + signal.SIGPIPE


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


def run_with_default(*arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tool", *arguments])
    monkeypatch.delattr(measure, "join", raising=False)
    cli.run({"join": join}, "tool", default=measure)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--size=3"], (3, "mm")),
        (["--unit", "cm", "--size", "3"], (3, "cm")),
        (["join", "a", "b", "c"], (("a", "b", "c"), None)),
        (["join", "a", "b", "--output=c"], (("a", "b"), "c")),
        (["join", "--output", "c", "a", "b"], (("a", "b"), "c")),
        (["join"], ((), None)),
    ],
)
def test_a_default_command_runs_where_none_is_named(arguments, expected, monkeypatch):
    run_with_default(*arguments, monkeypatch=monkeypatch)
    assert [expected] == CALLS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "^--size: missing; it has no default$"),
        (["--unit=cm"], "^--size: missing; it has no default$"),
        (["jion", "a"], "^command jion: expected join, or only options$"),
        (["--size=3", "extra"], "^argument extra: not expected; options are --size, --unit$"),
        (["--size=3", "--unit=cm", "extra"], "^argument extra: not expected; options are --size, --unit$"),
        (["--sizes=3"], r"^--sizes=3: no such option; did you mean --size\?$"),
        (["join", "a", "--outptu=b"], r"^--outptu=b: no such option; did you mean --output\?$"),
        (["join", "--files=b"], "^--files=b: no such option; expected one of --output$"),
        (["join", "a", "--output"], "^--output: no value; expected one$"),
    ],
)
def test_bad_input_is_refused_beside_a_default_command_too(arguments, message, monkeypatch):
    with pytest.raises(InputError, match=message):
        run_with_default(*arguments, monkeypatch=monkeypatch)
    assert CALLS == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--help"], ["Measure by options alone.", "in the unit.", "COMMAND is one of", "Join any number of files."]),
        (["join", "--help"], ["Join any number of files.", "in their order.", "[FILES]..."]),
    ],
)
def test_help_shows_the_default_command_with_the_others(words, told, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        run_with_default(*words, monkeypatch=monkeypatch)
    shown = "".join(capsys.readouterr())
    assert end.value.code == 0
    assert [text for text in told if text not in shown] == []
    assert CALLS == []


@pytest.mark.parametrize(
    ("arguments", "positional", "options"),
    [
        (["a", "--b=c", "d"], ["a", "d"], {"b": "c"}),
        (["a", "--b", "c", "d"], ["a", "d"], {"b": "c"}),
        (["--b", "--c", "d"], [], {"b": "", "c": "d"}),
        (["--b-c=d-e=f"], [], {"b_c": "d-e=f"}),
        (["--b="], [], {"b": ""}),
        (["-5", "--b", "-5"], ["-5"], {"b": "-5"}),
        (["--b", "-", "-.5"], ["-.5"], {"b": "-"}),
        (["-x=3", "a"], ["a"], {"x": "3"}),
        (["-x", "3", "-yes"], [], {"x": "3", "yes": ""}),
        ([], [], {}),
    ],
)
def test_command_lines_are_split_as_python_fire_splits_them(arguments, positional, options):
    assert cli.options_of(arguments) == (positional, options)


@pytest.mark.parametrize(
    "words",
    [
        ["python", "-m", "x", "--config_file=['a.yaml','b.yaml']"],
        ["a b", "c'd\"e", "$HOME", "`ls`", "back\\slash", "it's $5", "wow!'", ""],
        ["--lambda", "$@a + 'x'"],
    ],
)
def test_a_command_line_is_read_by_a_shell_as_it_was_given(words):
    shown = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {cli.command_line(words)}"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split("\0")[:-1] == words
