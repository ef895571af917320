import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.pools import map_in_processes
from tests.support import ROOT


def kill_some(order):
    """Return the square of a number; 3 kills its process the first time, 7 each time."""
    number, folder = order
    if number in (3, 7):
        visited = folder / str(number)
        if number == 7 or not visited.exists():
            visited.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return number * number


@pytest.mark.parametrize("workers", [1, 3])
def test_a_killed_process_loses_only_its_item(tmp_path, workers, capsys):
    results = map_in_processes(kill_some, [(number, tmp_path) for number in range(12)], workers, "item", "squares")
    assert results == [None if number == 7 else number * number for number in range(12)]
    assert "squares: 100%" in capsys.readouterr().err


def test_an_item_that_waited_for_a_killed_process_has_two_tries(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    assert map_in_processes(kill_some, [(3, tmp_path / name) for name in "ab"], 1) == [9, 9]


def test_ctrl_c_to_the_main_process_alone_ends_the_others_at_once(tmp_path):
    """The items would take a minute."""
    code = "import sys, time; from pathlib import Path; from scripts.pools import map_in_processes"
    code += "; map_in_processes(time.sleep, [60, 60, 60], 2)"
    command = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
    while len(started := children.read_text().split()) < 2:
        time.sleep(0.1)
    command.send_signal(signal.SIGINT)
    assert command.wait(20) == -signal.SIGINT
    assert not any(Path("/proc", child).exists() for child in started)
