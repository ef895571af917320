"""The subjects of a data set: the files of each, conflicts between files, and files that are not used."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from common.data.people import person_of
from common.errors import InputError, shortened
from scripts.layouts.listing import Listing
from scripts.layouts.names import LABEL
from scripts.layouts.patterns import EXAMPLE

OPTION = f"--pattern='{EXAMPLE}'"


class Clash(NamedTuple):
    """Two files for a subject's label map or image of a modality (`kind`); the subject keeps the first."""

    subject: str
    kind: str
    problem: str


@dataclass
class SubjectFiles:
    """The files of a subject, or of one visit: relative paths by modality, and by `LABEL` for the label map.

    `origin` is what the paths say of the subject; all files of a subject have the same.
    """

    name: str
    person: str
    files: dict[str, str] = field(default_factory=dict)
    origin: Any = None

    @property
    def images(self) -> dict[str, str]:
        """Path of the image of each modality."""
        return {kind: path for kind, path in self.files.items() if kind != LABEL}

    @property
    def label(self) -> str | None:
        """Path of the label map; None without a label map."""
        return self.files.get(LABEL)

    def lacks(self, modalities: Sequence[str]) -> list[str]:
        """Return those of the modalities that the subject has no file for."""
        return [modality for modality in modalities if modality not in self.files]


@dataclass
class DataSet:
    """The subjects of a data set, and what its layout says about them.

    Attributes:
        layout: Name of the layout.
        order: Modalities in channel order, if the layout defines it.
        convention: Label convention, if the layout defines it.
        held_out: Names of test subjects, if the layout defines them.
        unknown: Paths of images whose names say nothing.
        remarks: Lines to print.
    """

    listing: Listing
    layout: str
    subjects: dict[str, SubjectFiles] = field(default_factory=dict)
    order: Sequence[str] = ()
    convention: str | None = None
    held_out: set[str] = field(default_factory=set)
    clashes: list[Clash] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def root(self) -> str:
        return self.listing.root

    def add(self, name: str, kind: str, path: str, origin: Any, person: str | None = None) -> None:
        """Give a file to a subject; raise `InputError` if the subject's other files are of another origin."""
        subject = self.subjects.setdefault(name, SubjectFiles(name, person or person_of(name), origin=origin))
        if subject.origin != origin:
            first = next(iter(subject.files.values()))
            raise InputError(f"--root={self.root}", f"{first} and {path} would both be of {name}", "distinct names")
        if (first := subject.files.setdefault(kind, path)) != path:
            self.clashes.append(Clash(name, kind, f"two files for the {kind} of {name}: {first} and {path}"))

    def clashing(self, modalities: Collection[str] | None) -> list[Clash]:
        """Return the clashes between label maps or between images of `modalities` (None: of any modality)."""
        return [clash for clash in self.clashes if modalities is None or clash.kind in (LABEL, *modalities)]

    def account(self, modalities: Collection[str], takes_labels: bool = True, option: str = OPTION) -> list[str]:
        """Return lines to print: the first files not used, and the `option` for those whose names fit nothing."""
        kinds, subjects = {*modalities, *([LABEL] if takes_labels else [])}, self.subjects.values()
        complete = [subject.files for subject in subjects if not subject.files.keys().isdisjoint(modalities)]
        used = {path for files in complete for kind, path in files.items() if kind in kinds}
        unused = [*self.listing.unread, *(file.path for file in self.listing.files if file.path not in used)]
        lines = [f"not used: {len(unused)} files, such as {shortened(unused, most=3)}"] if unused else []
        if self.unknown:
            count = f"names that fit no layout: {len(self.unknown)} files, such as {shortened(self.unknown, most=3)}"
            lines.append(f"{count}; if they are needed, give a pattern such as {option}")
        return lines
