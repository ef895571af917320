"""tqdm progress bars with a lock for each process; variables of the environment that tqdm cannot use are refused.

tqdm shares its lock with forked processes; if a DataLoader's worker died holding it, the next bar would wait forever.
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


REPORTS: list[Callable[[str, float], None]] = []  # at most one: what this process tells of its work


def stage(name: str, done: float) -> None:
    """Tell the progress bar, if there is one, which stage of an item begins, and the share of its work before."""
    for report in REPORTS:
        report(name, done)


def _own_lock() -> None:
    tqdm.set_lock(RLock())


_own_lock()
os.register_at_fork(after_in_child=_own_lock)  # a thread of the parent may hold the parent's lock during the fork
