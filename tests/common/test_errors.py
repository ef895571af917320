"""Bad input is reported by the innermost message, in one line, with status 2."""

import ast
import errno
import os
import re
import signal
import subprocess
import sys

import pytest

from common.errors import (
    ArgumentError,
    InputError,
    ending_of,
    input_error_message,
    report_in_one_line,
    show,
    show_error,
)
from tests.support import ROOT

HOSTILE = "a\x1b[2J\x1b]0;title\x07\r\nerror: b\tc\x9b1m\u202etxt\u2028d\udcff"
ESCAPED = r"a\x1b[2J\x1b]0;title\x07\r\nerror: b\tc\x9b1m\u202etxt\u2028d\udcff"

# Reasons


def raised_from(outer, cause):
    outer.__cause__ = cause
    return outer


def wrapped(error, times):
    """Wrap an exception as MONAI does, once for each section of a config."""
    for number in range(times):
        error = raised_from(RuntimeError(f"Failed to evaluate section {number}\nof many lines"), error)
    return error


INNER = InputError("a.nii.gz: label 3")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (INNER, "a.nii.gz: label 3"),
        (raised_from(InputError("subject a: label 3"), INNER), "subject a: label 3"),
        (ArgumentError("flips=3: expected a list"), "--flips=3: expected a list"),
        (ValueError("a.nii.gz: label 3"), None),
    ],
)
def test_the_outermost_reason_is_found_below_wrappers(error, reason):
    assert input_error_message(error) == input_error_message(wrapped(error, 4)) == reason


# The end of a process

PROCESS = """
from common.errors import InputError, report_in_one_line
report_in_one_line()
try:
    raise InputError("spacing 9: expected 1 to 4")
except ValueError as error:
    raise RuntimeError("a section\\nof a config") from error
"""


def test_bad_input_ends_a_process_with_one_line_and_status_2():
    ended = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: spacing 9: expected 1 to 4\n"


LASTING = """
from common import errors
errors.report_in_one_line()
{outlive}
input()
errors.show("nobody reads this")
errors.show("nor this", error=True)
print("nor this", flush=True)
"""


@pytest.mark.parametrize("outlive", ["errors.outlive_readers()", ""])
def test_a_training_outlives_the_readers_of_its_output(outlive):
    command = [sys.executable, "-c", LASTING.format(outlive=outlive)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.close()
        process.stderr.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        assert (process.wait() == 0) == bool(outlive)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_lasting_streams_keep_the_order_of_lines(unbuffered):
    """Without buffers, as in many containers, the end of a progress bar came after the next line."""
    code = "import sys; from common import errors; errors.outlive_readers(); "
    code += "sys.stderr.write('bar\\n'); errors.show('line')"
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, **pipes).stdout == b"bar\nline\n"


def test_a_closed_stream_is_replaced():
    code = "import sys; from common.errors import report_in_one_line; report_in_one_line(); print(sys.stderr.isatty())"
    command = ["bash", "-c", f'{sys.executable} -c "{code}" 2>&-']
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "False\n")


def test_a_stream_that_is_not_utf_8_gets_escapes():
    code = r"from common.errors import show; show('Gr\xf6\xdfe \udce9'); show('Gr\xf6\xdfe', error=True)"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONIOENCODING": "ascii:strict"}, capture_output=True
    )
    assert ended.stdout == rb"Gr\xf6\xdfe \udce9" + b"\n"
    assert ended.stderr == rb"Gr\xf6\xdfe" + b"\n"


DELETED = """
from common.errors import report_in_one_line
report_in_one_line()
class Deleted:
    def __init__(self, message):
        self.message = message
    def __del__(self):
        raise RuntimeError(self.message)
Deleted("DataLoader worker (pid 7) is killed by signal: Interrupt. ")
Deleted("another fault")
"""


