"""How bad input is reported: the message below any wrapper, one line, status 2."""

import ast
import errno
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from common.errors import (
    ArgumentError,
    InputError,
    choice,
    input_error_message,
    printable,
    report_in_one_line,
    shortened,
    show,
)
from tests.oracles.workers import failure_of
from tests.support import ROOT

# Reasons


def wrapped(error, times):
    """An exception as MONAI wraps it, once for every section of a config."""
    for number in range(times):
        try:
            raise RuntimeError(f"Failed to evaluate section {number}\nof many lines") from error
        except RuntimeError as outer:
            error = outer
    return error


@pytest.mark.parametrize("times", [0, 1, 4])
def test_the_reason_is_found_below_wrappers(times):
    assert input_error_message(wrapped(InputError("modality T3: not in a.json"), times)) == "modality T3: not in a.json"
    assert input_error_message(wrapped(ValueError("modality T3: not in a.json"), times)) is None


def test_the_reason_is_found_where_an_exception_followed_another():
    with pytest.raises(KeyError) as error:  # noqa: PT012, one is raised while the other is handled
        try:
            raise InputError("root /data: no such folder")
        except InputError:
            raise KeyError("dataset")  # noqa: B904, that is the case
    assert input_error_message(error.value) == "root /data: no such folder"


def test_the_outermost_reason_counts():
    inner, outer = InputError("a.nii.gz: label 3"), InputError("subject a: a.nii.gz: label 3")
    outer.__cause__ = inner
    assert input_error_message(wrapped(outer, 2)) == "subject a: a.nii.gz: label 3"


class Broken(Dataset):
    def __init__(self, error, wrapper=None):
        self.error, self.wrapper = error, wrapper

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if self.wrapper is None:
            raise self.error
        try:
            raise self.error
        except ValueError as error:
            raise self.wrapper from error


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (Broken(InputError("a.nii.gz: label 3")), "a.nii.gz: label 3"),
        (Broken(InputError("a.nii.gz: label 3"), RuntimeError("applying transform X")), "a.nii.gz: label 3"),
        (Broken(InputError("a.nii.gz: label 3"), InputError("subject a: label 3")), "subject a: label 3"),
        (Broken(ValueError("a.nii.gz: label 3")), None),
        (Broken(ValueError("an InputError: or so")), None),
    ],
)
def test_the_reason_survives_a_worker(dataset, expected):
    error = failure_of(DataLoader(dataset, num_workers=1))
    assert "worker process" in str(error)
    assert input_error_message(error) == expected
    assert input_error_message(wrapped(error, 1)) == expected


# The end of a process


