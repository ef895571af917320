"""The results of an evaluation appear in their folder when all are complete.

They are written to `.unfinished` in the folder, and renamed at the end, summary.json last: no program takes the folder
for an evaluation before. Earlier results are moved aside, to `earlier-TIME`, and keep what belongs together. A run
that fails leaves them where they are.

The folder may come from somebody else: only names in it are moved, and no link is followed.
"""

import atexit
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError
from ..files import check_no_link, move_aside
from ..locks import claim, release

UNFINISHED, EARLIER = ".unfinished", "earlier"
SUMMARY, PAGE = "summary.json", "evaluation.html"
SLICES = "slices"  # folder of the pages of single cases
_BEGUN: set[Path] = set()  # folders whose results this process has not finished


def begin(folder: str | Path, name: str = "output_dir") -> str:
    """The folder to write the results to until they are complete, empty; nobody else writes to `folder` from now on.

    Args:
        folder: that the results are to appear in.
        name: of the argument that gave it, for messages.

    Raises:
        InputError: the folder cannot be written to, or another process writes to it.
    """
    claim(name, folder)
    unfinished = Path(folder) / UNFINISHED
    check_no_link(folder, Path(UNFINISHED, SUMMARY))
    with _reporting(folder):
        if unfinished.exists():  # of a run that has failed
            shutil.rmtree(unfinished)
        unfinished.mkdir()
    _BEGUN.add(unfinished)
    return str(unfinished)


@atexit.register
def _discard() -> None:
    """Remove what a run that fails has written, before the claim of its folder ends."""
    for unfinished in _BEGUN:
        shutil.rmtree(unfinished, ignore_errors=True)


def finish(folder: str | Path) -> None:
    """Let the results appear that were written to what `begin` returned, and others write to the folder.

    Earlier results of the same names, and the pages that show them, are moved aside together; all else stays.

    Raises:
        InputError: a file cannot be moved.
    """
    folder = Path(folder)
    unfinished, earlier = folder / UNFINISHED, folder / EARLIER
    with _reporting(folder):
        new = sorted((path.name for path in unfinished.iterdir()), key=lambda name: name == SUMMARY)
        old = [name for name in (SUMMARY, *{*new, PAGE, SLICES} - {SUMMARY}) if os.path.lexists(folder / name)]
        move_aside(earlier)  # of a process that was killed
        if old:
            earlier.mkdir()
            for name in old:
                (folder / name).rename(earlier / name)
            move_aside(earlier)
        for name in new:
            (unfinished / name).rename(folder / name)
        unfinished.rmdir()
    _BEGUN.discard(unfinished)
    release(folder)


@contextmanager
def publishing(folder: str | Path, name: str) -> Iterator[Path]:
    """Give a block a folder to write results to; at the end of the block they appear in `folder`.

    If the block fails, the earlier results stay as they are.

    Raises:
        InputError: the folder cannot be written to, or another process writes to it.
    """
    unfinished = Path(begin(folder, name))
    try:
        yield unfinished
        finish(folder)
    except BaseException:
        _BEGUN.discard(unfinished)
        shutil.rmtree(unfinished, ignore_errors=True)
        release(folder)
        raise


def place_of(folder: str | Path) -> Path:
    """The folder that results are to appear in, for the one that `begin` returned; any other folder itself."""
    folder = Path(folder)
    return folder.parent if folder.name == UNFINISHED else folder


def is_earlier(path: Path) -> bool:
    """Whether a path leads into results that later ones have moved aside, or that have not yet appeared."""
    return any(part == UNFINISHED or part.startswith(f"{EARLIER}-") for part in path.parts)


@contextmanager
def _reporting(folder: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        raise InputError(f"{place}: {error.strerror}; expected a file that can be written") from error
