"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.preflight import InputError

__all__ = ["leftovers", "whole"]


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


def leftovers(folder: Path, pattern: str) -> list[Path]:
    """Temporary files of `whole` that a process which was killed has left in a folder, for names of this pattern."""
    return sorted(folder.glob(f".{pattern}.[0-9]*"))