def test_bad_input_ends_a_process_with_one_line_and_status_2():
    code = """
from common.errors import InputError, report_in_one_line
report_in_one_line()
try:
    raise InputError("spacing 9: expected 1 to 4")
except ValueError as error:
    raise RuntimeError("a section\\nof a config") from error
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", "error: spacing 9: expected 1 to 4\n")


def test_other_exceptions_keep_their_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    report_in_one_line()
    error = ValueError("a mistake of ours")
    sys.excepthook(ValueError, error, None)
    assert capsys.readouterr().err == "ValueError: a mistake of ours\n"


def test_an_exception_that_can_be_explained_gets_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    report_in_one_line(explain=lambda error: "memory is full" if isinstance(error, MemoryError) else None)
    report_in_one_line()  # keeps the explanation
    with pytest.raises(SystemExit) as ended:
        sys.excepthook(MemoryError, MemoryError(), None)
    assert (ended.value.code, capsys.readouterr().err) == (2, "error: memory is full\n")
    sys.excepthook(ValueError, ValueError("a mistake of ours"), None)
    assert capsys.readouterr().err == "ValueError: a mistake of ours\n"


def test_a_full_disk_gets_one_line_whoever_writes(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    report_in_one_line()
    full = OSError(errno.ENOSPC, "No space left on device", "/scratch/a.json")
    with pytest.raises(SystemExit) as ended:
        sys.excepthook(RuntimeError, wrapped(full, 2), None)
    expected = "error: /scratch/a.json: No space left on device; expected a disk with space, which can be written to\n"
    assert (ended.value.code, capsys.readouterr().err) == (2, expected)


def test_the_hook_for_others_is_kept_until_another_is_given(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    seen = []
    report_in_one_line(otherwise=lambda *error: seen.append(error))
    report_in_one_line(explain=lambda error: None)
    error = ValueError("a mistake of ours")
    sys.excepthook(ValueError, error, None)
    assert seen == [(ValueError, error, None)]


def test_ctrl_c_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    report_in_one_line()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "interrupted\n"


# Arguments


def test_a_word_stands_for_one_of_its_choices():
    assert choice("recipe", "table", {"text": 1, "table": 2}) == 2
    with pytest.raises(ArgumentError, match=r"^recipe=\['text'\]: expected one of text, table$"):
        choice("recipe", ["text"], {"text": 1, "table": 2})
    with pytest.raises(ArgumentError, match=r"^recipe=chart: expected one of text, table$"):
        choice("recipe", "chart", {"text": 1, "table": 2})


def test_a_command_line_adds_the_dashes_to_an_argument():
    assert input_error_message(wrapped(ArgumentError("flips=3: expected a list"), 2)) == "--flips=3: expected a list"


@pytest.mark.parametrize(
    ("names", "line"),
    [("", ""), ("a", "a"), ("abcde", "a, b, c, d, e"), ("abcdef", "a, b, c, d, e and 1 more")],
)
def test_long_lists_are_shortened(names, line):
    assert shortened(list(names)) == line


def test_the_number_of_names_can_be_chosen():
    assert shortened(["a", "b", "c", "d"], most=2) == "a, b and 2 more"


# What is printed

HOSTILE = "a\x1b[2J\x1b]0;title\x07\r\nerror: b\tc\x9b1m\u202etxt\u2028d\udcff"
ESCAPED = r"a\x1b[2J\x1b]0;title\x07\r\nerror: b\tc\x9b1m\u202etxt\u2028d\udcff"


def test_what_terminals_act_on_is_escaped():
    assert printable(HOSTILE) == ESCAPED
    assert printable(ESCAPED) == ESCAPED
    assert printable(Path("P1 Müller's 脳 \\ 'x'")) == "P1 Müller's 脳 \\ 'x'"


def test_lines_stay_lines(capsys):
    show(HOSTILE, 3)
    show(HOSTILE, error=True)
    assert capsys.readouterr() == (f"{ESCAPED}\n3\n", f"{ESCAPED}\n")


def test_lines_are_printed_above_a_progress_bar(capsys):
    with tqdm(total=2, file=sys.stderr) as bar:
        bar.update()
        show("between")
    out, err = capsys.readouterr()
    _, _, after = err.partition("1/2")
    assert out == "between\n"
    assert "1/2" in after, "the bar is drawn anew"


def test_errors_and_tracebacks_are_escaped(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    report_in_one_line()
    with pytest.raises(SystemExit):
        sys.excepthook(InputError, InputError(HOSTILE), None)
    sys.excepthook(ValueError, ValueError("x\x1b[2J"), None)
    assert capsys.readouterr().err == f"error: {ESCAPED}\nValueError: x\\x1b[2J\n"
    assert str(InputError(HOSTILE)) == ESCAPED


def test_what_libraries_log_and_warn_of_is_escaped():
    code = """
import logging, warnings
from common.errors import report_in_one_line
report_in_one_line()
logging.warning("file %s\\nsecond line", "a\\x1b[2J")
warnings.warn("file a\\x1b[2J\\nb")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr == "WARNING:root:file a\\x1b[2J\nsecond line\n<string>:6: UserWarning: file a\\x1b[2J\\nb\n"


def test_a_name_forges_no_reason_in_a_workers_text():
    forged = "a\ncommon.errors.InputError: nothing is wrong"
    error = failure_of(DataLoader(Broken(InputError(f"{forged}: label 3")), num_workers=1))
    assert input_error_message(error) == r"a\ncommon.errors.InputError: nothing is wrong: label 3"


STANDALONE = (
    "scripts/package/trial.py",
    "scripts/package/bundle_unittest.py",
)  # parts of packages: they import no `show`


@pytest.mark.parametrize("folder", ["common", "deploy", "scripts"])
def test_nothing_else_prints(folder):
    """A line printed otherwise would show what names of tensors, subjects and files hold."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            prints = isinstance(node, ast.Name) and node.id == "print"
            text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if prints or text in ("tqdm.write", "sys.stdout.write", "sys.stderr.write", "pprint.pprint"):
                found.add(path.relative_to(ROOT).as_posix())
    assert found - set(STANDALONE) == set()
