"""The results of an evaluation appear in their folder together, or not at all.

They are written to `.unfinished` in the folder and moved when they are complete. A process that is killed before that
leaves the earlier results; one that is killed while it moves leaves `.finished`, and the next evaluation into the
folder moves the rest. summary.json goes first and comes last: no program takes the folder for an evaluation in between.

`.files.json` lists the files of the results. When later ones appear, those that they lack are deleted: no prediction of
a case that is not in them stays beside their scores. Files that no evaluation wrote stay.

The folder may come from somebody else: readers change nothing in it, and writers follow no link below it.
"""

import atexit
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath

from ..errors import InputError
from ..files import check_no_link, move_aside, valid_json, write_json
from ..locks import claim, release

__all__ = ["begin", "check_finished", "finish", "place_of", "publishing"]

UNFINISHED, FINISHED = ".unfinished", ".finished"
SUMMARY, PAGE, RECORD = "summary.json", "evaluation.html", "run.json"
LISTED = ".files.json"  # paths of the results, in the folder and relative to it
SLICES = "slices"  # folder of the pages of single cases
FOLDERS = (SLICES, "pictures", "predictions", "tensorboard")  # of results
PATIENCE = 60.0  # seconds that a process may take to move its results
_BEGUN: set[Path] = set()  # folders whose results this process has not finished


def begin(folder: str | Path, name: str = "output_dir") -> str:
    """The folder to write the results to until they are complete, empty; nobody else writes to `folder` from now on.

    Args:
        folder: that the results are to appear in.
        name: of the argument that gave it, for messages.

    Raises:
        InputError: the folder cannot be written to, another process writes to it, its list of files is damaged, or a
            folder of results in it is a link.
    """
    claim(name, folder)
    unfinished = Path(folder) / UNFINISHED
    for part in FOLDERS:  # these checks now, rather than after the work
        check_no_link(folder, Path(part) / "any")
    with _reporting(folder):
        _move(Path(folder))
        for file in _listed(Path(folder)):
            check_no_link(folder, file)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
    _BEGUN.add(unfinished)
    return str(unfinished)


@atexit.register
def _discard() -> None:
    """Remove what a run that fails has written, before the claim of its folder ends."""
    for unfinished in _BEGUN:
        shutil.rmtree(unfinished, ignore_errors=True)


def place_of(folder: str | Path) -> Path:
    """The folder that results are to appear in, for the one that `begin` returned; any other folder itself."""
    folder = Path(folder)
    return folder.parent if folder.name in (UNFINISHED, FINISHED) else folder


def finish(folder: str | Path) -> None:
    """Let the results appear that were written to what `begin` returned, in place of earlier ones.

    Files of the same names are replaced. Other files of the earlier evaluation are deleted, its pages included; all
    other files stay. An earlier run.json is moved aside.

    Raises:
        InputError: a file cannot be moved.
    """
    folder = Path(folder)
    with _reporting(folder):
        if (folder / UNFINISHED / SUMMARY).exists():
            write_json(folder / UNFINISHED / LISTED, [file.as_posix() for file in _files_in(folder / UNFINISHED)])
        (folder / UNFINISHED).rename(folder / FINISHED)
        _BEGUN.discard(folder / UNFINISHED)
        _move(folder)


def check_finished(folder: str | Path) -> None:
    """Refuse a folder whose results are incomplete.

    Raises:
        InputError: an evaluation is moving its results here, or was interrupted while it did.
    """
    if os.path.lexists(Path(folder) / FINISHED):
        problem = "incomplete: an evaluation is moving its results here, or was interrupted"
        raise InputError(f"{folder}: {problem}; wait for its end, or repeat it")


@contextmanager
def publishing(folder: str | Path, name: str) -> Iterator[Path]:
    """Give a block a folder to write results to; at the end of the block they appear in `folder`.

    If the block fails, the earlier results stay as they are.

    Raises:
        InputError: the folder cannot be written to, or another process writes to it.
    """
    folder = Path(folder)
    is_new = not folder.exists()
    claim(name, folder, PATIENCE)
    try:
        yield Path(begin(folder, name))
        finish(folder)
    finally:
        _BEGUN.discard(folder / UNFINISHED)
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
        release(folder)
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def _move(folder: Path) -> None:
    """Move what is in `.finished` to its place, or the rest of it.

    Raises:
        InputError: `.finished`, or the folder of a file to be moved or deleted, is a link.
    """
    source = folder / FINISHED
    check_no_link(folder, Path(FINISHED) / "any")
    if not source.exists():
        return
    if not source.is_dir():
        raise InputError(f"{source}: not a folder; expected no such file")
    files, earlier = _files_in(source), []
    if (source / LISTED).exists():  # moved first: without it the earlier files have been deleted
        slices = [path.relative_to(folder) for path in (folder / SLICES).glob("*.html")]
        pages = [Path(PAGE), *slices]  # earlier results may lack a list
        earlier = sorted({*pages, *_listed(folder)} - set(_listed(source)))
    for file in (*files, *earlier):
        check_no_link(folder, file)
    if (source / SUMMARY).exists():
        (folder / SUMMARY).unlink(missing_ok=True)
    for file in earlier:
        _delete(folder, file)
    first, last = Path(LISTED), Path(SUMMARY)
    for file in sorted(files, key=lambda file: (file == last, file != first, file)):
        if file == Path(RECORD):
            move_aside(folder / file)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).replace(folder / file)
    shutil.rmtree(source)


def _files_in(folder: Path) -> list[Path]:
    """The files below a folder, relative to it, sorted."""
    return sorted(Path(place, name).relative_to(folder) for place, _, names in os.walk(folder) for name in names)


def _listed(folder: Path) -> list[Path]:
    """The files of the results in a folder, relative to it; none if they have no list."""
    path = folder / LISTED
    if not path.exists():
        return []
    expected = "the files of an evaluation, or no such file, to keep them all"
    names = valid_json(path, expected)
    if not isinstance(names, list) or not all(isinstance(name, str) and _is_inside(name) for name in names):
        raise InputError(f"{path}: not a list of paths inside the folder; expected {expected}")
    return list(map(Path, names))


def _is_inside(name: str) -> bool:
    path = PurePath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _delete(folder: Path, file: Path) -> None:
    """Delete a file of earlier results, and the folders in which it was the last one."""
    if file == Path(RECORD):
        move_aside(folder / file)
        return
    if (folder / file).is_dir():  # somebody's, by now
        return
    with suppress(NotADirectoryError):  # a file in the place of its folder
        (folder / file).unlink(missing_ok=True)
    for parent in file.parents[:-1]:
        with suppress(OSError):  # not empty
            (folder / parent).rmdir()


@contextmanager
def _reporting(folder: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        raise InputError(f"{place}: {error.strerror}; expected a file that can be written") from error
