import signal
import sys

from tests.support import execute

START = "from deploy.privacy import restrict_output; restrict_output(); import logging, warnings; "


def run(code):
    return execute([sys.executable, "-c", START + code])


def test_messages_of_unexpected_errors_are_withheld():
    result = run("raise ValueError('SENTINEL')")
    assert result.returncode == 1
    assert "SENTINEL" not in result.stderr
    assert result.stderr.startswith("error: ValueError (message withheld) at\n  <string>:1")


def test_bad_input_is_reported_in_one_line():
    result = run("from common.errors import InputError\nraise InputError('--input: bad')")
    assert (result.returncode, result.stderr) == (2, "error: --input: bad\n")


def test_an_interruption_is_reported_in_one_line():
    result = run("raise KeyboardInterrupt")
    assert (result.returncode, result.stderr) == (-signal.SIGINT, "interrupted\n")


def test_logs_and_warnings_of_libraries_are_not_shown():
    result = run("logging.critical('SENTINEL'); warnings.warn('SENTINEL')")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
