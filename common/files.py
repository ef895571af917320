"""Read JSON, check content against JSON schemas, write files atomically, and reserve folders."""

import csv
import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import ArgumentError, InputError, show

CLAIM = ".in_use"  # lock file in a claimed folder


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Context manager: write a temporary file, then replace `path` atomically; an OSError becomes an `InputError`.

    If the block fails, the old content stays. Missing folders are created.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")  # removed by `claimed` after a kill
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # flush to disk before the rename
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON atomically, with equal bytes for equal content; raise ValueError for infinite numbers and NaN."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as file:
        file.write_bytes(text.encode("utf-8", "backslashreplace"))  # JSON escapes for names that are not UTF-8


def write_csv(path: str | Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write comma-separated values atomically, in UTF-8, from the row of column names on; None and NaN become empty."""
    with atomic_write(path) as file, file.open("w", newline="", encoding="utf-8") as content:
        csv.writer(content, lineterminator="\n").writerows(
            ["" if value != value else value for value in row] for row in rows
        )


def read_json(path: str | Path, expected: str = "", schema: Mapping[str, Any] | None = None) -> Any:
    """Read and check a JSON file without duplicate keys; `expected` describes its content, such as "a datalist"."""
    try:
        content = json.loads(Path(path).read_bytes(), object_pairs_hook=_unique)
    except OSError as error:
        raise InputError(path, error.strerror, expected) from error
    except ValueError as error:
        raise InputError(path, f"not JSON ({error})", expected) from error
    if schema is not None:
        check_schema(content, schema, str(path), expected)
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {max(keys, key=keys.count)} occurs twice")
    return content


def check_schema(content: Any, schema: Mapping[str, Any], name: str, expected: str) -> None:
    """Raise an `InputError` that names the entry and rule if content called `name` does not match a JSON schema."""
    from jsonschema import Draft202012Validator  # imported here, as few callers need it
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(schema).iter_errors(content))
    if error is not None:
        raise InputError(f"{name}: {error.json_path}", f"{error.message:.200}", expected)


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def move_aside(path: Path) -> None:
    """Rename a file or folder, if it exists, to its modification time in UTC, such as run-20261121T080000.json."""
    if not path.exists():
        return
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    target = path.with_name(f"{path.stem}-{changed:%Y%m%dT%H%M%S}{path.suffix}")
    while target.exists():
        target = target.with_name(f"{target.stem}x{target.suffix}")  # within the same second
    path.rename(target)


def existing_folder(path: str | Path, name: str, expected: str) -> Path:
    """Return a path with `~` expanded; raise an `InputError` about `name` if it is not a folder."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise InputError(name, "no such folder", expected)
    return folder


@contextmanager
def claimed(name: str, folder: str | Path) -> Iterator[None]:
    """Context manager: reserve a folder for this process; create it, and remove unfinished files of killed writers.

    Raise ArgumentError if the folder is in use or cannot be written to. The process may claim a folder again. Forks do
    not inherit the lock: a worker that outlives its run does not block the next run.
    """
    from filelock import FileLock, Timeout  # imported here, as few callers need it

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
    for leftover in target.glob(".*.part"):  # see `atomic_write`
        leftover.unlink(missing_ok=True)
    try:
        yield
    finally:
        if lock.lock_counter == 1:  # no outer claim of this process
            (target / CLAIM).unlink(missing_ok=True)
        lock.release()