def test_a_data_worker_that_ended_with_the_run_is_no_fault():
    ended = subprocess.run([sys.executable, "-c", DELETED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert re.findall("RuntimeError: (.*)", ended.stderr) == ["another fault"]


EVENTS = """
import threading
from torch.utils.tensorboard import SummaryWriter
from common.errors import report_in_one_line
from tests.support import disk_of
report_in_one_line()
writer = SummaryWriter({folder!r})
with disk_of(10):
    try:
        writer.add_scalar("loss", 1.0, 1)
        writer.flush()
    except OSError as error:
        print(error.strerror)
threading.Thread(target=lambda: 1 / 0, name="own").start()
"""


def test_an_exception_of_tensorboards_thread_is_told_only_by_its_writer(tmp_path):
    command = [sys.executable, "-c", EVENTS.format(folder=str(tmp_path))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout == "File too large\n"
    assert re.findall("Exception in thread (.*):", ended.stderr) == ["own"]
    assert "tensorboard" not in ended.stderr


@pytest.fixture
def end(monkeypatch, capsys):
    """Return a function that passes an exception to the hook and returns the printed text and the exit status."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    report_in_one_line()

    def end(error):
        try:
            sys.excepthook(type(error), error, None)
        except SystemExit as ended:
            return capsys.readouterr().err, ended.code
        return capsys.readouterr().err, None

    return end


@pytest.mark.parametrize(
    ("error", "line", "status"),
    [
        (InputError(HOSTILE), f"error: {ESCAPED}\n", 2),
        (ValueError("a mistake"), "ValueError: a mistake\n", None),
        (KeyboardInterrupt(), "interrupted\n", None),
        (
            wrapped(OSError(errno.ENOSPC, "No space left on device", "/scratch/a.json"), 2),
            "error: /scratch/a.json: No space left on device; the disk is full or read-only\n",
            2,
        ),
        (
            wrapped(OSError(errno.ELOOP, "Too many levels of symbolic links", "/scratch/a"), 2),
            "error: /scratch/a: Too many levels of symbolic links; expected a path that leads to a file\n",
            2,
        ),
        (
            wrapped(OSError(errno.EMFILE, "Too many open files", "/scratch/a.json"), 2),
            "error: too many open files: raise their limit, as with `ulimit -n 4096`, or lower --num_workers or "
            "--jobs\n",
            2,
        ),
    ],
)
def test_uncaught_exceptions_are_reported(end, error, line, status):
    assert end(error) == (line, status)


def test_the_line_is_the_last_below_a_progress_bar():
    code = "from common.errors import *; from common.bars import tqdm; report_in_one_line(); bar = tqdm(range(3))\n"
    code += "for each in bar: raise InputError('a folder')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (2, "error: a folder")


def test_the_hook_for_other_exceptions_stays(end):
    report_in_one_line(otherwise=lambda kind, error, trace: show(f"withheld {kind.__name__}", error=True))
    report_in_one_line()
    assert end(ValueError("a name")) == ("withheld ValueError\n", None)
    assert end(InputError("a folder")) == ("error: a folder\n", 2)


def test_how_a_process_ended():
    endings = [ending_of(status) for status in (3, -signal.SIGTERM, -40)]  # a real-time signal has no name
    assert endings == ["ended with status 3", "was ended by SIGTERM", "was ended by signal 40"]


# What is printed


def test_long_values_and_lines_are_cut_in_their_middle(capsys):
    path = "/scratch" * 49
    assert str(InputError(f"{path}: --seed={'9' * 5000}: x")) == f"{path}: --seed={'9' * 53}...{'9' * 39}: x"
    long = str(InputError("name=" + "a, " * 5000 + "expected b"))
    assert (len(long), long[:9], long[-10:]) == (1005, "name=a, a", "expected b")
    show_error(f"{'a' * 5000}: File name too long")
    assert capsys.readouterr().err == f"error: {'a' * 60}...{'a' * 39}: File name too long\n"


STANDALONE = {"scripts/package/bundle_unittest.py"}  # runs in packages, without `show`


def test_nothing_else_prints():
    """Other functions would print the control characters in names of tensors, subjects and files."""
    modules, writers = set(), ("print", "tqdm.write", "sys.stdout.write", "sys.stderr.write", "pprint.pprint")
    for path in (path for folder in ("common", "deploy", "scripts") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in writers:
                modules.add(path.relative_to(ROOT).as_posix())
    assert modules - STANDALONE == set()
