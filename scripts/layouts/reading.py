"""Find the subjects' files in a data set: BIDS, nnU-Net's raw folders, a cohort, a pattern, or names as they are.

In BIDS, file names consist of entities, such as `ce-gadolinium`, and a suffix, such as `T1w` or `dseg` (discrete
segmentation). nnU-Net's documentation/dataset_format.md and region_based_training.md define its format.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.data.names import SUFFIX, UNCLEAR, modality_of
from common.data.regions import declaration
from common.errors import InputError, shortened, show, within
from common.files import read_json
from scripts.layouts.dataset import DataSet, list_images
from scripts.layouts.names import LABEL, SIGNS
from scripts.layouts.patterns import Identity, Naming, compile_pattern

FOLDERS = {"above": "(?:raw_?data/)?", "subject": "sub-[^/_]+", "session": "(?:ses-[^/]+/)?", "name": "(?:_[^/]+)?"}
RAW = compile_pattern("{above}{subject}/{session}{type}{subject}{name}", FOLDERS | {"type": "(?:(?:anat|dwi|swi)/)?"})
DERIVED = compile_pattern("derivatives/{above}{subject}/{session}**/{subject}{name}", FOLDERS | {"above": "(?:.+?/)??"})
LESION = re.compile("^l$|lesion|tumou?r|stroke|infarct|wmh|metasta")  # in words that mark lesion maps
PARTS = re.compile("_part-(?:phase|real|imag)_")  # parts of complex images; only the magnitude is used
AGENT = re.compile("_ce-(?!no|pre|without|0)")
SCHEMA = {"type": "object", "required": ["channel_names", "labels"]}  # of nnU-Net's dataset.json


@dataclass(frozen=True)
class FileLayout:
    """File names of a cohort: a pattern of the path for each modality and the label map."""

    files: Mapping[str, str]  # path without suffix, by modality in channel order and `LABEL`; fields agree in a subject
    subject: str  # template of a subject's name
    fields: Mapping[str, str]  # regular expression of each field's values
    convention: str | None = None  # label convention
    first: str = ""  # suffix of a person's first session, omitted from the subject's name
    folders: str = ".*"  # regular expression of the folders to search

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities in channel order."""
        return tuple(kind for kind in self.files if kind != LABEL)

    def read(self, root: Path, images: Sequence[str]) -> DataSet:
        """Find the subjects' files among images; raise `InputError` if a subject is in two places."""
        patterns = {kind: compile_pattern(text, self.fields) for kind, text in self.files.items()}

        def identify(path: str) -> Identity | None:
            for kind, pattern in patterns.items():
                if match := pattern.fullmatch(path):
                    name = self.subject.format(**match.groupdict()).removesuffix(self.first)
                    return Identity(kind, {name: match.groupdict()})
            return None

        data = DataSet(str(root), images, self.modalities, self.convention)
        data.add(identify)
        return data


def read_cohort(layouts: Sequence[FileLayout], root: Path) -> DataSet:
    """Find a cohort's files below a root, in the only one of its layouts that fits; else raise `InputError`."""
    images = list_images(root, "|".join(layout.folders for layout in layouts))
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
    paths, data = [SUFFIX.sub("", image) for image in images], DataSet(str(root), images)
    if naming.pattern is None and ((root / "imagesTr").is_dir() or (root / "dataset.json").is_file()):
        show("layout: nnunet")
        data = _nnunet(root, images, naming, states_regions).read(root, images)
        for subject in data.subjects.values():
            subject.is_test = subject.origin["part"] == "Ts"
    elif naming.pattern is None and any((match := RAW.fullmatch(path)) and match["type"] for path in paths):
        show("layout: bids")
        data.add(_bids(root, paths, naming).get)
    else:
        show(f"layout: {naming.pattern or 'names of folders and files'}")
        data.add(naming.identify)
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
            starts = {stem[: sign.start()] for sign in re.finditer(f"[{SIGNS}]", stem)}
            if any(start in data.subjects and not name.startswith(start) for start in starts):
                misnamed.append(path)
    if misnamed:
        show(f"warning: files named after a different subject: {shortened(misnamed, most=3)}", error=True)


