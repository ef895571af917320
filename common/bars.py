"""tqdm progress bars, with a separate lock in each process; invalid TQDM_* variables raise `InputError` on import.

tqdm shares its lock with forked processes: if a DataLoader worker died with the lock, the next bar would wait forever.
"""

import os
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from threading import RLock

from .errors import InputError, one_line, report_in_one_line

VARIABLES = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("TQDM_")]

try:
    from tqdm import tqdm

    if VARIABLES:
        with redirect_stderr(StringIO()):
            list(tqdm("."))
except Exception as failed:
    if not VARIABLES:
        raise
    report_in_one_line()
    raise InputError(f"{' '.join(VARIABLES)}: {one_line(failed)}; expected values that tqdm can use") from failed


REPORTS: list[Callable[[str, float], None]] = []  # at most one callback, which reports progress to the parent process


def stage(name: str, done: float) -> None:
    """Report to the callback in `REPORTS` which stage begins and which fraction of the work is done (0 to 1)."""
    for report in REPORTS:
        report(name, done)


def _renew_lock() -> None:
    tqdm.set_lock(RLock())


_renew_lock()
os.register_at_fork(after_in_child=_renew_lock)  # a thread of the parent may hold the lock during the fork
