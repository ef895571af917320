"""The subjects of a data set: the files of each subject, conflicts between files, and unused files."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ...errors import shortened
from .listing import Listing, stem_of
from .names import LABEL, MIXED, SIGNS, is_of_anatomy
from .people import person_of

NEITHER, MASKS = "neither modality nor label", "masks of the brain, head or tissues"


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
        skipped: Why a file is not used, by path; the remaining unused files count as `MASKS` or `NEITHER`.
        remarks: Lines to print.
    """

    listing: Listing
    layout: str
    name: str = ""
    subjects: dict[str, SubjectFiles] = field(default_factory=dict)
    order: Sequence[str] = ()
    convention: str | None = None
    held_out: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)
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
            self.skip("several files for one image", ties)
            self.skip("a file that fits better exists", [claim.path for claim in group if claim.rank != best])

    def clashing(self, modalities: Collection[str] | None) -> list[Clash]:
        """Return the clashes between label maps or between images of `modalities` (None: of any modality)."""
        return [clash for clash in self.clashes if modalities is None or clash.kind in (LABEL, *modalities)]

    def skip(self, why: str, paths: Iterable[str]) -> None:
        """Record why files at these paths are not used."""
        self.skipped |= dict.fromkeys(paths, why)

    def unused(self, modalities: Collection[str], takes_labels: bool = True) -> dict[str, list[str]]:
        """Return the paths of the files that a datalist of these modalities would not use, by reason."""
        skipped = dict(self.skipped)
        used = set()
        for subject in self.subjects.values():
            has_image = not subject.files.keys().isdisjoint(modalities)
            for kind, path in subject.files.items():
                if kind in modalities or (kind == LABEL and takes_labels and has_image):
                    used.add(path)
                elif kind == LABEL:
                    skipped[path] = "labels without an image" if takes_labels else "label maps"
                else:
                    skipped[path] = "other modalities"
        reasons = {why: list(paths) for why, paths in self.listing.unread.items()}
        for file in self.listing.files:
            if file.path not in used:
                why = skipped.get(file.path, MASKS if is_of_anatomy(file.stem) else NEITHER)
                reasons.setdefault(why, []).append(file.path)
        return reasons

    def account(self, modalities: Collection[str], takes_labels: bool = True, apart: Collection[str] = ()) -> list[str]:
        """Return lines to print: unused files by reason, and top folders, except `apart`, without a used image.

        If there are sub-* folders, only these are listed.
        """
        unused = self.unused(modalities, takes_labels)
        lines = [f"skipped, {why}: {shortened(paths, most=3)}" for why, paths in unused.items()]
        left = {path for paths in unused.values() for path in paths}
        tops = {name: files for name, files in self.listing.tops.items() if name not in apart}
        people = [name for name in tops if name.startswith("sub-")] or [*tops]
        if idle := [name for name in people if all(file.path in left for file in tops[name])]:
            lines.append(f"skipped, {len(idle)} of {len(people)} folders: no image in {shortened(idle, most=3)}")
        return lines
