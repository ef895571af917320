"""What the layouts have in common: the files of each subject, and the refusal of two files for one place."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from common.errors import InputError
from scripts.datalists.generic.names import LABEL, stem_of

__all__ = ["DataSet", "Subject", "files_in"]


@dataclass
class Subject:
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
        held_out: subjects that the layout keeps for testing.
        skipped: files whose names say neither modality nor label.
    """

    root: str
    layout: str
    subjects: dict[str, Subject] = field(default_factory=dict)
    order: Sequence[str] = ()
    convention: str | None = None
    held_out: set[str] = field(default_factory=set)
    skipped: list[str] = field(default_factory=list)

    def put(self, subject: str, kind: str, paths: Sequence[str], person: str | None = None) -> None:
        """Give a subject its image of a modality, or its label map; `paths` are the files that claim the place.

        Raises:
            InputError: several do.
        """
        there = self.subjects.setdefault(subject, Subject(subject, person))
        known = there.label if kind == LABEL else there.images.get(kind)
        claims = [*([known] if known else []), *paths]
        if len(claims) > 1:
            option = "--label=WORDS" if kind == LABEL else f"--modalities={kind}=WORDS"
            names = " and ".join(claims[:2])
            raise InputError(
                f"--root={self.root}: two files for the {kind} of {subject}: {names}; expected one, or {option}, the "
                f"words that end the name of the right one"
            )
        if kind == LABEL:
            there.label = claims[0]
        else:
            there.images[kind] = claims[0]


def files_in(root: str, folder: str = "") -> Iterable[tuple[str, str]]:
    """The NIfTI files of a folder: path below the root, and name without extension; sorted.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        names = sorted(os.listdir(os.path.join(root, folder)))  # noqa: PTH118, PTH208 (Path is slow)
    except OSError as error:
        raise InputError(f"--root={error.filename or root}: {error.strerror}; expected a folder of scans") from error
    for name in names:
        if stem := stem_of(name):
            yield f"{folder}/{name}".lstrip("/"), stem
