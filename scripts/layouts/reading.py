"""Find the subjects' files in a data set: BIDS, nnU-Net's raw folders, a cohort, a pattern, or names as they are."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.data.names import UNCLEAR
from common.errors import InputError, shortened, show
from scripts.layouts.bids import is_bids, read_bids
from scripts.layouts.listing import ImageFile, list_images
from scripts.layouts.names import LABEL, visit_name
from scripts.layouts.nnunet import read_description
from scripts.layouts.patterns import Naming, Pattern
from scripts.layouts.subjects import DataSet


@dataclass(frozen=True)
class FileLayout:
    """File names of a cohort: a pattern of the path for each modality and the label map.

    Attributes:
        files: Pattern of the path, without suffix, of each modality and `LABEL`; a subject's files agree in fields.
        subject: Template of a subject's name.
        fields: Regular expression of each field's values.
        convention: Label convention.
        first: Suffix of a person's first session, omitted from the subject's name.
        skims: Whether to skip folders that no pattern matches, as they are many.
    """

    files: Mapping[str, str]
    subject: str
    fields: Mapping[str, str]
    convention: str | None = None
    first: str = ""
    skims: bool = False

    @property
    def modalities(self) -> list[str]:
        """The modalities in channel order."""
        return [kind for kind in self.files if kind != LABEL]

    def enters(self, folder: str) -> bool:
        """Whether to search a folder; with `skims`, only if it may hold files of this layout."""
        parts = [text.split("/")[: folder.count("/") + 1] for text in self.files.values()]
        return not self.skims or any(Pattern("/".join(start), self.fields).match(folder) for start in parts)

    def read(self, root: str, images: Sequence[ImageFile]) -> DataSet:
        """Find the subjects' files among images; raise `InputError` if a subject is in two places."""
        data = DataSet(root, images, self.modalities, self.convention)
        patterns = {kind: Pattern(text, self.fields) for kind, text in self.files.items()}
        for file in images:
            for kind, pattern in patterns.items():
                if (fields := pattern.match(file.bare)) is not None:
                    data.add(self.subject.format(**fields).removesuffix(self.first), kind, file.path, fields)
        return data


def read_cohort(layouts: Sequence[FileLayout], root: Path) -> DataSet:
    """Find a cohort's files below a root, in the only one of its layouts that fits; else raise `InputError`."""
    images = list_images(root, lambda folder: any(layout.enters(folder) for layout in layouts))
    matches = [data for data in (layout.read(str(root), images) for layout in layouts) if data.subjects]
    for data in matches:
        data.subjects = dict(sorted(data.subjects.items()))
    if len(matches) > 1:
        examples = " and ".join(next(iter(data.subjects)) for data in matches)
        raise InputError(f"--root={root}", f"layouts are mixed: {examples}", "one, as their labels could differ")
    if not matches:
        expected = " or ".join(next(iter(layout.files.values())) for layout in layouts)
        raise InputError(f"--root={root}", "no scan of the cohort", f"paths such as {expected}")
    return matches[0]


def read_layout(root: Path, naming: Naming, states_regions: bool = False) -> DataSet:
    """Find the subjects' files in any data set: by the pattern in `naming`, as nnU-Net's or BIDS, or by its names.

    With `states_regions`, the regions in nnU-Net's dataset.json are read, too.
    """
    folder, images = str(root), list_images(root)
    if naming.pattern is None and ((root / "imagesTr").is_dir() or (root / "dataset.json").is_file()):
        show("layout: nnunet")
        files, regions = read_description(folder, images, naming, states_regions)
        data = FileLayout(files, "{subject}", {"part": "Tr|Ts"}, regions).read(folder, images)
        for subject in data.subjects.values():
            subject.is_test = subject.origin["part"] == "Ts"
    elif naming.pattern is None and is_bids(images):
        show("layout: bids")
        data = read_bids(folder, images, naming)
    else:
        show(f"layout: {naming.pattern or 'names of folders and files'}")
        data = _read_names(folder, images, naming)
    wanted = {*(naming.modalities or ("T1",))} & {"T1", "T1ce"} - naming.words.keys()
    if unclear := [subject.files[UNCLEAR] for subject in data.subjects.values() if UNCLEAR in subject.files and wanted]:
        problem = "a T1 after contrast agent (T1ce), or a plain T1 after surgery?"
        raise InputError(f"{root}/{unclear[0]}", problem, "a name that says so, or T1ce=WORDS or T1=WORDS")
    return data


def _read_names(root: str, images: Sequence[ImageFile], naming: Naming) -> DataSet:
    """Find each file's subject by its path."""
    data = DataSet(root, images)
    identities = [(file, identity) for file in images if (identity := naming.identify(file))]
    others = {}  # path -> beginnings of the name that its subject's name lacks
    for file, (kind, subjects, person) in sorted(identities, key=lambda item: item[1].kind == LABEL):
        options = {visit_name(parts): parts for parts in subjects if parts}
        with_images = [name for name in options if name in data.subjects and data.subjects[name].images]
        for subject in [*with_images, *options][:1]:  # a label map's first subject with an image
            data.add(subject, kind, file.path, options[subject], person)
            starts = {file.stem[: match.start()] for match in re.finditer(r"[_.\- ]", file.stem)}
            others[file.path] = {start for start in starts if not subject.startswith(start)}
    if misnamed := [path for path, starts in others.items() if not starts.isdisjoint(data.subjects)]:
        show(f"warning: files named after a different subject: {shortened(misnamed, most=3)}", error=True)
    return data
