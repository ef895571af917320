"""Locks: only one process writes to a folder at a time; an error names the process that has it."""

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
from .files import check_writable_folder, open_to_append

CLAIM = ".in_use"  # lock file in a claimed folder
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}  # raised by file systems without locks
_HELD: dict[tuple[int, Path], BinaryIO] = {}  # by process and folder: a fork inherits this table, but not the locks
_MADE: dict[tuple[int, Path], list[Path]] = {}  # folders that `claim` made, the innermost first


@contextmanager
def lock(folder: Path, patience: float = 0.0) -> Iterator[int | None]:
    """Lock a folder by its file `lock`; yield the descriptor, or None if another process has the lock.

    The system frees the lock when this process and all that inherit the descriptor have ended. `patience` is the number
    of seconds to wait for a process that only reads.
    """
    end = time.monotonic() + patience
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open_to_append(folder / "lock")
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
    """Keep other processes from writing to a folder until `release` or the end of this process.

    Unfinished files of killed writers are removed. Forks do not inherit this POSIX lock on `.in_use`, so that a
    DataLoader's worker that outlives its run does not block the next; a file system without locks gets a warning.
    """
    place = Path(os.path.realpath(folder))  # `Path.resolve` raises RuntimeError at a loop of links
    key = os.getpid(), place
    if key in _HELD and _is_in_place(_HELD[key], place):
        return
    check_writable_folder(folder, f"--{name}={folder}")
    try:
        _MADE[key] = [each for each in (place, *place.parents) if not each.exists()]
        place.mkdir(parents=True, exist_ok=True)
        while True:
            file = open_to_append(place / CLAIM)
            if not _is_locked(file, f"--{name}={folder}"):
                holder = (place / CLAIM).read_text(encoding="utf-8").strip() or "another process"
                cure = "choose a different folder, or wait until that run has ended"
                raise ArgumentError(name, folder, f"in use by {holder}; {cure}")
            if _is_in_place(file, place):
                break
            file.close()  # its holder has just removed it
        _HELD[key] = file
        file.truncate(0)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {now}\n".encode())
        file.flush()
        for left in place.glob(".*.[0-9]*"):  # see `common.files.atomic_write`
            if re.search(r"\.\d+$", left.name):
                left.unlink(missing_ok=True)
    except OSError as error:
        raise ArgumentError(name, folder, f"cannot be written: {error.strerror}") from error


def _is_locked(file: BinaryIO, name: str) -> bool:
    """Lock a file; false if another process has the lock."""
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


def _is_in_place(file: BinaryIO, folder: Path) -> bool:
    """Whether an open lock file is still the one in its folder."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), (folder / CLAIM).stat())
    return False


def release(folder: str | Path) -> None:
    """Release a folder that this process has claimed, and remove what `claim` made, if it is empty."""
    place = Path(os.path.realpath(folder))
    key = os.getpid(), place
    if (file := _HELD.pop(key, None)) is not None:
        with suppress(OSError):  # such as a folder that has been removed
            if _is_in_place(file, place):
                (place / CLAIM).unlink()
            for made in _MADE.pop(key):
                made.rmdir()  # if it is empty, as after a run that was refused
        with suppress(OSError):  # such as a full disk
            file.close()  # after the file is removed, so that no process locks a file about to be deleted


@atexit.register
def _release_all() -> None:
    for _, place in reversed(list(_HELD)):  # the last, whose parents an earlier claim may hold, first
        release(place)


@contextmanager
def claimed(name: str, folder: str | Path) -> Iterator[None]:
    """Context manager: claim a folder during a block; see `claim`."""
    claim(name, folder)
    try:
        yield
    finally:
        release(folder)
