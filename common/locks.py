"""Locks: only one run at a time writes to a folder."""

import atexit
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import ArgumentError, show

CLAIM = ".in_use"  # lock file in a claimed folder
_HELD: dict[str, FileLock] = {}


def claim(name: str, folder: str | Path) -> None:
    """Reserve a folder for this process until `release` or its exit; create the folder if it is missing.

    Raise ArgumentError if the folder is in use or cannot be written to. Remove unfinished files of killed writers.
    Forks do not inherit the lock: a worker that outlives its run does not block the next run.
    """
    target = Path(os.path.realpath(folder))
    if str(target) in _HELD and _HELD[str(target)].is_locked:
        return
    lock = FileLock(target / CLAIM, timeout=0, thread_local=False, fallback_to_soft=False)
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
        return
    _HELD[str(target)] = lock
    atexit.register(release, target)
    for leftover in target.glob(".*.part"):  # see `common.files.atomic_write`
        leftover.unlink(missing_ok=True)


def release(folder: str | Path) -> None:
    """Release a claimed folder, and remove its lock file."""
    target = os.path.realpath(folder)
    lock = _HELD.pop(target, None)
    if lock is not None and lock.is_locked:  # not in a fork
        Path(target, CLAIM).unlink(missing_ok=True)
        lock.release()


@contextmanager
def claimed(name: str, folder: str | Path) -> Iterator[None]:
    """Context manager: claim a folder within the block; see `claim`."""
    claim(name, folder)
    try:
        yield
    finally:
        release(folder)
