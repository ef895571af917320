"""Read JSON, YAML and CSV, write files atomically, and check early that output can be written."""

import csv
import errno
import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from .errors import InputError
from .schemas import check_schema

NUMBERS = {  # YAML 1.2's, except octal and hexadecimal numbers
    "tag:yaml.org,2002:int": r"[-+]?(0|[1-9]\d*)\Z",
    "tag:yaml.org,2002:float": r"[-+]?((\d+\.\d*|\.\d+)([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.inf|\.nan)\Z",
}
TEXT = "tag:yaml.org,2002:str"


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        check_regular(path)  # root could replace a device
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # it could be a link
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # flush to disk before the rename
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON atomically, with equal bytes for equal content; raise ValueError for infinite numbers and NaN."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as file:
        file.write_bytes(text.encode("utf-8", "backslashreplace"))  # JSON escapes for names that are not UTF-8


def check_regular(path: str | Path) -> None:
    """Raise OSError for a pipe, device or socket."""
    if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
        raise OSError(errno.EINVAL, "not a regular file")


def why_no_file(path: str | Path) -> str:
    """Describe a path that is not the expected regular file: "a folder", "no such file", ..."""
    path = Path(path)
    if path.is_dir():
        return "a folder"
    return "not a regular file" if path.exists() else "a broken link" if path.is_symlink() else "no such file"


def why_no_folder(path: str | Path) -> str:
    """Describe a path that is not the expected folder: "a file", "no such folder", ..."""
    return "a file" if Path(path).is_file() else why_no_file(path).replace("such file", "such folder")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; see `parse_json`."""
    return parse_json(Path(path).read_bytes().decode())


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file; see `parse_yaml`."""
    return parse_yaml(Path(path).read_bytes().decode())


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; raise ValueError if it is invalid, has duplicate keys, or holds infinite numbers or NaN."""
    try:
        return _checked(json.loads(text, object_pairs_hook=_object))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def parse_yaml(text: str) -> Any:
    """Parse plain YAML with the checks of `parse_json`; keys such as 1, on or 2026-01-01 are text.

    Only decimal notation, such as 1e-4, gives a number. 010, 0x1 and 1:30 stay text; YAML 1.1 would read 8, 1 and 90.
    """
    import yaml  # imported here, as few callers need it

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            _check_unique(str(key.value) for key, _ in node.value)
            return super().construct_mapping(node, deep)

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            super().flatten_mapping(node)
            for index, (key, value) in enumerate(node.value):
                if isinstance(key, yaml.ScalarNode):
                    node.value[index] = yaml.ScalarNode(TEXT, key.value, key.start_mark), value

    Loader.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in resolvers if tag not in NUMBERS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for tag, form in NUMBERS.items():
        Loader.add_implicit_resolver(tag, re.compile(form, re.ASCII), [*"-+.0123456789"])
    try:
        return _checked(yaml.load(text, Loader))
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem}") from error
    except (RecursionError, TypeError, AttributeError, yaml.YAMLError) as error:  # from nodes that contain themselves
        raise ValueError("nested too deeply" if isinstance(error, RecursionError) else str(error)) from error


def _checked(content: Any) -> Any:
    """Return the content; raise ValueError if it holds infinite numbers or NaN."""
    for value in values_in(content):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{value:.3g}: expected a finite number")
    return content


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
        raise InputError(f"{name}: {error.strerror}; expected {expected}") from error
    except ValueError as error:
        kind = "JSON" if read is read_json else "YAML"
        raise InputError(f"{name}: not {kind} ({' '.join(str(error).split()):.160}); expected {expected}") from error
    if schema is not None:
        check_schema(content, schema, name, expected)
    return content


valid_yaml = partial(valid_json, read=read_yaml)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        _check_unique(key for key, _ in pairs)
    return content


def _check_unique(keys: Iterable[str]) -> None:
    if duplicate := next((key for key, count in Counter(keys).items() if count > 1), None):
        raise ValueError(f"the key {json.dumps(duplicate)[:80]} occurs twice")


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

    Raise InputError if the file cannot be read or has different columns; `expected` describes the table.
    """
    expected = f"expected {expected}, with the columns {', '.join(columns)}"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.reader(file, strict=True)
            if tuple(next(lines, ())) != columns:
                raise InputError(f"{path}: unexpected header row; {expected}")
            for line in lines:
                if len(line) != len(columns):
                    raise InputError(f"{path}: line {lines.line_num}: {len(line)} columns; {expected}")
                yield line
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; {expected}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}; {expected}") from error


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
    """Replace `~` by the home folder; raise `InputError` if there is none, or if the path is empty.

    `name` names the path in messages. Python would take an empty path for the current folder.
    """
    if not str(path).strip():
        raise InputError(f"{name}: empty; expected a path")
    with reporting_path_errors(name):
        return Path(str(path)).expanduser()


def existing_folder(path: str | Path, name: str, expected: str) -> Path:
    """Return a path with `~` expanded; raise an `InputError` about `name` if it is not a folder."""
    folder = expand_home(path, name)
    if not folder.is_dir():
        raise InputError(name, why_no_folder(folder), expected)
    return folder


def check_writable_file(path: str | Path, name: str) -> None:
    """Check, before long work, that a file can be written; its folders may be missing."""
    check_writable_folder(Path(path).absolute().parent, name, [Path(path).name or "."])


def check_new_files(name: str, *paths: Path) -> None:
    """Check, before long work, that files can be written and that none exists."""
    for path in paths:
        if path.exists():
            raise InputError(f"{_label(name, path)}: exists already; expected a new file")
        check_writable_file(path, name)


def check_writable_folder(folder: str | Path, name: str, files: Sequence[str] = ()) -> None:
    """Check early that a folder can be written to or created; existing `files` in it must be regular files."""
    with reporting_path_errors(name):
        target = Path(folder).absolute()
        for path in (target / file for file in files):
            if os.path.lexists(path) and not path.is_file():
                raise InputError(f"{_label(name, path)}: {why_no_file(path)}; expected a file")
        nearest = next(path for path in (target, *target.parents) if os.path.lexists(path))
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            problem = "read-only" if nearest.is_dir() else why_no_folder(nearest)
            raise InputError(f"{_label(name, nearest)}: {problem}; expected a folder that can be written to")


def _label(name: str, path: Path) -> str:
    return name if name.endswith(path.name) else f"{name}: {path.name}"


@contextmanager
def reporting_path_errors(name: str, expected: str = "a path that can be read") -> Iterator[None]:
    """Context manager: turn path errors (no permission, name too long, unknown home folder) into an `InputError`."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # RuntimeError: `Path.expanduser`
        reason = getattr(error, "strerror", None) or error
        culprit = str(getattr(error, "filename", None) or "")  # perhaps a file inside the path
        where = name if culprit in name else f"{name}: {culprit}"
        raise InputError(f"{where}: {reason}; expected {expected}") from error
