"""Write files atomically, check early that output can be written, and report file errors in one line."""

import csv
import errno
import hashlib
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import InputError

FORMULA = re.compile(r"'*[=+\-@＝＋－＠\t\r\n]")  # starts a formula in a spreadsheet (OWASP, "CSV Injection")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Context manager: write a temporary file, then replace `path` atomically.

    If the block fails, the old content stays. Missing folders are created.

    Example:
        >>> with atomic_write("/tmp/figures.json") as file:
        ...     file.write_text("{}")
        2
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
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
        raise InputError(f"{path}: {error.strerror or error}; expected a file that can be written") from error


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON atomically; equal content gives equal bytes, and a number that is not finite raises ValueError."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as file:
        file.write_bytes(text.encode("utf-8", "backslashreplace"))  # names that are not UTF-8: JSON's escapes


def check_regular(path: str | Path) -> None:
    """Refuse a pipe, device or socket with OSError: opening it could block, and reading it might never end."""
    if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
        raise OSError(errno.EINVAL, "not a regular file")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; see `check_regular` and `parse_json`."""
    check_regular(path)
    return parse_json(Path(path).read_bytes().decode())


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; duplicate keys raise ValueError (Python keeps only the last), deep nesting RecursionError."""
    return json.loads(text, object_pairs_hook=_object)


def valid_json(
    path: str | Path, expected: str, schema: Mapping[str, Any] | None = None, name: str | None = None
) -> Any:
    """Read and check a JSON file from outside; raise a one-line `InputError` if it is invalid.

    `expected` describes the content, such as "a datalist"; `name` replaces the path in messages.
    """
    name = name or str(path)
    try:
        content = read_json(path)
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}; expected {expected}") from error
    except ValueError as error:
        raise InputError(f"{name}: not JSON ({error}); expected {expected}") from error
    except RecursionError as error:
        raise InputError(f"{name}: nested too deeply; expected {expected}") from error
    if schema is not None:
        check_schema(content, schema, name, expected)
    return content


def check_schema(content: Any, schema: Mapping[str, Any], name: str, expected: str) -> None:
    """Check content from outside against a JSON schema (2020-12, unless `$schema` says otherwise).

    The `InputError` names the entry, its value and the rule, or the `description` of an entry whose pattern is not met;
    `name` is the content's name, such as "--flow=F.json".
    """
    from jsonschema import Draft202012Validator  # imported here, as few callers need it
    from jsonschema.exceptions import best_match
    from jsonschema.validators import validator_for

    try:
        problem = best_match(validator_for(schema, default=Draft202012Validator)(schema).iter_errors(content))
    except RecursionError as error:
        raise InputError(f"{name}: nested too deeply; expected {expected}") from error
    if problem is not None:
        where = f"{name}: {problem.json_path} = {json.dumps(problem.instance, ensure_ascii=False, default=str):.80}"
        if problem.validator in ("pattern", "contains", "maxLength") and "description" in problem.schema:
            raise InputError(f"{where}; expected {problem.schema['description']}")
        raise InputError(f"{where}: {problem.message.splitlines()[0]:.160}; expected {expected}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {json.dumps(twice)[:80]} occurs twice")
    return content


def write_csv(path: str | Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write comma-separated values in UTF-8 atomically; the first row has the column names.

    Text that a spreadsheet would run as a formula gets a leading apostrophe, which `cell_text` removes.
    """
    with atomic_write(path) as file, file.open("w", newline="", encoding="utf-8") as content:
        content.writelines(map(_line, rows))


def _line(row: Sequence[Any]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(map(_cell, row))  # with \r\n as line end, the writer quotes a lone \r, too
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
    """Hash a file; hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def aside_of(path: Path) -> Path:
    """A free name for an earlier file or folder, from the time of its last change: run-20261121T080000.json."""
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
    """Replace `~` by the home folder; raise `InputError`, which names the path as `name`, if there is none."""
    with reporting_path_errors(name):
        return Path(str(path)).expanduser()


def check_no_link(folder: str | Path, file: Path) -> None:
    """Refuse symbolic links between a folder and a file below it, before the file is written or deleted.

    `folder` may itself be a link; a link at the end of `file` is replaced, not followed.
    """
    for parent in file.parents[:-1]:
        if (Path(folder) / parent).is_symlink():
            raise InputError(f"{Path(folder) / parent}: a symbolic link; expected a folder")


def check_writable_file(path: str | Path, name: str) -> None:
    """Check before long work that a file can be written; its folders may be missing."""
    check_writable_folder(Path(path).absolute().parent, name, [Path(path).name or "."])


def check_writable_folder(folder: str | Path, name: str, files: Sequence[str] = ()) -> None:
    """Check before long work that files can be written to a folder, which may be missing."""
    with reporting_path_errors(name):
        place = Path(folder).absolute()
        nearest = next(path for path in (place, *place.parents) if path.exists())
        is_taken = any((place / file).is_dir() for file in files)
        if is_taken or not nearest.is_dir() or not os.access(nearest, os.W_OK):
            what = f"{', '.join(files)} can be written to" if files else "can be written to"
            raise InputError(f"{name}: expected a folder that {what}")


@contextmanager
def reporting_path_errors(name: str, expected: str = "a path that can be read") -> Iterator[None]:
    """Report in one line why a block cannot access a path: no permission, name too long, unknown home folder."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # RuntimeError: `Path.expanduser`
        what = getattr(error, "strerror", None) or error
        culprit = str(getattr(error, "filename", None) or "")  # may lie deeper
        where = name if culprit in name else f"{name}: {culprit}"
        raise InputError(f"{where}: {what}; expected {expected}") from error
