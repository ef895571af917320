import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import is_running
from tests.support import ROOT, execute


def wait(folder: str) -> None:
    """Start a process, write this process's and its id to the file `pids`, and wait for it to end."""
    process = subprocess.Popen(["sleep", "60"])
    Path(folder, "part").write_text(f"{os.getpid()} {process.pid}")
    Path(folder, "part").rename(Path(folder, "pids"))
    process.wait()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -2)])
def test_an_interruption_ends_the_child_and_its_processes(tmp_path, number, status):
    code = f"""
import signal
from deploy.process import exit_cleanly_on_signals, run_guarded
from tests.deploy.test_process import wait
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
exit_cleanly_on_signals()
run_guarded(wait, {str(tmp_path)!r})
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 600
    while not (tmp_path / "pids").exists() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == status
    assert not any(map(is_running, (tmp_path / "pids").read_text().split()))


RESTRICTED = "from deploy.process import restrict_output; restrict_output(); import logging, warnings; "


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
    result = execute([sys.executable, "-c", RESTRICTED + code])
    assert (result.returncode, result.stdout, result.stderr) == (status, "", message)
