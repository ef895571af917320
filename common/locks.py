"""Locks: only one process at a time writes to a folder; the error for a second process names the first."""

import atexit
import errno
import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from .errors import ArgumentError, InputError, show
from .files import check_writable_folder

CLAIM = ".in_use"  # lock file in a claimed folder
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}  # from file systems without locks
_HELD: dict[tuple[int, Path], BinaryIO] = {}  # by process and folder: forks inherit the table, but not the locks
_MADE: dict[tuple[int, Path], list[Path]] = {}  # folders that `claim` created, innermost first


@contextmanager
def lock(folder: Path, patience: float = 0.0) -> Iterator[int | None]:
    """Context manager: lock a folder by its file `lock`; yield the file's descriptor, or None if it is locked already.

    The lock lasts until the block has ended and all processes that inherited the descriptor have exited. `patience` is
    the time to wait for the lock, in seconds.
    """
    end = time.monotonic() + patience
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("ab")
    except OSError as error:
        raise InputError(f"{folder / 'lock'}: cannot be written: {error.strerror}") from error
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    yield None
                    return
                time.sleep(0.05)
        yield file.fileno()


def claim(name: str, folder: str | Path) -> None:
    """Reserve a folder for this process until `release` or its exit; create the folder if it is missing.

    Raise ArgumentError if the folder is in use; warn if the file system has no locks. Remove unfinished files of killed
    writers. Forks do not inherit the POSIX lock on `.in_use`: a worker that outlives its run does not block the next
    run.
    """
    target = Path(os.path.realpath(folder))  # `Path.resolve` raises RuntimeError for circular links
    key = os.getpid(), target
    if key in _HELD and _is_current(_HELD[key], target):
        return
    check_writable_folder(folder, f"--{name}={folder}")
    try:
        _MADE[key] = [parent for parent in (target, *target.parents) if not parent.exists()]
        target.mkdir(parents=True, exist_ok=True)
        while True:
            file = (target / CLAIM).open("ab")
            if not _is_locked(file, f"--{name}={folder}"):
                holder = (target / CLAIM).read_text(encoding="utf-8").strip() or "another process"
                cure = "choose a different folder, or wait until that run has ended"
                raise ArgumentError(name, folder, f"in use by {holder}; {cure}")
            if _is_current(file, target):
                break
            file.close()  # the previous holder has just removed it
        _HELD[key] = file
        file.truncate(0)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {now}\n".encode())
        file.flush()
        for leftover in target.glob(".*.[0-9]*"):  # see `common.files.atomic_write`
            if re.search(r"\.\d+$", leftover.name):
                leftover.unlink(missing_ok=True)
    except OSError as error:
        raise ArgumentError(name, folder, f"cannot be written: {error.strerror}") from error


def _is_locked(file: BinaryIO, name: str) -> bool:
    """Lock a file and return True, or close it and return False if a different process holds the lock."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            file.close()
            return False
        if error.errno not in NO_LOCKS:
            raise
        show(f"warning: {name}: its file system has no locks; make sure that no second run writes to it", error=True)
    return True


def _is_current(file: BinaryIO, folder: Path) -> bool:
    """Return whether an open lock file is still the folder's lock file."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), (folder / CLAIM).stat())
    return False


def release(folder: str | Path) -> None:
    """Release a claimed folder; remove its lock file and the folders that `claim` created, if they are empty."""
    target = Path(os.path.realpath(folder))
    key = os.getpid(), target
    if (file := _HELD.pop(key, None)) is not None:
        with suppress(OSError):  # such as a removed folder
            if _is_current(file, target):
                (target / CLAIM).unlink()
            for created in _MADE.pop(key):
                created.rmdir()  # fails unless empty, as after a refused run
        with suppress(OSError):  # such as a full disk
            file.close()  # after its removal, so that no process locks a file about to be deleted


@atexit.register
def _release_all() -> None:
    for _, folder in reversed(list(_HELD)):  # latest first: an earlier claim may hold a parent folder
        release(folder)


@contextmanager
def claimed(name: str, folder: str | Path) -> Iterator[None]:
    """Context manager: claim a folder within the block; see `claim`."""
    claim(name, folder)
    try:
        yield
    finally:
        release(folder)
