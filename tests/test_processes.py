"""Programs that tests start have a terminal's signal handlers, and end with the tests."""

import os
import subprocess
import sys

import pytest

from tests.processes import is_running
from tests.support import ROOT

TEST = """
import os, signal, subprocess, time
from pathlib import Path
import pytest

def test_signals():
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        assert subprocess.run(["bash", "-c", f"kill -{number.value} $$; sleep 5"]).returncode == -number

def test_that_fails():
    program = subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path(__file__).with_name("program").write_text(str(program.pid))
    assert False
"""


@pytest.mark.parametrize(("started", "processes"), [("nohup", 1), ("setsid --wait", 0)])
def test_ignored_signals_and_programs_of_failed_tests(started, processes, tmp_path):
    calls = "processes.reset_signals()\nprocesses.end_programs_at_exit()\n"
    (tmp_path / "conftest.py").write_text(f"from tests import processes\n\n{calls}")
    (tmp_path / "test_it.py").write_text(TEST)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    options = [f"--numprocesses={processes}", f"--rootdir={tmp_path}", "-c", os.devnull, "-p", "no:cacheprovider"]
    words = ["bash", "-c", f'trap "" INT HUP TERM; {started} "$@"', "bash", sys.executable, "-m", "pytest", *options]
    ended = subprocess.run(
        [*words, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "1 failed, 1 passed" in ended.stdout, ended.stdout + ended.stderr
    assert "ended a program that outlived the tests: sleep 600" in ended.stdout
    assert not is_running((tmp_path / "program").read_text())
