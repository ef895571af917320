"""Find the raw scans of a folder: one folder a subject, or flat files SUBJECT_MODALITY.nii.gz."""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.data.modalities import SPELLINGS
from common.errors import InputError
from common.files import reporting_path_errors

__all__ = ["Subject", "find_subjects"]

NIFTI = re.compile(r"(.+?)\.nii(\.gz)?", re.IGNORECASE)


@dataclass(frozen=True)
class Subject:
    """A subject's scans.

    Attributes:
        name: of the subject.
        files: modality -> path.
        fault: why it cannot be prepared, or "".
    """

    name: str
    files: Mapping[str, Path]
    fault: str = ""


def find_subjects(root: Path, modalities: Sequence[str], patterns: Mapping[str, str]) -> list[Subject]:
    """All subjects below a root, sorted by name, with a fault where a modality has no file or several.

    Args:
        root: folder of subjects, or of files SUBJECT_MODALITY.nii.gz.
        modalities: to look for. A file is of a modality if a word of its name says so (see `SPELLINGS`); words are
            separated by anything but letters and digits. A name with FLAIR and T2 is FLAIR.
        patterns: modality -> pattern of file names, such as *_T1w.nii.gz, instead of these words.

    Raises:
        InputError: the root cannot be read, has no subject, or mixes folders and files.
    """
    with reporting_path_errors(f"--root={root}"):
        if not root.is_dir():
            raise InputError(f"--root={root}: no such folder; expected a folder of raw scans")
        entries = sorted(path for path in root.iterdir() if not path.name.startswith("."))
        folders = {path.name: _files(path) for path in entries if path.is_dir()}
        flat = [path for path in entries if path.is_file() and NIFTI.fullmatch(path.name)]
    folders = {name: files for name, files in folders.items() if files}
    if folders and flat:
        raise InputError(f"--root={root}: holds {flat[0].name} beside folders of scans; expected either")
    if not folders:
        folders = _by_prefix(flat, modalities, patterns)
    if not folders:
        raise InputError(f"--root={root}: no scans; expected SUBJECT/..MODALITY...nii.gz or SUBJECT_MODALITY.nii.gz")
    return [_subject(name, files, modalities, patterns) for name, files in folders.items()]


def _files(folder: Path) -> list[Path]:
    """NIfTI files in a subject's folder and below."""
    found = (path for path in folder.rglob("*") if not path.name.startswith(".") and NIFTI.fullmatch(path.name))
    return sorted(path for path in found if path.is_file())


def _by_prefix(files: Sequence[Path], modalities: Sequence[str], patterns: Mapping[str, str]) -> dict[str, list[Path]]:
    """Flat files by subject, the part of their names before the modality; other files are ignored."""
    found: dict[str, list[Path]] = {}
    for path in files:
        if not any(_is_of(path.name, modality, patterns) for modality in modalities):
            continue
        stem = re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)
        subject = re.sub(r"[^A-Za-z0-9]+[A-Za-z0-9]+$", "", stem)
        found.setdefault(subject, []).append(path)
    return dict(sorted(found.items()))


def _subject(name: str, files: Sequence[Path], modalities: Sequence[str], patterns: Mapping[str, str]) -> Subject:
    if not name.isprintable():
        return Subject(ascii(name), {}, "a name with control characters; expected printable text")
    chosen: dict[str, Path] = {}
    for modality in modalities:
        matching = [path for path in files if _is_of(path.name, modality, patterns)]
        if len(matching) != 1:
            there = " and ".join(path.name for path in matching[:2]) or "no file"
            return Subject(name, {}, f"{modality}: {there}; expected one file (--patterns chooses by name)")
        chosen[modality] = matching[0]
    twice = [modality for modality in chosen if list(chosen.values()).count(chosen[modality]) > 1]
    if twice:
        file = chosen[twice[0]].name
        return Subject(name, {}, f"{file}: is {' and '.join(twice)}; expected one file each (see --patterns)")
    return Subject(name, chosen)


def _is_of(file: str, modality: str, patterns: Mapping[str, str]) -> bool:
    if modality in patterns:
        return fnmatch.fnmatchcase(file, patterns[modality])
    words = set(re.split(r"[^a-z0-9]+", file.lower()))
    if modality == "T2" and words & set(SPELLINGS["FLAIR"]):
        return False
    return bool(words & set(SPELLINGS.get(modality, (modality.lower(),))))
