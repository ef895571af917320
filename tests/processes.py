"""Processes of the tests: signals act as in a terminal, and no program outlives the tests."""

import atexit
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

MARK = "TESTS"  # environment variable of all started programs: the number of the tests' main process


def reset_signals() -> None:
    """Restore the default handlers of signals that are ignored, as under nohup or in a script's background.

    The tests become a process group of their own, so that a closing terminal does not end them.
    """
    defaults = dict.fromkeys((signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP), signal.SIG_DFL)
    defaults[signal.SIGINT] = signal.default_int_handler
    ignored = {number: default for number, default in defaults.items() if signal.getsignal(number) is signal.SIG_IGN}
    if ignored:
        with suppress(PermissionError):  # already a session, as by setsid
            os.setpgrp()
    for number, default in ignored.items():
        signal.signal(number, default)


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
    """After the last test, kill the programs that tests have started and that still run, in any session."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        os.environ[MARK] = str(os.getpid())
        atexit.register(_end_programs)


def _end_programs() -> None:
    mark = f"{MARK}={os.getpid()}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # the process has ended, or belongs to a different user
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if "from multiprocessing." not in command:  # end with this process
                    os.kill(int(folder.name), signal.SIGKILL)
                    print(f"ended a program that outlived the tests: {command}")
