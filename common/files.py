"""Files that are written whole or not at all, and JSON files that cannot be read, told in one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.preflight import InputError

__all__ = ["leftovers", "looking_at", "reading_json", "remove", "whole"]


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, for a block to write to; at the block's end it takes the place of `path`.

    Whoever reads `path` sees the old content until the new one is complete, and for good where the block fails. The
    folder is made where it is missing.

    Raises:
        InputError: the file cannot be written.

    Example:
        >>> with whole("/tmp/figures.json") as file:
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
                os.fsync(file.fileno())  # on the disk before it has the name
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; expected a file that can be written") from error


def remove(path: str | Path) -> None:
    """Remove a file, if it is there.

    Raises:
        InputError: it cannot be removed.
    """
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; expected a file that can be replaced") from error


@contextmanager
def looking_at(name: str) -> Iterator[None]:
    """Tell in one line why a block could not look at a path: closed, longer than paths can be, or in nobody's home.

    Args:
        name: what the message calls the path, such as "--predictions=FOLDER".

    Raises:
        InputError: the block could not.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # RuntimeError: `Path.expanduser`
        what = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: {what}; expected a path that can be read") from error


def leftovers(folder: Path, pattern: str) -> list[Path]:
    """Temporary files of `whole` that a process which was killed has left in a folder, for names of this pattern."""
    return sorted(folder.glob(f".{pattern}.[0-9]*"))


@contextmanager
def reading_json(name: str, expected: str, file: str = "a JSON file") -> Iterator[None]:
    """Tell in one line why a block could not read a JSON file.

    Args:
        name: what the message calls the file, such as "datalist F.json".
        expected: what it was to hold, such as "a datalist".
        file: what was expected where it cannot be opened.

    Raises:
        InputError: it cannot be opened, is no JSON, or is nested too deeply.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}; expected {file}") from error
    except ValueError as error:
        raise InputError(f"{name}: not JSON ({error}); expected {expected}") from error
    except RecursionError as error:
        raise InputError(f"{name}: nested too deeply; expected {expected}") from error
