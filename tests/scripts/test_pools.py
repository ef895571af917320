import os
import signal

import pytest

from scripts.pools import map_in_processes


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
