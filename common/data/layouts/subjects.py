"""The results of every layout: the files of each subject, conflicts between files, and what is not used."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ...errors import shortened
from .listing import Listing, stem_of
from .names import LABEL, SIGNS

VISIT = re.compile(  # names of visits that begin with the person: UK Biobank, BraTS from 2023, BIDS (ATLAS)
    r"(?P<person>\d+(?=_\d+_\d+$)|BraTS-[A-Za-z]+-\d+(?=-\d+$)|sub-[A-Za-z0-9]+(?=$|_ses-[A-Za-z0-9]+$)).*"
)
NEITHER = "neither modality nor label"
SEVERAL, WORSE = "several files for one image", "beside a file that fits better"


class Claim(NamedTuple):
    """A file that may be a subject's image or label map (`kind`); the lowest rank wins."""

    subject: str
    kind: str
    path: str
    rank: tuple[bool, ...] = ()
    person: str | None = None


class Clash(NamedTuple):
    """Several files for one image or label (`kind`), of which the subject has the first."""

    subject: str
    kind: str
    files: tuple[str, str]

    def __str__(self) -> str:
        return f"two files for the {self.kind} of {self.subject}: {' and '.join(self.files)}"


@dataclass
class SubjectFiles:
    """The files of a subject or a visit by kind, a modality or `LABEL`: paths below the root.

    `person` is None if only the name identifies the person.
    """

    name: str
    person: str | None = None
    files: dict[str, str] = field(default_factory=dict)

    @property
    def images(self) -> dict[str, str]:
        """The images by modality."""
        return {kind: path for kind, path in self.files.items() if kind != LABEL}

    @property
    def label(self) -> str | None:
        """The label map."""
        return self.files.get(LABEL)

    def lacks(self, modalities: Sequence[str]) -> list[str]:
        """The modalities without a file."""
        return [modality for modality in modalities if modality not in self.files]


@dataclass
class DataSet:
    """The subjects of a listing.

    `order`, `convention` and `held_out` (subjects kept for testing) are set if the layout defines them; `left` has the
    reason why a file is not used, by default `NEITHER`. `remarks` are lines to print. `name` is a key of `LAYOUTS`.
    """

    listing: Listing
    layout: str
    name: str = ""
    subjects: dict[str, SubjectFiles] = field(default_factory=dict)
    order: Sequence[str] = ()
    convention: str | None = None
    held_out: set[str] = field(default_factory=set)
    left: dict[str, str] = field(default_factory=dict)
    clashes: list[Clash] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def root(self) -> str:
        """The folder of the data set."""
        return self.listing.root

    @property
    def misnamed(self) -> list[str]:
        """The files whose names begin with another subject's name."""
        return [
            file
            for subject in self.subjects.values()
            for file in subject.files.values()
            if self._is_of_another(file, subject.name)
        ]

    def _is_of_another(self, file: str, owner: str) -> bool:
        stem = stem_of(file.rpartition("/")[2]) or ""
        starts = [stem, *(stem[:place] for place, letter in enumerate(stem) if letter in SIGNS)]
        others = {start for start in starts if start in self.subjects and not owner.startswith(start)}
        return bool(others) and owner not in starts

    def take(self, claims: Iterable[Claim]) -> None:
        """Give each subject the files that fit best, and record a clash if there are several."""
        groups: dict[tuple[str, str], list[Claim]] = defaultdict(list)
        for claim in claims:
            groups[claim.subject, claim.kind].append(claim)
        for (name, kind), group in groups.items():
            best = min(claim.rank for claim in group)
            first, *others = (claim.path for claim in group if claim.rank == best)
            self.subjects.setdefault(name, SubjectFiles(name, group[0].person)).files[kind] = first
            self.clashes += [Clash(name, kind, (first, other)) for other in others[:1]]
            self.leave(SEVERAL, others)
            self.leave(WORSE, [claim.path for claim in group if claim.rank != best])

    def clashing(self, modalities: Collection[str] | None) -> list[Clash]:
        """The clashes of label maps and of these modalities; None for all."""
        return [clash for clash in self.clashes if modalities is None or clash.kind in (LABEL, *modalities)]

    def leave(self, why: str, paths: Iterable[str]) -> None:
        """State why files are not used."""
        self.left |= dict.fromkeys(paths, why)

    def unused(self, modalities: Collection[str], takes_labels: bool = True) -> dict[str, list[str]]:
        """The files that are not used, if these modalities are, with label maps or without: reason -> paths."""
        left = dict(self.left)
        used = set()
        for subject in self.subjects.values():
            has_image = not subject.files.keys().isdisjoint(modalities)
            for kind, path in subject.files.items():
                if kind in modalities or (kind == LABEL and takes_labels and has_image):
                    used.add(path)
                elif kind == LABEL:
                    left[path] = "labels without an image" if takes_labels else "label maps"
                else:
                    left[path] = "other modalities"
        reasons = {why: list(paths) for why, paths in self.listing.unread.items()}
        for file in self.listing.files:
            if file.path not in used:
                reasons.setdefault(left.get(file.path, NEITHER), []).append(file.path)
        return reasons

    def account(self, modalities: Collection[str], takes_labels: bool = True, apart: Collection[str] = ()) -> list[str]:
        """Lines that count all files and folders that are not used, with the reasons, and name the first ones.

        Of the folders only those in the root are told, in BIDS those of subjects, but not those `apart`.
        """
        unused = self.unused(modalities, takes_labels)
        lines = [f"skipped, {why}: {shortened(paths, most=3)}" for why, paths in unused.items()]
        left = {path for paths in unused.values() for path in paths}
        tops = {name: files for name, files in self.listing.tops.items() if name not in apart}
        people = [name for name in tops if name.startswith("sub-")] or [*tops]
        if idle := [name for name in people if all(file.path in left for file in tops[name])]:
            lines.append(f"skipped, {len(idle)} of {len(people)} folders: no image in {shortened(idle, most=3)}")
        return lines


def person_of(subject: str) -> str:
    """The person of a datalist's subject, from known patterns of visit names; otherwise the whole name.

    Example:
        >>> person_of("BraTS-GLI-00007-001"), person_of("patient 7")
        ('BraTS-GLI-00007', 'patient 7')
    """
    visit = VISIT.fullmatch(subject)
    return visit["person"] if visit else subject
