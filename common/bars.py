"""tqdm progress bars, and the stages of work in a child process."""

from collections.abc import Callable
from threading import RLock

from tqdm import tqdm

tqdm.set_lock(RLock())  # not shared with forked processes: one that dies with the lock would block the next bar

REPORTS: list[Callable[[str, float], None]] = []  # at most one callback, which reports progress to the parent process


def stage(name: str, done: float) -> None:
    """Report to the callback in `REPORTS` which stage begins and which fraction of the work is done (0 to 1)."""
    for report in REPORTS:
        report(name, done)
