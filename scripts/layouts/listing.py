"""List the image files below a folder."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

SUFFIX = re.compile(r"([^.].*?)\.(?:nii(?:\.gz)?|mg[hz])", re.IGNORECASE | re.DOTALL)
FOREIGN = re.compile(r"\.(?:mha|mhd|img|hdr|img\.gz|mnc|nhdr|nrrd|nii\.(?:bz2|zst|xz|zip))$", re.IGNORECASE)
# Control characters, line ends, text-direction marks and lone surrogates: refused in file names and one-line messages
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


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


class Listing(NamedTuple):
    """The images below a root folder and the folders directly in it, sorted; `unread` are other formats, lost links."""

    root: str
    files: tuple[ImageFile, ...]
    tops: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def stem_of(name: str) -> str | None:
    """Return an image file's name without suffix; None for hidden files and other formats."""
    match = SUFFIX.fullmatch(name)
    return match[1] if match else None


def list_images(
    root: str | Path, enters: Callable[[str], bool] = lambda folder: True, without: Path | None = None
) -> Listing:
    """List the images below a root, but for hidden ones, the folder `without`, and folders that `enters` rejects.

    Links are followed only to folders that are hidden or outside the root. `enters` takes a folder's path below the
    root. Raise OSError for a folder that cannot be read.
    """
    base, excluded = Path(root).resolve(), without and without.resolve()

    def is_wanted(path: Path) -> bool:
        real = path.resolve()
        is_listed = path.is_symlink() and real.is_relative_to(base) and "/." not in f"/{real.relative_to(base)}"
        is_loop = path.parent.resolve().is_relative_to(real)
        return not is_listed and not is_loop and real != excluded and enters(str(path.relative_to(root)))

    files, unread, tops = list[ImageFile](), list[str](), tuple[str, ...]()
    folders = os.walk(root, onerror=_fail, followlinks=True)
    for folder, names, members in tqdm(folders, desc="listing", unit="folder", leave=False, delay=1):
        names[:] = [name for name in names if not name.startswith(".") and is_wanted(Path(folder, name))]
        tops = tops or tuple(sorted(names))
        for path in (Path(folder, name) for name in members if not name.startswith(".")):
            if stem := stem_of(path.name):  # even a lost link, which the file checks report
                files.append(ImageFile(str(path.relative_to(root)), stem))
            elif FOREIGN.search(path.name) or not path.exists():
                unread.append(str(path.relative_to(root)))
    return Listing(str(root), tuple(sorted(files, key=lambda file: file.path.split("/"))), tops, tuple(unread))


def _fail(error: OSError) -> None:
    raise error
