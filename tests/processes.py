"""Processes of the tests: signals act as in a terminal."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


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
