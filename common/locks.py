"""Locks: one process at a time writes to a folder, and the next one is told who has it."""

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
from typing import NamedTuple, TextIO

from .errors import ArgumentError, InputError, show

__all__ = ["claim", "claimed", "lock", "release", "unfinished_files"]

CLAIM = ".in_use"  # file in a folder that a process writes to
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}  # of a file system without locks


@contextmanager
def lock(folder: Path, patience: float = 0.0) -> Iterator[int | None]:
    """A lock on a folder, as a file descriptor; None if another process has it.

    The operating system frees it when the process, and each process that inherits the descriptor, has ended.

    Args:
        folder: gets the file `lock`; it is made where it is missing.
        patience: seconds to wait for another process that only looks.

    Raises:
        InputError: the file cannot be opened for writing, or is a link.
    """
    end = time.monotonic() + patience
    folder.mkdir(parents=True, exist_ok=True)
    try:
        file = open(folder / "lock", "a", opener=_open_file_only)  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{folder / 'lock'}: {error.strerror}; expected a file that can be written") from error
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


class _Claim(NamedTuple):
    """A folder that this process keeps others out of: its open lock file, and the process, as a fork inherits this."""

    file: TextIO
    process: int


_CLAIMS: dict[Path, _Claim] = {}


def claim(name: str, folder: str | Path, patience: float = 0.0) -> None:
    """Keep other processes from writing to a folder, until `release` or the end of this process, however it ends.

    The lock is POSIX's, on the file `.in_use`, which says who has it. Unlike that of `lock`, processes that this one
    forks do not inherit it: a DataLoader's worker that outlives a killed run does not block the next one. It holds
    across the machines of a network file system that passes locks on; where there are none, a warning says so.

    What killed writers left unfinished in the folder is removed. A folder that this process has claimed may be claimed
    again.

    Args:
        name: of the argument that gave the folder, for the message.
        folder: it is made where it is missing.
        patience: seconds to wait for another process.

    Raises:
        ArgumentError: another process has it, or it cannot be written to.
    """
    place = Path(folder).resolve()
    held = _CLAIMS.get(place)
    if held and held.process == os.getpid() and _is_same_file(held.file, place / CLAIM):
        return
    end = time.monotonic() + patience
    try:
        place.mkdir(parents=True, exist_ok=True)
        while (file := _lock_file(place / CLAIM, f"--{name}={folder}")) is None:
            if time.monotonic() >= end:
                holder = (place / CLAIM).read_text(encoding="utf-8").strip() or "another process"
                expected = "expected a folder of its own, or the end of that run"
                raise ArgumentError(f"{name}={folder}: in use by {holder}; {expected}")
            time.sleep(0.05)
        _CLAIMS[place] = _Claim(file, os.getpid())
        file.truncate(0)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {now}\n")
        file.flush()
        for left in unfinished_files(place, "*"):
            left.unlink(missing_ok=True)
    except OSError as error:
        raise ArgumentError(f"{name}={folder}: {error.strerror}; expected a folder that can be written") from error


def _lock_file(path: Path, name: str) -> TextIO | None:
    """Open and lock a file; None if another process has the lock, or has just removed the file."""
    file = open(path, "a", encoding="utf-8", opener=_open_file_only)  # noqa: SIM115
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            file.close()
            return None
        if error.errno not in NO_LOCKS:
            file.close()
            raise
        show(f"warning: {name}: no locks on its file system; see that no other run writes to it", error=True)
    if not _is_same_file(file, path):
        file.close()
        return None
    return file


def _open_file_only(path: str, flags: int) -> int:
    """Open a file for writing; neither follows a link nor waits for the reader of a pipe."""
    if Path(path).is_symlink():
        raise OSError(errno.ELOOP, f"{Path(path).name} is a link", path)
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def _is_same_file(file: TextIO, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def release(folder: str | Path) -> None:
    """Let other processes write to a folder again that this one has claimed; otherwise nothing happens."""
    place = Path(folder).resolve()
    held = _CLAIMS.pop(place, None)
    if held is None or held.process != os.getpid():
        return
    with suppress(OSError):  # such as a folder that has been removed
        if _is_same_file(held.file, place / CLAIM):
            (place / CLAIM).unlink()
    held.file.close()  # after the file has gone, so that nobody locks one that is about to go


@atexit.register
def _release_all() -> None:
    for place in list(_CLAIMS):
        release(place)


@contextmanager
def claimed(name: str, folder: str | Path, patience: float = 0.0) -> Iterator[None]:
    """Keep other processes from writing to a folder during a block; see `claim`."""
    claim(name, folder, patience)
    try:
        yield
    finally:
        release(folder)


def unfinished_files(folder: Path, pattern: str) -> list[Path]:
    """Temporary files that `atomic_write` left in a folder in a process that was killed, on this machine or another.

    Args:
        folder: that this process has claimed, or no other one writes to.
        pattern: of the names that the files were to get.
    """
    found = {path: re.search(r"\.(\d+)$", path.name) for path in sorted(folder.glob(f".{pattern}.[0-9]*"))}
    return [path for path, process in found.items() if process and not _is_another_process(int(process[1]))]


def _is_another_process(number: int) -> bool:
    """Whether a process of this machine has a number; this process, which has only begun, does not count."""
    if number == os.getpid():
        return False
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True
