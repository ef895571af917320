"""List the image files below a folder."""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ...errors import InputError
from ...files import existing_folder

SUFFIX = re.compile(r"([^.].*?)\.(?:nii(?:\.gz)?|mg[hz])", re.IGNORECASE | re.DOTALL)
FOREIGN = re.compile(r"\.(?:mha|mhd|img|hdr|img\.gz|mnc|nhdr|nii\.(?:bz2|zst|xz|zip))$", re.IGNORECASE)
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
        return bare_of(self.path)


@dataclass(frozen=True)
class Listing:
    """The sorted image files and folders below a root folder; `unread` are broken links and other formats."""

    root: str
    files: tuple[ImageFile, ...] = ()
    folders: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def tops(self) -> dict[str, list[ImageFile]]:
        """The image files below each folder directly in the root, by the folder's name."""
        tops: dict[str, list[ImageFile]] = {folder: [] for folder in self.folders if "/" not in folder}
        for file in self.files:
            if "/" in file.path:
                tops[file.folders[0]].append(file)
        return tops


def stem_of(name: str) -> str | None:
    """Return an image file's name without suffix; None for hidden files and other formats."""
    match = SUFFIX.fullmatch(name)
    return match[1] if match else None


def bare_of(path: str) -> str:
    """Return an image file's path without suffix."""
    folder, sign, name = path.rpartition("/")
    return f"{folder}{sign}{stem_of(name) or name}"


class Entry(NamedTuple):
    """A file or folder from `walk`, or a broken link."""

    path: str
    name: str
    is_folder: bool
    is_broken: bool = False


def walk(root: str | Path, enters: Callable[[str], bool] = lambda folder: True) -> Iterator[Entry]:
    """Yield the sorted files and folders below a root, without hidden ones and folders that `enters` rejects.

    Links are followed only to folders that are hidden or outside the root.
    `enters` takes a folder's path below the root and returns whether to list the folder and its content.
    """
    above = [os.path.realpath(root)]
    yield from _walk(str(root), "", above, enters)


def _walk(root: str, folder: str, above: list[str], enters: Callable[[str], bool]) -> Iterator[Entry]:
    with os.scandir(f"{root}/{folder}" if folder else root) as content:
        entries = sorted((entry for entry in content if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        path = f"{folder}/{entry.name}".lstrip("/")
        if not Path(entry.path).is_dir() if entry.is_symlink() else not entry.is_dir():
            is_broken = entry.is_symlink() and not Path(entry.path).exists()
            yield Entry(path, entry.name, is_folder=False, is_broken=is_broken)
            continue
        real = os.path.realpath(entry.path) if entry.is_symlink() else f"{above[-1]}/{entry.name}"
        inside = os.path.relpath(real, above[0]).split("/")
        is_listed = real in above or (entry.is_symlink() and not any(name.startswith(".") for name in inside))
        if not is_listed and enters(path):
            yield Entry(path, entry.name, is_folder=True)
            yield from _walk(root, path, [*above, real], enters)


def list_images(
    root: str | Path, enters: Callable[[str], bool] = lambda folder: True, without: Path | None = None
) -> Listing:
    """List the images below a root, with a progress bar; omit the folder `without` and those that `enters` rejects."""
    excluded = None if without is None else os.path.realpath(without)

    def is_wanted(folder: str) -> bool:
        return enters(folder) and (excluded is None or os.path.realpath(f"{root}/{folder}") != excluded)

    files, folders, unread = [], [], []
    with tqdm(desc="listing", unit="folder", leave=False, delay=1) as bar:
        for entry in walk(root, is_wanted):
            stem = stem_of(entry.name)
            if entry.is_folder:
                folders.append(entry.path)
                bar.update()
            elif stem:  # even a broken link, which the file checks report
                files.append(ImageFile(entry.path, stem))
            elif entry.is_broken or FOREIGN.search(entry.name):
                unread.append(entry.path)
    return Listing(str(root), tuple(files), tuple(folders), tuple(unread))


def label_maps(option: str, folder: str | Path) -> dict[str, Path]:
    """Return a folder's label maps by case, sorted; raise an InputError, naming `option`, for a bad name or no file."""
    path = existing_folder(folder, f"--{option}={folder}", "a folder of label maps")
    files: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        if (name := stem_of(file.name)) is None:
            continue
        if file.is_dir() or UNPRINTABLE.search(name):
            # if ignored, the case would seem missing and might count as empty
            raise InputError(f"--{option}={folder}: {json.dumps(file.name)}; expected a file CASE.nii.gz")
        if name in files:
            raise InputError(f"--{option}={folder}: two files of one case: {files[name].name} and {file.name}")
        files[name] = file
    if not files:
        raise InputError(f"--{option}={folder}: no label map; expected CASE.nii.gz (or .nii, .mgz) for each case")
    return files
