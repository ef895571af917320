"""Write files atomically, lock folders, check early that output can be written, and report file errors in one line."""

import atexit
import csv
import errno
import fcntl
import hashlib
import io
import json
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from common.errors import ArgumentError, InputError, show

__all__ = [
    "aside_of",
    "atomic_write",
    "cell_text",
    "check_writable_file",
    "check_writable_folder",
    "claim",
    "claimed",
    "digest",
    "expand_home",
    "lock",
    "move_aside",
    "parse_json",
    "read_bytes",
    "read_json",
    "release",
    "reporting_json_errors",
    "reporting_path_errors",
    "unfinished_files",
    "write_csv",
    "write_json",
]

FORMULA = re.compile(r"'*[=+\-@＝＋－＠\t\r\n]")  # what a spreadsheet runs begins so (OWASP, "CSV Injection")


CLAIM = ".in_use"  # file in a folder that a process writes to
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}  # of a file system without locks


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a block a temporary file to write; at the end of the block it replaces `path`.

    Readers of `path` see the old content until the new content is complete. If the block fails, the old content stays.
    A missing folder is created.

    Raises:
        InputError: the file cannot be written.

    Example:
        >>> with atomic_write("/tmp/figures.json") as file:
        ...     file.write_text("{}")
        2
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # on disk before it gets the name
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; expected a file that can be written") from error


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON, complete or not at all; the same content gives the same bytes.

    Raises:
        InputError: the file cannot be written.
        ValueError: the content has a number that is not finite, which JSON lacks.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as file:
        file.write_bytes(text.encode("utf-8", "backslashreplace"))  # a file name that is no UTF-8: JSON's own escape


def read_bytes(path: str | Path) -> bytes:
    """The content of a regular file; a pipe could let its reader wait for ever, and a device never ends.

    Raises:
        OSError: it cannot be read, or is something else.
    """
    if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
        raise OSError(errno.EINVAL, "not a regular file")
    return Path(path).read_bytes()


def read_json(path: str | Path) -> Any:
    """The content of a JSON file; see `read_bytes` and `parse_json`."""
    return parse_json(read_bytes(path).decode())


def parse_json(text: str | bytes) -> Any:
    """The content of JSON text in which no object has a key twice, as Python's own parser keeps only the last of them.

    Raises:
        ValueError: it is not JSON, or has a key twice.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {json.dumps(twice)[:80]} occurs twice")
    return content


def write_csv(path: str | Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write a table of comma-separated values in UTF-8, complete or not at all; the first row has the columns' names.

    Text that a spreadsheet would run as a formula gets an apostrophe before it, which `cell_text` takes away.

    Raises:
        InputError: the file cannot be written.
    """
    with atomic_write(path) as file, file.open("w", newline="", encoding="utf-8") as content:
        content.writelines(map(_line, rows))


def _line(row: Sequence[Any]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(map(_cell, row))  # as its lines end with \r\n, it quotes a lone \r, too
    return line.getvalue().removesuffix("\r\n") + "\n"


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) and not _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def cell_text(cell: str) -> str:
    """The text of a cell that `write_csv` wrote.

    Example:
        >>> cell_text("'=P1"), cell_text("-1.5")
        ('=P1', '-1.5')
    """
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def digest(path: str | Path, kind: str = "sha256") -> str:
    """The hash of a file in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def aside_of(path: Path) -> Path:
    """A free name for an earlier file or folder, by the time when it was last changed: run-20261121T080000.json."""
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    target = path.with_name(f"{path.stem}-{changed:%Y%m%dT%H%M%S}{path.suffix}")
    while target.exists():
        target = target.with_name(f"{target.stem}x{target.suffix}")
    return target


def move_aside(path: Path) -> None:
    """Rename a file or folder, if it exists; see `aside_of`."""
    if path.exists():
        path.rename(aside_of(path))


def expand_home(path: str | Path, name: str) -> Path:
    """A path with `~` replaced by the home folder.

    Args:
        path: as a user wrote it.
        name: the path's name in the message, such as "--output=F.json".

    Raises:
        InputError: there is no such home folder.
    """
    with reporting_path_errors(name):
        return Path(str(path)).expanduser()


def check_writable_file(path: str | Path, name: str) -> None:
    """Check, before long work, that a file can be written afterwards; its folders may be missing.

    Args:
        path: of the file.
        name: the path's name in the message, such as "--output=F.json".

    Raises:
        InputError: the path is a folder, lies in no folder, or in one without write permission.
    """
    if _is_folder(Path(path), name) or not _is_writable(Path(path).absolute().parent, name):
        raise InputError(f"{name}: expected a file that can be written")


def check_writable_folder(folder: str | Path, name: str, files: Sequence[str] = ()) -> None:
    """Check, before long work, that files can be written to a folder afterwards; the folder may be missing.

    Args:
        folder: to write to.
        name: the folder's name in the message, such as "--output=DIR".
        files: names of the files; none of them may be a folder.

    Raises:
        InputError: the path is no folder, has no write permission, or one of the files is a folder.
    """
    if not _is_writable(Path(folder).absolute(), name) or any(_is_folder(Path(folder) / file, name) for file in files):
        what = f"{', '.join(files)} can be written to" if files else "can be written to"
        raise InputError(f"{name}: expected a folder that {what}")


def _is_folder(path: Path, name: str) -> bool:
    with reporting_path_errors(name):
        return path.is_dir()


def _is_writable(folder: Path, name: str) -> bool:
    """Whether a folder, or the nearest folder above it that exists, can be written to."""
    with reporting_path_errors(name):
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
        return nearest.is_dir() and os.access(nearest, os.W_OK)


@contextmanager
def reporting_path_errors(name: str) -> Iterator[None]:
    """Report in one line why a block could not look at a path: no permission, name too long, unknown home folder.

    Args:
        name: the path's name in the message, such as "--predictions=FOLDER".

    Raises:
        InputError: the block raised an `OSError`, or `Path.expanduser` found no home folder.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # RuntimeError: `Path.expanduser`
        what = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: {what}; expected a path that can be read") from error


@contextmanager
def lock(folder: Path, patience: float = 0.0) -> Iterator[int | None]:
    """A lock on a folder, as a file descriptor; None if another process has it.

    The operating system frees it when the process, and each process that inherits the descriptor, has ended.

    Args:
        folder: gets the file `lock`; it is made where it is missing.
        patience: seconds to wait for another process that only looks.
    """
    end = time.monotonic() + patience
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
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
    file = path.open("a", encoding="utf-8")
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


@contextmanager
def reporting_json_errors(name: str, expected: str, file: str = "a JSON file") -> Iterator[None]:
    """Report in one line why a block could not read a JSON file.

    Args:
        name: the file's name in the message, such as "datalist F.json".
        expected: content that was expected, such as "a datalist".
        file: kind of file that was expected, for a file that cannot be opened.

    Raises:
        InputError: the file cannot be opened, is not JSON, or is nested too deeply.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}; expected {file}") from error
    except ValueError as error:
        raise InputError(f"{name}: not JSON ({error}); expected {expected}") from error
    except RecursionError as error:
        raise InputError(f"{name}: nested too deeply; expected {expected}") from error
