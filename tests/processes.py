"""The processes of the tests: signals act as in a terminal, and no program outlives the tests."""

import atexit
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from common.training.signals import SIGNALS

MARK = "TESTS"  # environment variable of each program that tests start: the process of all tests


def reset_signals() -> None:
    """Undo what nohup or the background of a shell script lets this process, and programs of tests, ignore.

    The tests become a process group, which a hang-up of the terminal does not reach.
    """
    ignored = {number: usual for number, usual in SIGNALS.items() if signal.getsignal(number) is signal.SIG_IGN}
    if ignored:
        with suppress(PermissionError):  # already a session, as by setsid
            os.setpgrp()
    for number, usual in ignored.items():
        signal.signal(number, usual)


def is_running(process: int | str) -> bool:
    """Whether a process exists and has not ended; a zombie has."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], Any], explain: Callable[[], str] = str, seconds: float = 60) -> Any:
    """Wait for a condition, and return its value; fail with the text of `explain` after some seconds."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, explain()
        time.sleep(0.05)
    return value


def end_programs_at_exit() -> None:
    """At the end of all tests, kill their programs that still run, also those in a session of their own."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        os.environ[MARK] = str(os.getpid())
        atexit.register(_end_programs)


def _end_programs() -> None:
    mark = f"{MARK}={os.getpid()}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if "multiprocessing.resource_tracker" not in command:  # ends with this process
                    os.kill(int(folder.name), signal.SIGKILL)
                    print(f"ended a program that outlived the tests: {command}")
