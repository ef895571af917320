"""Publish the results of an evaluation: move them into their folder together, once all are complete.

Results are written to `.unfinished` and moved out at the end, summary.json last; earlier results move together to
`earlier-TIME`. A failed run changes nothing. The folder may be untrusted, so links are never followed.
"""

import atexit
import os
import shutil
from pathlib import Path

from ..files import move_aside
from ..locks import claim, release

UNFINISHED, EARLIER = ".unfinished", "earlier"
SUMMARY, PAGE = "summary.json", "evaluation.html"
SLICES = "slices"  # folder of the pages of cases
_BEGUN: set[Path] = set()  # folders with unfinished results of this process


def begin(folder: str | Path, name: str = "output_dir") -> str:
    """Lock a results folder (see `common.locks.claim`), and return an empty subfolder for the unfinished results.

    Args:
        folder: Final folder of the results.
        name: Name of the argument in messages.

    Raises:
        InputError: the folder is not writable, or in use by a different process.
    """
    claim(name, folder)
    unfinished = Path(folder) / UNFINISHED
    if unfinished.exists():  # left by a failed run
        shutil.rmtree(unfinished)
    unfinished.mkdir()
    _BEGUN.add(unfinished)
    return str(unfinished)


@atexit.register
def _discard() -> None:
    """Remove the results of a failed run before it releases the folder."""
    for unfinished in _BEGUN:
        shutil.rmtree(unfinished, ignore_errors=True)


def finish(folder: str | Path) -> None:
    """Move the complete results from the subfolder of `begin` into `folder`, and unlock it.

    Earlier results with the same names, and earlier pages, are moved aside together; all else stays.
    """
    folder = Path(folder)
    unfinished, earlier = folder / UNFINISHED, folder / EARLIER
    new = sorted((path.name for path in unfinished.iterdir()), key=lambda name: name == SUMMARY)
    old = [name for name in (SUMMARY, *{*new, PAGE, SLICES} - {SUMMARY}) if os.path.lexists(folder / name)]
    move_aside(earlier)  # left by a killed process
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


def final_folder(folder: str | Path) -> Path:
    """Return the results folder that contains a subfolder from `begin`; return any other folder unchanged."""
    folder = Path(folder)
    return folder.parent if folder.name == UNFINISHED else folder


def is_published(path: Path) -> bool:
    """Return whether a path is neither among unfinished results nor among earlier results that were moved aside."""
    return not any(part == UNFINISHED or part.startswith(f"{EARLIER}-") for part in path.parts)
