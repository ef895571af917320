"""Zip archives: write them reproducibly, and unpack untrusted ones safely."""

import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from common.errors import InputError, check_number
from common.files import atomic_write, digest

LARGEST_PACKAGE = 8.0  # GiB of an unpacked archive; the largest network here takes 0.4
MOST_FILES = 10_000
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can store
UNSAFE = re.compile(r"^/|^[A-Za-z]:|\\|(^|/)\.\.?(/|$)|//|[\x00-\x1f\x7f]")
CACHE = "__pycache__"
# zipfile's errors for damaged archives
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, UnicodeError, OverflowError, RuntimeError)


def files_of(folder: Path) -> list[Path]:
    """The files below a folder, as sorted relative paths without Python's caches.

    Raises an InputError for anything but files and folders, such as a symlink.
    """
    found: list[Path] = []
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        name = path.relative_to(folder)
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InputError(f"{folder}: {name} is a symlink or another special file; expected only files and folders")
        if CACHE not in name.parts and path.is_file():
            found.append(name)
    return found


def listing(folder: Path, leave_out: Iterable[str] = ()) -> str:
    """SHA-256 and name of each file, one per line, in the format of `sha256sum`."""
    names = [name for name in files_of(folder) if name.as_posix() not in set(leave_out)]
    return "".join(f"{digest(folder / name)}  {name.as_posix()}\n" for name in names)


def pack(folder: Path, archive: Path) -> None:
    """Write a folder's files to a zip, below the folder's name, atomically.

    The bytes depend only on names and contents: files are sorted, times and permissions are fixed, and nothing is
    compressed, because compression differs between library versions.
    """
    with atomic_write(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as content:
        for name in files_of(folder):
            entry = zipfile.ZipInfo(f"{folder.name}/{name.as_posix()}", date_time=EPOCH)
            entry.create_system = 3  # Unix on every system
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source, content.open(entry, "w") as target:
                shutil.copyfileobj(source, target)


def unpack(archive: Path, folder: Path, largest: float = LARGEST_PACKAGE) -> Path:
    """Unpack a zip from any source that has a single folder at the top into an empty folder; return the unpacked
    folder.

    Checks all names and stated sizes before writing; `largest` is the limit in GiB of the whole. Raises an InputError
    for a zip that is damaged, encrypted or too large, or an entry that would land outside (`..`, an absolute path, a
    drive, a backslash).
    """
    check_number("largest_package", largest, float, 0.001)
    try:
        with zipfile.ZipFile(archive) as content:
            top = _top_folder(archive, content.infolist(), largest)
            content.extractall(folder)
    except DAMAGED as error:
        raise InputError(f"{archive}: cannot be read as a zip ({error}); expected a package") from error
    except OSError as error:
        raise InputError(f"{archive}: {error.strerror or error}; expected the zip of a package") from error
    return folder / top


def _top_folder(archive: Path, entries: list[zipfile.ZipInfo], largest: float) -> str:
    """Check the entries by the rules of `unpack`, and return the name of the top folder."""
    size = sum(entry.file_size for entry in entries) / 2**30
    if size > largest:
        expected = f"expected {largest:g} GiB at most, unless --largest_package is set higher"
        raise InputError(f"{archive}: {size:.3g} GiB in it; {expected}; not unpacked")
    if len(entries) > MOST_FILES:
        expected = f"expected {MOST_FILES} at most; a folder that you have unpacked yourself may have more"
        raise InputError(f"{archive}: {len(entries)} files in it; {expected}; not unpacked")
    for entry in entries:
        if UNSAFE.search(entry.filename.rstrip("/")):
            raise InputError(f"{archive}: entry {entry.filename!r} would land outside the package; not unpacked")
    names = [entry.filename for entry in entries if not entry.is_dir()]
    tops = {name.split("/")[0] for name in names}
    if len(tops) != 1 or not all("/" in name for name in names):
        raise InputError(f"{archive}: expected one folder in it, named as the bundle")
    return tops.pop()
