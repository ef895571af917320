import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.apart import run_apart
from tests.bundles.conftest import ROOT, execute

START = "import sys; from pathlib import Path; from deploy.apart import *; from tests.deploy import test_apart as t; "


def wait(folder: str) -> None:
    """What a run has apart: a process that has started another one, and waits for it."""
    process = subprocess.Popen(["sleep", "60"])
    part = Path(folder, "part")
    part.write_text(f"{os.getpid()} {process.pid}")
    part.rename(Path(folder, "pids"))
    process.wait()


def fail() -> None:
    raise ValueError("SENTINEL")


def is_running(pid: str) -> bool:
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, -signal.SIGINT)],
)
def test_what_runs_apart_ends_with_the_process_that_waits_for_it(tmp_path, number, status):
    (tmp_path / "temporary").touch()
    code = f"""{START}
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
end_in_order()
try:
    run_apart(t.wait, {str(tmp_path)!r})
finally:
    Path({str(tmp_path)!r}, "temporary").unlink()
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (tmp_path / "pids").exists() and time.monotonic() < end:
        time.sleep(0.05)
    pids = (tmp_path / "pids").read_text().split()
    process.send_signal(number)
    assert process.wait(60) == status
    assert not any(map(is_running, pids))
    assert not (tmp_path / "temporary").exists()


def test_what_fails_apart_has_its_status_and_its_message_is_withheld():
    result = execute([sys.executable, "-c", f"{START} run_apart(t.fail)"])
    assert result.returncode == 1
    assert result.stderr.startswith("error: ValueError, its message withheld")
    assert "SENTINEL" not in result.stderr


def test_what_works_apart_returns():
    run_apart(os.getcwd)


def test_a_signal_during_the_start_is_answered_after_it(tmp_path):
    """Broken off in its start, the process that runs apart would go on unknown."""
    code = f"""{START}
import os, signal
from multiprocessing.context import SpawnProcess
start = SpawnProcess.start
SpawnProcess.start = lambda self: (os.kill(os.getpid(), signal.SIGTERM), start(self), print(self.pid, flush=True))
end_in_order()
run_apart(t.wait, {str(tmp_path)!r})
"""
    result = execute([sys.executable, "-c", code])
    assert result.returncode == 143
    assert not is_running(result.stdout.strip())
