"""A bar does not wait for a process that has ended."""

import sys

from tests.support import execute

BARS = """
import os
from multiprocessing import get_context
from threading import Thread
from common.bars import tqdm

def hold():
    tqdm.get_lock().acquire()

def hold_and_end():
    hold()
    os._exit(3)

def show():
    list(tqdm(range(2)))

def status(function):
    child = get_context("fork").Process(target=function)
    child.start()
    child.join(120)
    child.kill()
    return child.exitcode

show()
assert status(hold_and_end) == 3
thread = Thread(target=show, daemon=True)
thread.start()
thread.join(120)
assert not thread.is_alive(), "waits for a process that has ended"
thread = Thread(target=hold)
thread.start()
thread.join()
assert status(show) == 0, "waits for a thread of its parent"
"""


def test_a_process_that_ends_with_tqdms_lock_holds_up_no_other():
    result = execute([sys.executable, "-c", BARS])
    assert result.returncode == 0, result.stderr
