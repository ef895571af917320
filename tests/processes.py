"""Wait for processes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


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
