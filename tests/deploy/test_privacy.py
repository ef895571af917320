import signal
import sys

import pytest

from tests.support import execute

START = "from deploy.privacy import restrict_output; restrict_output(); import logging, warnings; "


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("raise ValueError('SENTINEL')", 1, "error: ValueError (message withheld) at\n  <string>:1 <module>\n"),
        ("from common.errors import InputError\nraise InputError('--input: bad')", 2, "error: --input: bad\n"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "interrupted\n"),
        ("logging.critical('SENTINEL'); warnings.warn('SENTINEL')", 0, ""),
    ],
)
def test_nothing_but_messages_of_ours_is_printed(code, status, message):
    result = execute([sys.executable, "-c", START + code])
    assert (result.returncode, result.stdout, result.stderr) == (status, "", message)
