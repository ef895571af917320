import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, execute, is_running, wait_until


def wait(folder: str) -> None:
    """Start a process, write this process's and its id to the file `pids`, and wait for it to end."""
    process = subprocess.Popen(["sleep", "60"])
    Path(folder, "part").write_text(f"{os.getpid()} {process.pid}")
    Path(folder, "part").rename(Path(folder, "pids"))
    process.wait()


SUPERVISE = """
from deploy.process import exit_cleanly_on_signals, run_guarded
from tests.deploy.test_process import wait
exit_cleanly_on_signals()
run_guarded(wait, {!r})
"""


def test_a_signal_ends_the_child_and_its_processes(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", SUPERVISE.format(str(tmp_path))], cwd=ROOT)
    wait_until((tmp_path / "pids").exists)
    process.terminate()
    assert process.wait(60) == 143
    assert not any(map(is_running, (tmp_path / "pids").read_text().split()))


RESTRICTED = "from deploy.process import restrict_output; restrict_output(); import logging, warnings; "


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("raise ValueError('SENTINEL')", 1, "error: ValueError (message withheld) at\n  <string>:1 <module>\n"),
        ("from common.errors import InputError\nraise InputError('--input: bad')", 2, "error: --input: bad\n"),
        ("logging.critical('SENTINEL'); warnings.warn('SENTINEL')", 0, ""),
    ],
)
def test_nothing_but_messages_of_ours_is_printed(code, status, message):
    result = execute([sys.executable, "-c", RESTRICTED + code])
    assert (result.returncode, result.stdout, result.stderr) == (status, "", message)
