"""Zip archives: write them reproducibly, and unpack untrusted archives safely."""

import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from common.errors import InputError, is_disk_full
from common.files import atomic_write, digest, why_no_folder

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can store
# zipfile's errors for damaged archives; OSError also for names that no file can have, or an entry below a file
DAMAGED = (OSError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, UnicodeError, OverflowError, RuntimeError)


def files_of(folder: Path) -> list[Path]:
    """Return the files below a folder, as sorted relative paths.

    Raises an InputError for anything but files and folders, such as a symlink.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: {why_no_folder(folder)}; expected the folder of a package")
    names: list[Path] = []
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        name = path.relative_to(folder)
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InputError(f"{folder}: {name} is a symlink or another special file; expected only files and folders")
        if path.is_file():
            names.append(name)
    return names


def listing(folder: Path, leave_out: Iterable[str] = ()) -> str:
    """Return a line with SHA-256 and name for each file not in `leave_out`, in the format of `sha256sum`."""
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


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack an untrusted zip with a single top folder into an empty folder; return the unpacked folder.

    Raises an InputError for a zip that is damaged or encrypted, or has an entry that would land outside the
    folder. Paths are checked before anything is written.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            top = _top_folder(archive, content.infolist())
            content.extractall(folder)
    except DAMAGED as error:
        if is_disk_full(error):
            raise
        raise InputError(f"{archive}: cannot be read as a zip ({error}); expected a package") from error
    return folder / top


def _top_folder(archive: Path, entries: list[zipfile.ZipInfo]) -> str:
    """Check the entries by the rules of `unpack`, and return the name of the top folder."""
    if min((entry.header_offset for entry in entries), default=0):  # a cut package may end in its weights, a zip too
        raise InputError(f"{archive}: truncated, or data before the zip entries; expected an unchanged package")
    names = [entry.filename.rstrip("/").split("/") for entry in entries]
    if len({"/".join(parts).casefold() for parts in names}) < len(names):  # the later would replace the earlier
        raise InputError(f"{archive}: an entry occurs twice; expected an unchanged package; not unpacked")
    for parts in names:
        if {"", ".", ".."} & {*parts}:
            raise InputError(f"{archive}: entry {'/'.join(parts)} has an empty, . or .. part in its path; not unpacked")
    tops = {parts[0] for parts in names}
    files = [parts for entry, parts in zip(entries, names, strict=True) if not entry.is_dir()]
    if len(tops) != 1 or not files or ["".join(tops)] in files:
        raise InputError(f"{archive}: expected a single top folder, named as the bundle")
    return tops.pop()
