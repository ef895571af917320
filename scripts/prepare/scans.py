"""Find the raw scans of a folder: a folder of NIfTI or DICOM files a subject, or flat files SUBJECT_MODALITY.nii.gz."""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.data.modalities import SPELLINGS
from common.errors import InputError
from common.files import digest, reporting_path_errors
from common.prepare.volumes import Volume, read_volume
from scripts.prepare.dicom import SeriesScan, choose_scans, holds_dicom

__all__ = ["NiftiScan", "Subject", "find_subjects"]

NIFTI = re.compile(r"(.+?)\.nii(\.gz)?", re.IGNORECASE)


@dataclass(frozen=True)
class NiftiScan:
    """The scan of a modality in a NIfTI file."""

    file: Path

    def digest(self) -> str:
        """SHA-256 of the file.

        Raises:
            InputError: it cannot be read.
        """
        try:
            return digest(self.file)
        except OSError as error:
            raise InputError(f"{error.filename}: {error.strerror}; expected a file that can be read") from error

    def read(self) -> Volume:
        """Its voxels; see `read_volume`."""
        return read_volume(self.file)

    def record(self) -> dict[str, Any]:
        """What identifies it in a record."""
        return {"file": str(self.file)}


@dataclass(frozen=True)
class Subject:
    """A subject's scans.

    Attributes:
        name: of the subject.
        files: modality -> path of a NIfTI file; a modality that the subject lacks is left out.
        labels: path of a label map in NIfTI, on the grid of one of the files.
        study: folder of a DICOM study, in place of the files.
        requested: modality -> number or UID of its series in the study; rules choose the others.
        fault: why it cannot be prepared, or "".
    """

    name: str
    files: Mapping[str, Path] = field(default_factory=dict)
    labels: Path | None = None
    study: Path | None = None
    requested: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""

    def scans(self, modalities: Sequence[str]) -> tuple[Mapping[str, NiftiScan | SeriesScan], list[str]]:
        """The scan of each modality, and remarks on the choice of DICOM series.

        Raises:
            InputError: the study's series cannot be told; see `choose_scans`.
        """
        if self.study is not None:
            return choose_scans(self.study, modalities, self.requested)
        return {modality: NiftiScan(self.files[modality]) for modality in modalities if modality in self.files}, []


def find_subjects(
    root: Path,
    modalities: Sequence[str],
    patterns: Mapping[str, str],
    series: Mapping[str, Mapping[str, str]] | None = None,
    labels: str | None = None,
    keeps_missing: bool = False,
) -> list[Subject]:
    """All subjects below a root, sorted by name, with a fault where a modality has no NIfTI file or several.

    A folder without NIfTI files that holds DICOM is a study, which is read when the subject is prepared.

    Args:
        root: folder of subjects, or of files SUBJECT_MODALITY.nii.gz.
        modalities: to look for. A file is of a modality if a word of its name says so (see `SPELLINGS`); words are
            separated by anything but letters and digits. A name with FLAIR and T2 is FLAIR.
        patterns: modality -> pattern of file names, such as *_T1w.nii.gz, instead of these words.
        series: subject -> modality -> number or UID of its DICOM series.
        labels: word in the names of label maps, or pattern of these; None to leave them out.
        keeps_missing: whether a subject may lack modalities, but not all.

    Raises:
        InputError: the root cannot be read, has no subject, mixes folders and files, or has no study of a subject in
            `series`; or no subject has a modality, or a label map.
    """
    if labels is not None and "*" in labels:
        patterns = {**patterns, labels: labels}
    with reporting_path_errors(f"--root={root}"):
        if not root.is_dir():
            raise InputError(f"--root={root}: no such folder; expected a folder of raw scans")
        entries = sorted(path for path in root.iterdir() if not path.name.startswith("."))
        inside = {path.name: _files(path) for path in entries if path.is_dir()}
        folders = {name: [path for path in files if NIFTI.fullmatch(path.name)] for name, files in inside.items()}
        studies = [name for name, files in inside.items() if not folders[name] and holds_dicom(files)]
        flat = [path for path in entries if path.is_file() and NIFTI.fullmatch(path.name)]
    folders = {name: files for name, files in folders.items() if files or name in studies}
    if folders and flat:
        raise InputError(f"--root={root}: holds {flat[0].name} beside folders of scans; expected either")
    if not folders:
        folders = _by_prefix(flat, [*modalities, *([labels] if labels else [])], patterns)
    if not folders:
        expected = "SUBJECT/..MODALITY...nii.gz, SUBJECT/ with DICOM files, or SUBJECT_MODALITY.nii.gz"
        raise InputError(f"--root={root}: no scans; expected {expected}")
    requested = series or {}
    if unknown := next((name for name in requested if name not in studies), None):
        raise InputError(f"--series: {unknown} is no DICOM study in {root}; expected a folder with DICOM files")
    if not studies:
        _check_found([file.name for files in folders.values() for file in files], modalities, patterns, labels)
    return [
        Subject(name, study=root / name, requested=requested.get(name, {}))
        if name in studies and name.isprintable()
        else _subject(name, files, modalities, patterns, labels, keeps_missing)
        for name, files in folders.items()
    ]


