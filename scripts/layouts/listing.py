"""List the image files below a folder."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SUFFIX = re.compile(r"([^.].*?)\.(?:nii(?:\.gz)?|mg[hz])", re.IGNORECASE | re.DOTALL)


class ImageFile(NamedTuple):
    """An image file: its path relative to the data set's folder, and its name without suffix (`stem`)."""

    path: str
    stem: str

    @property
    def folders(self) -> list[str]:
        """Names of the folders in the path, outermost first."""
        return self.path.split("/")[:-1]

    @property
    def bare(self) -> str:
        """The file's path without suffix."""
        return "/".join([*self.folders, self.stem])


def stem_of(name: str) -> str | None:
    """Return an image file's name without suffix; None for hidden files and other formats."""
    match = SUFFIX.fullmatch(name)
    return match[1] if match else None


def list_images(root: str | Path, enters: Callable[[str], bool] = lambda folder: True) -> list[ImageFile]:
    """List the images below a root, sorted, but for hidden ones, and those in folders that `enters` rejects.

    Links to folders are followed if they lead out of the root. Raise OSError for a folder that cannot be read.
    """
    top, base, files = str(Path(root)), Path(root).resolve(), list[ImageFile]()

    def is_wanted(folder: str) -> bool:
        path = Path(folder)
        if path.is_symlink():
            real = path.resolve()
            if real.is_relative_to(base) or path.parent.resolve().is_relative_to(
                real
            ):  # listed in its place, or a loop
                return False
        return enters(folder[len(top) :].lstrip("/"))

    for folder, names, members in os.walk(top, onerror=_fail, followlinks=True):
        names[:] = [name for name in names if name[0] != "." and is_wanted(f"{folder}/{name}")]
        for name in members:
            if stem := stem_of(name):  # even a lost link, which the file checks report
                files.append(ImageFile(f"{folder}/{name}"[len(top) :].lstrip("/"), stem))
    return sorted(files, key=lambda file: file.path.split("/"))


def _fail(error: OSError) -> None:
    raise error
