"""Bad input is reported by the innermost message, in one line, with status 2."""

import subprocess
import sys

import pytest

from common.errors import (
    ArgumentError,
    InputError,
    input_error_message,
    report_in_one_line,
)

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


# What is printed