def _check_found(
    files: Sequence[str], modalities: Sequence[str], patterns: Mapping[str, str], labels: str | None
) -> None:
    for modality in modalities:
        if not any(_is_of(file, modality, patterns) for file in files):
            words = patterns.get(modality) or " or ".join(SPELLINGS.get(modality, (modality,)))
            raise InputError(f"--modalities: no file of {modality} ({words}); expected one of at least one subject")
    if labels is not None and not any(_is_of(file, labels, patterns) for file in files):
        raise InputError(f"--labels={labels}: no such file; expected a label map of at least one subject")


def _files(folder: Path) -> list[Path]:
    """The files in a subject's folder and below."""
    return sorted(path for path in folder.rglob("*") if not path.name.startswith(".") and path.is_file())


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


def _subject(
    name: str,
    files: Sequence[Path],
    modalities: Sequence[str],
    patterns: Mapping[str, str],
    labels: str | None,
    keeps_missing: bool,
) -> Subject:
    if not name.isprintable():
        return Subject(ascii(name), fault="a name with control characters; expected printable text")
    maps = [path for path in files if labels is not None and _is_of(path.name, labels, patterns)]
    if len(maps) > 1:
        return Subject(name, fault=f"{maps[0].name} and {maps[1].name}; expected one label map (see --labels)")
    scans = [path for path in files if path not in maps]
    chosen: dict[str, Path] = {}
    for modality in modalities:
        matching = [path for path in scans if _is_of(path.name, modality, patterns)]
        if not matching and keeps_missing:
            continue
        if len(matching) != 1:
            there = " and ".join(path.name for path in matching[:2]) or "no file"
            cure = (
                "--patterns chooses by name" if matching else "--patterns chooses by name, --missing=keep does without"
            )
            return Subject(name, fault=f"{modality}: {there}; expected one file ({cure})")
        chosen[modality] = matching[0]
    twice = [modality for modality in chosen if list(chosen.values()).count(chosen[modality]) > 1]
    if twice:
        file = chosen[twice[0]].name
        return Subject(name, fault=f"{file}: is {' and '.join(twice)}; expected one file each (see --patterns)")
    if not chosen:
        return Subject(name, fault=f"none of {', '.join(modalities)}; expected one file at least")
    return Subject(name, chosen, maps[0] if maps else None)


def _is_of(file: str, modality: str, patterns: Mapping[str, str]) -> bool:
    """Whether a file's name fits the pattern of a modality, or of label maps, or else has one of its words."""
    if modality in patterns:
        return fnmatch.fnmatchcase(file, patterns[modality])
    words = set(re.split(r"[^a-z0-9]+", file.lower()))
    if modality == "T2" and words & set(SPELLINGS["FLAIR"]):
        return False
    return bool(words & set(SPELLINGS.get(modality, (modality.lower(),))))
