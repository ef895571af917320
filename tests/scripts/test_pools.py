import os
import signal
import time

import pytest

from scripts.pools import map_in_processes
from tests.support import refused


def square(number):
    """Return the square of a number; the first takes longest, 7 fails and 9 kills its process."""
    time.sleep(0.2 * (number == 0))
    if number == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number / (number != 7)


@pytest.mark.parametrize("workers", [1, 3])
def test_results_keep_the_order_of_the_items(workers, capsys):
    arrived = []
    results = map_in_processes(square, range(6), workers, "item", "squares", arrived.append)
    assert results == sorted(arrived) == [0, 1, 4, 9, 16, 25]
    assert "squares: 100%" in capsys.readouterr().err
    assert map_in_processes(square, []) == []


def test_an_exception_names_its_item():
    with pytest.raises(ZeroDivisionError) as error:
        map_in_processes(square, range(9), 2, "number")
    assert error.value.__notes__ == ["number: 7"]


def test_a_killed_process_names_its_item():
    with refused("number 9"):
        map_in_processes(square, [5, 9, 10, 11], 1, "number")
