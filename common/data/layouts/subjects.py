"""The subjects of a data set: the files of each subject, conflicts between files, and unused files."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ...errors import shortened
from .listing import Listing, stem_of
from .names import LABEL, MIXED, SIGNS
from .people import person_of


class Claim(NamedTuple):
    """A file that may be a subject's label map or image of a modality (`kind`); the lowest rank wins."""

    subject: str
    kind: str
    path: str
    rank: tuple[bool, ...] = ()


class Clash(NamedTuple):
    """Two files for a subject's label map or image of a modality (`kind`); the subject keeps the first."""

    subject: str
    kind: str
    files: tuple[str, str]

    def __str__(self) -> str:
        return f"two files for the {self.kind} of {self.subject}: {' and '.join(self.files)}"


@dataclass
class SubjectFiles:
    """The files of a subject, or of one visit: relative paths by modality, and by `LABEL` for the label map."""

    name: str
    person: str = ""
    files: dict[str, str] = field(default_factory=dict)

    @property
    def images(self) -> dict[str, str]:
        """Path of the image of each modality."""
        return {kind: path for kind, path in self.files.items() if kind != LABEL}

    @property
    def label(self) -> str | None:
        """Path of the label map; None without a label map."""
        return self.files.get(LABEL)

    def apart(self) -> list["SubjectFiles"]:
        """Return a subject for each image, of the modality `MIXED`."""
        return [
            SubjectFiles(self.name if kind == MIXED else f"{self.name}_{kind}", self.person, {MIXED: path})
            for kind, path in self.images.items()
        ]

    def lacks(self, modalities: Sequence[str]) -> list[str]:
        """Return those of the modalities that the subject has no file for."""
        return [modality for modality in modalities if modality not in self.files]


@dataclass
class DataSet:
    """The subjects of a data set, and what its layout says about them.

    Attributes:
        layout: Description of the layout.
        name: Key of the layout in `LAYOUTS`, if any.
        order: Modalities in channel order, if the layout defines it.
        convention: Label convention, if the layout defines it.
        held_out: Names of test subjects, if the layout defines them.
        remarks: Lines to print.
    """

    listing: Listing
    layout: str
    name: str = ""
    subjects: dict[str, SubjectFiles] = field(default_factory=dict)
    order: Sequence[str] = ()
    convention: str | None = None
    held_out: set[str] = field(default_factory=set)
    clashes: list[Clash] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def root(self) -> str:
        return self.listing.root

    @property
    def misnamed(self) -> list[str]:
        """Paths of files whose names begin with the name of a different subject."""
        return [
            file
            for subject in self.subjects.values()
            for file in subject.files.values()
            if self._names_other_subject(file, subject.name)
        ]

    def _names_other_subject(self, file: str, owner: str) -> bool:
        stem = stem_of(file.rpartition("/")[2]) or ""
        starts = [stem, *(stem[:end] for end, letter in enumerate(stem) if letter in SIGNS)]
        names_other = any(start in self.subjects and not owner.startswith(start) for start in starts)
        return names_other and owner not in starts

    def assign(self, claims: Iterable[Claim]) -> None:
        """Give each subject its best-ranked file for each modality; record a clash if several files rank equally."""
        groups: dict[tuple[str, str], list[Claim]] = defaultdict(list)
        for claim in claims:
            groups[claim.subject, claim.kind].append(claim)
        for (name, kind), group in groups.items():
            best = min(claim.rank for claim in group)
            first, *ties = (claim.path for claim in group if claim.rank == best)
            self.subjects.setdefault(name, SubjectFiles(name, person_of(name))).files[kind] = first
            self.clashes += [Clash(name, kind, (first, second)) for second in ties[:1]]

    def clashing(self, modalities: Collection[str] | None) -> list[Clash]:
        """Return the clashes between label maps or between images of `modalities` (None: of any modality)."""
        return [clash for clash in self.clashes if modalities is None or clash.kind in (LABEL, *modalities)]

    def unused(self, modalities: Collection[str], takes_labels: bool = True) -> list[str]:
        """Return the paths of the image files that a datalist of these modalities would not use."""
        used = {
            path
            for subject in self.subjects.values()
            if not subject.files.keys().isdisjoint(modalities)
            for kind, path in subject.files.items()
            if kind in modalities or (kind == LABEL and takes_labels)
        }
        return [*self.listing.unread] + [file.path for file in self.listing.files if file.path not in used]

    def account(self, modalities: Collection[str], takes_labels: bool = True) -> list[str]:
        """Return a line to print that names the first unused files, if there are any."""
        unused = self.unused(modalities, takes_labels)
        return [f"not used: {len(unused)} files, such as {shortened(unused, most=3)}"] if unused else []
