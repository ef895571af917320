"""What the layouts have in common: the files of each subject, and which files claim the same place."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .names import LABEL, stem_of

VISIT = re.compile(  # names of visits that begin with the person: UK Biobank, BraTS from 2023, BIDS (ATLAS)
    r"(?P<person>\d+(?=_\d+_\d+$)|BraTS-[A-Za-z]+-\d+(?=-\d+$)|sub-[A-Za-z0-9]+(?=$|_ses-[A-Za-z0-9]+$)).*"
)


class Clash(NamedTuple):
    """Several files for one place.

    Attributes:
        subject: whose they are.
        kind: a modality, or `LABEL`.
        files: the first two, below the root.
        choice: option that chooses one of them.
    """

    subject: str
    kind: str
    files: tuple[str, str]
    choice: str


@dataclass
class SubjectFiles:
    """The files of a subject, or of one visit.

    Attributes:
        name: of the subject.
        person: if the layout tells it; otherwise the name does.
        images: modality -> path below the root.
        label: path of the label map, if there is one.
    """

    name: str
    person: str | None = None
    images: dict[str, str] = field(default_factory=dict)
    label: str | None = None


@dataclass
class DataSet:
    """A scanned folder.

    Attributes:
        root: the folder, for messages.
        layout: in words, for messages.
        subjects: by name.
        order: of the modalities, if the layout has one.
        convention: label convention as text, if the layout states one.
        preparation: preprocessing by the owner of a cohort, if it is known.
        measures: how what `common.data.describe` says of images so prepared begins.
        held_out: subjects that the layout keeps for testing.
        skipped: files whose names say neither modality nor label.
        clashes: places that several files claim; the subject has none of them.
    """

    root: str
    layout: str
    subjects: dict[str, SubjectFiles] = field(default_factory=dict)
    order: Sequence[str] = ()
    convention: str | None = None
    preparation: str | None = None
    measures: str = ""
    held_out: set[str] = field(default_factory=set)
    skipped: list[str] = field(default_factory=list)
    clashes: list[Clash] = field(default_factory=list)

    def put(
        self, subject: str, kind: str, paths: Sequence[str], person: str | None = None, choice: str | None = None
    ) -> None:
        """Give a subject its image of a modality, or its label map, or note that several files claim the place.

        Args:
            subject: name.
            kind: a modality, or `LABEL`.
            paths: files that claim the place, below the root.
            person: if the layout tells it.
            choice: option that chooses one of several; by default, by the words that end its name.
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
    """The person whose visit a datalist's subject is, by its name; a name of another form is a person's own.

    Example:
        >>> person_of("BraTS-GLI-00007-001"), person_of("patient 7")
        ('BraTS-GLI-00007', 'patient 7')
    """
    visit = VISIT.fullmatch(subject)
    return visit["person"] if visit else subject


def files_in(root: str, folder: str = "") -> Iterable[tuple[str, str]]:
    """The NIfTI files of a folder: path below the root, and name without extension; sorted."""
    for name in sorted(os.listdir(os.path.join(root, folder))):  # noqa: PTH118, PTH208 (Path is slow)
        if stem := stem_of(name):
            yield f"{folder}/{name}".lstrip("/"), stem


def folders_in(path: str) -> list[str]:
    """The names of the folders in a folder, sorted, without hidden ones."""
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