def _bids(root: Path, paths: Sequence[str], naming: Naming) -> dict[str, Identity]:
    """Identify the images and label maps of a BIDS data set by their paths; each session is a subject.

    Without `--label`, label maps are lesion maps or, without any, maps that name no content.
    """
    scans, lesions, others = dict[str, Identity](), dict[str, Identity](), dict[str, Identity]()
    for path in paths:
        name, raw = path.rpartition("/")[2], RAW.fullmatch(path)
        match, identity = raw or DERIVED.fullmatch(path), naming.stated(path) or naming.identify(name)
        if match is None or identity is None:
            continue
        kind, session = identity.kind, match["session"].rstrip("/") or "".join(re.findall("_(ses-[^_]+)", name))
        subject = "_".join(filter(None, [match["subject"], session]))
        if kind == LABEL:
            *entities, suffix = name.lower().split("_")
            words = [part.rpartition("-")[2] for part in entities if re.match("label-|desc-|seg-|[^-]+$", part)]
            shows_lesions = LABEL in naming.words or any(map(LESION.search, [*words, suffix]))
            (lesions if shows_lesions else others)[path] = Identity(kind, {subject: subject})
        elif raw and not (kind == "DWI" and (root / f"{path}.bval").exists()):  # a series
            is_unusual = PARTS.search(name) or (AGENT.search(name) and not kind.startswith("T1"))
            if kind in naming.words or not is_unusual:
                scans[path] = Identity(kind, {subject: subject})
    if labels := lesions or others:
        titles = {re.sub("^derivatives/|(?:sub|ses)-[^/_]+[/_]|anat/", "", path) for path in labels}
        show(f"labels: {shortened(sorted(titles), most=3)}")
    return scans | labels


def _nnunet(root: Path, images: Sequence[str], naming: Naming, states_regions: bool) -> FileLayout:
    """Return the layout of nnU-Net's raw folders; a channel that `--modalities` omits is called "channel N"."""
    first = next((image for image in images if image.startswith("images")), None)
    if first and not re.search(r"_\d{4}$", SUFFIX.sub("", first)):
        problem = f"files such as {first} hold all channels, as in the Medical Segmentation Decathlon"
        raise InputError(f"--root={root}", problem, "one for each channel (nnUNetv2_convert_MSD_dataset)")
    file = root / "dataset.json"
    content = read_json(file, "nnU-Net's description of a data set of NIfTI files, version 2", SCHEMA)
    given = {words.lower(): modality for modality, words in naming.words.items()}
    files: dict[str, str] = {}
    for channel, name in sorted((int(channel), str(name)) for channel, name in content["channel_names"].items()):
        usual = modality_of(name) or name
        modality = given.get(name.lower(), usual if naming.takes(usual) else f"channel {channel}")
        if modality in files:
            raise InputError(file, f"several channels are {modality}", f"a choice by --modalities={modality}=NAME")
        files[modality] = f"images{{part}}/{{subject}}_{channel:04d}"
    with within(file):
        regions = _regions(content["labels"]) if states_regions else None
    return FileLayout({**files, LABEL: "labels{part}/{subject}"}, "{subject}", {"part": "Tr|Ts"}, regions)


def _regions(labels: Mapping[str, Any]) -> str | None:
    """Return the regions in nnU-Net's dataset.json as a label convention; None if it has only background."""
    regions: dict[str, list[int]] = {}
    for name, value in labels.items():
        values = sorted({*(value if isinstance(value, list) else [value])})
        text = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")  # region names are words
        text = (text if re.match("[A-Za-z]", text) else f"region_{text}")[:40]
        if name == "ignore" or text in regions:
            raise InputError(f"labels: {name}={value}", "ignores voxels, or repeats a region", "--regions")
        if values != [0]:
            regions[text] = values
    return declaration(regions) if regions else None
