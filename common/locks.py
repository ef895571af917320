"""Locks: only one run at a time writes to a folder."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import ArgumentError, show

CLAIM = ".in_use"  # lock file in a claimed folder


@contextmanager
def claimed(name: str, folder: str | Path) -> Iterator[None]:
    """Context manager: reserve a folder for this process; create it, and remove unfinished files of killed writers.

    Raise ArgumentError if the folder is in use or cannot be written to. The process may claim a folder again. Forks do
    not inherit the lock: a worker that outlives its run does not block the next run.
    """
    target = Path(os.path.realpath(folder))
    lock = FileLock(target / CLAIM, timeout=0, thread_local=False, fallback_to_soft=False, is_singleton=True)
    try:
        target.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        cure = "choose a different folder, or wait until that run has ended"
        raise ArgumentError(name, folder, f"in use by another run; {cure}") from error
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise ArgumentError(name, folder, f"cannot be written: {error.strerror}") from error
        show(f"warning: --{name}={folder}: its file system has no locks; let no second run write to it", error=True)
    for leftover in target.glob(".*.part"):  # see `common.files.atomic_write`
        leftover.unlink(missing_ok=True)
    try:
        yield
    finally:
        if lock.lock_counter == 1:  # no outer claim of this process
            (target / CLAIM).unlink(missing_ok=True)
        lock.release()
