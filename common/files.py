"""Read JSON, YAML and CSV, and write files atomically."""

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from .errors import InputError
from .schemas import check_schema


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Context manager: write a temporary file, then replace `path` atomically.

    If the block fails, the old content stays. Missing folders are created. An OSError becomes an `InputError`.

    Example:
        >>> with atomic_write("/tmp/figures.json") as file:
        ...     file.write_text("{}")
        2
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")  # removed by `common.locks.claim` after a kill
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


def read_json(path: str | Path) -> Any:
    """Read a JSON file; raise ValueError if it is invalid, has duplicate keys, or holds infinite numbers or NaN."""
    return json.loads(Path(path).read_bytes(), object_pairs_hook=_object, parse_constant=_no_number)


def read_yaml(path: str | Path) -> Any:
    """Read a file of YAML 1.2, without tags; raise ValueError if it is invalid or has duplicate keys."""
    return parse_yaml(Path(path).read_bytes().decode())


def parse_yaml(text: str) -> Any:
    """Parse YAML; see `read_yaml`."""
    from ruamel.yaml import YAML  # imported here, as few callers need it
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ValueError(str(error)) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        duplicates = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        raise ValueError(f"the key {duplicates[0]} occurs twice")
    return content


def _no_number(text: str) -> None:
    raise ValueError(f"{text}: expected a finite number")


def values_in(content: Any) -> Iterator[Any]:
    """Yield the content and every value in nested dictionaries and sequences."""
    yield content
    inner = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    for value in inner:
        yield from values_in(value)


def valid_json(
    path: str | Path,
    expected: str,
    schema: Mapping[str, Any] | None = None,
    name: str | None = None,
    read: Callable[[str | Path], Any] = read_json,
) -> Any:
    """Read and check an untrusted JSON file; raise a one-line `InputError` if it is invalid.

    `expected` describes the content, such as "a datalist"; `name` replaces the path in messages. `valid_yaml` is the
    same for YAML.
    """
    name = name or str(path)
    try:
        content = read(path)
    except OSError as error:
        raise InputError(name, error.strerror, expected) from error
    except ValueError as error:
        kind = "JSON" if read is read_json else "YAML"
        raise InputError(name, f"not {kind} ({' '.join(str(error).split())})", expected) from error
    if schema is not None:
        check_schema(content, schema, name, expected)
    return content


valid_yaml = partial(valid_json, read=read_yaml)


def write_csv(path: str | Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write comma-separated values atomically, in UTF-8; the first row holds the column names.

    None and NaN become empty cells.
    """
    with atomic_write(path) as file, file.open("w", newline="", encoding="utf-8") as content:
        csv.writer(content, lineterminator="\n").writerows(
            ["" if value != value else value for value in row] for row in rows
        )


def read_csv(path: Path, columns: tuple[str, ...], expected: str) -> Iterator[list[str]]:
    """Yield the cells of each row of a table from `write_csv`, without the header.

    Raise InputError if the file has different columns; `expected` describes the table.
    """
    expected = f"{expected}, with the columns {', '.join(columns)}"
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file, strict=True)
        if tuple(next(lines, ())) != columns:
            raise InputError(path, "unexpected header row", expected)
        for line in lines:
            if len(line) != len(columns):
                raise InputError(path, f"line {lines.line_num}: {len(line)} columns", expected)
            yield line


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_and_time(path: str | Path) -> tuple[int, int]:
    """Return a file's size in bytes and modification time in ns."""
    status = Path(path).stat()
    return status.st_size, status.st_mtime_ns


def move_aside(path: Path) -> None:
    """Rename a file or folder, if it exists, to include its modification time in UTC, as in run-20261121T080000.json.

    If the new name is taken, letters x are added to it.
    """
    if not path.exists():
        return
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    target = path.with_name(f"{path.stem}-{changed:%Y%m%dT%H%M%S}{path.suffix}")
    while target.exists():
        target = target.with_name(f"{target.stem}x{target.suffix}")
    path.rename(target)


def expand_home(path: str | Path, name: str) -> Path:
    """Replace `~` by the home folder, as shells do not after `=`; raise `InputError`, with this name, if empty."""
    if not str(path).strip():  # Python would take the current folder
        raise InputError(name, "empty", "a path")
    return Path(path).expanduser()


def existing_folder(path: str | Path, name: str, expected: str) -> Path:
    """Return a path with `~` expanded; raise an `InputError` about `name` if it is not a folder."""
    folder = expand_home(path, name)
    if not folder.is_dir():
        raise InputError(name, "no such folder", expected)
    return folder


def check_new_files(name: str, *paths: Path) -> None:
    """Refuse to replace files."""
    for path in paths:
        if path.exists():
            raise InputError(name, f"{path} exists already", "a new file")
