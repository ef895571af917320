"""The results of every layout: the files of each subject, and conflicts between files."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .names import LABEL, SIGNS, stem_of

VISIT = re.compile(  # names of visits that begin with the person: UK Biobank, BraTS from 2023, BIDS (ATLAS)
    r"(?P<person>\d+(?=_\d+_\d+$)|BraTS-[A-Za-z]+-\d+(?=-\d+$)|sub-[A-Za-z0-9]+(?=$|_ses-[A-Za-z0-9]+$)).*"
)


class Clash(NamedTuple):
    """Several files for one image or label (`kind`); the option `choice` selects a file."""

    subject: str
    kind: str
    files: tuple[str, str]
    choice: str


@dataclass
class SubjectFiles:
    """The files of a subject or a visit, below the root; `person` is None if only its name identifies the person."""

    name: str
    person: str | None = None
    images: dict[str, str] = field(default_factory=dict)
    label: str | None = None


@dataclass
class DataSet:
    """A scanned folder.

    `order`, `convention` and `held_out` (subjects kept for testing) are set if the layout defines them.
    Files in `skipped` name neither modality nor label; subjects lack the files in `clashes`.
    """

    root: str
    layout: str
    subjects: dict[str, SubjectFiles] = field(default_factory=dict)
    order: Sequence[str] = ()
    convention: str | None = None
    held_out: set[str] = field(default_factory=set)
    skipped: list[str] = field(default_factory=list)
    clashes: list[Clash] = field(default_factory=list)

    @property
    def misnamed(self) -> list[str]:
        """The files whose names begin with another subject's name."""
        return [
            file
            for subject in self.subjects.values()
            for file in (*subject.images.values(), *([subject.label] if subject.label else []))
            if self._is_of_another(file, subject.name)
        ]

    def _is_of_another(self, file: str, owner: str) -> bool:
        stem = stem_of(file.rpartition("/")[2]) or ""
        starts = [stem, *(stem[:place] for place, letter in enumerate(stem) if letter in SIGNS)]
        others = {start for start in starts if start in self.subjects and not owner.startswith(start)}
        return bool(others) and owner not in starts

    def put(
        self, subject: str, kind: str, paths: Sequence[str], person: str | None = None, choice: str | None = None
    ) -> None:
        """Give a subject an image or label map (`kind`), or record a clash if there are several candidate paths.

        `choice` is the option that selects one of them; by default, by the last words of its name.
        """
        there = self.subjects.setdefault(subject, SubjectFiles(subject, person))
        known = there.label if kind == LABEL else there.images.get(kind)
        claims = [*([known] if known else []), *paths]
        if len(claims) > 1:
            option = choice or ("--label=WORDS" if kind == LABEL else f"--modalities={kind}=WORDS")
            self.clashes.append(Clash(subject, kind, (claims[0], claims[1]), option))
        elif kind == LABEL:
            there.label = claims[0]
        else:
            there.images[kind] = claims[0]


def person_of(subject: str) -> str:
    """The person of a datalist's subject, from known patterns of visit names; otherwise the whole name.

    Example:
        >>> person_of("BraTS-GLI-00007-001"), person_of("patient 7")
        ('BraTS-GLI-00007', 'patient 7')
    """
    visit = VISIT.fullmatch(subject)
    return visit["person"] if visit else subject


def files_in(root: str, folder: str = "") -> Iterable[tuple[str, str]]:
    """The NIfTI files of a folder, sorted: path below the root, and name without extension."""
    for name in sorted(os.listdir(os.path.join(root, folder))):  # noqa: PTH118, PTH208 (Path is slow)
        if stem := stem_of(name):
            yield f"{folder}/{name}".lstrip("/"), stem


def folders_in(path: str) -> list[str]:
    """Sorted names of the folders in a folder, without hidden ones and links that are broken or lead to themselves."""
    with os.scandir(path) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".") and (Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir())
        )
