"""Find the subjects' files in a data set: BIDS, nnU-Net's raw folders, a cohort, a pattern, or names as they are."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.data.names import SUFFIX, UNCLEAR
from common.errors import InputError, shortened, show
from scripts.layouts.listing import list_images
from scripts.layouts.names import LABEL
from scripts.layouts.patterns import Identity, Naming, compile_pattern
from scripts.layouts.standards import is_bids, read_bids, read_nnunet
from scripts.layouts.subjects import DataSet


@dataclass(frozen=True)
class FileLayout:
    """File names of a cohort: a pattern of the path for each modality and the label map."""

    files: Mapping[str, str]  # path without suffix, by modality in channel order and `LABEL`; fields agree in a subject
    subject: str  # template of a subject's name
    fields: Mapping[str, str]  # regular expression of each field's values
    convention: str | None = None  # label convention
    first: str = ""  # suffix of a person's first session, omitted from the subject's name
    skims: bool = False  # whether to skip folders that no pattern matches, as they are many

    @property
    def modalities(self) -> list[str]:
        """The modalities in channel order."""
        return [kind for kind in self.files if kind != LABEL]

    def enters(self, folder: str) -> bool:
        """Whether to search a folder; with `skims`, only if it may hold files of this layout."""
        parts = ["/".join(text.split("/")[: folder.count("/") + 1]) for text in self.files.values()]
        return not self.skims or any(compile_pattern(part, self.fields).fullmatch(folder) for part in parts)

    def read(self, root: Path, images: Sequence[str]) -> DataSet:
        """Find the subjects' files among images; raise `InputError` if a subject is in two places."""
        found = []
        patterns = {kind: compile_pattern(text, self.fields) for kind, text in self.files.items()}
        for image in images:
            path = SUFFIX.sub("", image)
            for kind, pattern in patterns.items():
                if match := pattern.fullmatch(path):
                    name = self.subject.format(**match.groupdict()).removesuffix(self.first)
                    found.append((image, Identity(kind, {name: match.groupdict()})))
        data = DataSet(str(root), images, self.modalities, self.convention)
        data.add(found)
        return data


def read_cohort(layouts: Sequence[FileLayout], root: Path) -> DataSet:
    """Find a cohort's files below a root, in the only one of its layouts that fits; else raise `InputError`."""
    images = list_images(root, lambda folder: any(layout.enters(folder) for layout in layouts))
    matches = [data for data in (layout.read(root, images) for layout in layouts) if data.subjects]
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
    images = list_images(root)
    data = DataSet(str(root), images)
    if naming.pattern is None and ((root / "imagesTr").is_dir() or (root / "dataset.json").is_file()):
        show("layout: nnunet")
        files, regions = read_nnunet(root, images, naming, states_regions)
        data = FileLayout(files, "{subject}", {"part": "Tr|Ts"}, regions).read(root, images)
        for subject in data.subjects.values():
            subject.is_test = subject.origin["part"] == "Ts"
    elif naming.pattern is None and is_bids(images):
        show("layout: bids")
        data.add(read_bids(root, images, naming))
    else:
        show(f"layout: {naming.pattern or 'names of folders and files'}")
        data.add((image, found) for image in images if (found := naming.identify(SUFFIX.sub("", image))))
        _warn_of_names(data)
    wanted = {*(naming.modalities or ("T1",))} & {"T1", "T1ce"} - naming.words.keys()
    if unclear := [subject.files[UNCLEAR] for subject in data.subjects.values() if UNCLEAR in subject.files and wanted]:
        problem = "a T1 after contrast agent (T1ce), or a plain T1 after surgery?"
        raise InputError(f"{root}/{unclear[0]}", problem, "a name that says so, or T1ce=WORDS or T1=WORDS")
    return data


def _warn_of_names(data: DataSet) -> None:
    """Print the files whose names begin with a subject that is not theirs."""
    misnamed = []
    for name, subject in data.subjects.items():
        for path in subject.files.values():
            stem = path.rpartition("/")[2]
            starts = {stem[: sign.start()] for sign in re.finditer(r"[_.\- ]", stem)}
            if any(start in data.subjects and not name.startswith(start) for start in starts):
                misnamed.append(path)
    if misnamed:
        show(f"warning: files named after a different subject: {shortened(misnamed, most=3)}", error=True)
