"""Find the subjects' files in a data set: BIDS, nnU-Net's raw folders, a cohort, a pattern, or names as they are.

In BIDS, file names consist of entities, such as `ce-gadolinium`, and a suffix, such as `T1w` or `dseg` (discrete
segmentation). nnU-Net's documentation/dataset_format.md and region_based_training.md define its format.
"""

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from common.data.names import SUFFIX, UNCLEAR, modality_of, person_of
from common.data.volumes import open_volume
from common.errors import InputError, shortened, show
from common.files import read_json
from scripts.layouts.paths import ANATOMY, EXAMPLE, LABEL, SIGNS, Identity, Naming, compile_pattern, name_of

FOLDERS = {"above": "(?:raw_?data/)?", "subject": "sub-[^/_]+", "session": "(?:ses-[^/]+/)?", "name": "(?:_[^/]+)?"}
RAW = compile_pattern("{above}{subject}/{session}{type}{subject}{name}", FOLDERS | {"type": "(?:(?:anat|dwi|swi)/)?"})
DERIVED = compile_pattern("derivatives/{above}{subject}/{session}**/{subject}{name}", FOLDERS | {"above": "(?:.+?/)??"})
LESION = re.compile("^l$|lesion|tumou?r|stroke|infarct|wmh|metasta")  # in words that mark lesion maps
PARTS = re.compile("_part-(?:phase|real|imag)_")  # parts of complex images; only the magnitude is used
AGENT = re.compile("_ce-(?!no|pre|without|0)")
DESCRIPTION = "dataset.json"  # in nnU-Net's folders
SCHEMA = {"type": "object", "required": ["channel_names", "labels"]}


def list_images(root: Path, folders: str = ".*") -> list[str]:
    """List the paths of images below a root, sorted; `folders` is a regular expression of the folders to search.

    Hidden ones are left out. Links to folders are followed if they lead out of the root. Raise OSError for a folder
    that cannot be read.
    """
    base, images, pending = root.resolve(), list[str](), [""]

    def leads_back(link: Path) -> bool:
        target = link.resolve()
        return target.is_relative_to(base) or link.parent.resolve().is_relative_to(target)

    while pending:
        above = pending.pop()
        for entry in os.scandir(root / above):
            path = above + entry.name
            if entry.name[0] == ".":
                continue
            if not entry.is_dir():
                images += [path] if SUFFIX.search(path) else []
            elif re.fullmatch(folders, path, re.DOTALL) and not (entry.is_symlink() and leads_back(root / path)):
                pending.append(f"{path}/")
    return sorted(images, key=lambda image: image.split("/"))


@dataclass
class Subject:
    """A person at one visit."""

    name: str
    person: str
    files: dict[str, str] = field(default_factory=dict)  # relative paths by modality, and by `LABEL` for the label map
    origin: Any = None  # what the paths say of the subject; all files of a subject have the same
    is_test: bool = False  # whether the layout reserves the subject for testing
    sequence: str | None = None  # what a single scan shows, "" if nothing states it; None for other subjects

    @property
    def images(self) -> dict[str, str]:
        """Path of the image of each modality."""
        return {kind: path for kind, path in self.files.items() if kind != LABEL}


@dataclass
class DataSet:
    """The subjects of a data set by name."""

    root: str
    images: Sequence[str]  # paths of all images in the folder
    modalities: Sequence[str] = ()  # in channel order
    convention: str | None = None  # label convention as text; None without label maps
    name: str = ""  # of the datalist
    labels: Mapping[str, Any] = field(default_factory=dict)  # label values of each region in nnU-Net's dataset.json
    subjects: dict[str, Subject] = field(default_factory=dict)
    clashes: dict[tuple[str, str], list[str]] = field(default_factory=dict)  # paths that fit one kind of a subject

    def add(self, identify: Callable[[str], Identity | None]) -> None:
        """Give each image to the subject that `identify` returns, a label map to the first that has an image.

        Raise `InputError` if a subject's files are of different origins, such as two folders.
        """
        found = [(path, identity) for path in self.images if (identity := identify(SUFFIX.sub("", path)))]
        for path, (kind, options, person) in sorted(found, key=lambda item: item[1].kind == LABEL):
            with_images = [name for name in options if name in self.subjects and self.subjects[name].images]
            for name in [*with_images, *options][:1]:
                subject = self.subjects.setdefault(name, Subject(name, person or person_of(name), origin=options[name]))
                if subject.origin != options[name]:
                    problem = f"{next(iter(subject.files.values()))} and {path} would both be of {name}"
                    raise InputError(f"--root={self.root}", problem, "distinct names")
                if kind in subject.files:
                    self.clashes.setdefault((name, kind), [subject.files[kind]]).append(path)
                subject.files.setdefault(kind, path)
        self.subjects = dict(sorted(self.subjects.items()))

    def clash(self, name: str, kind: str) -> str | None:
        """Describe two files that fit the same kind of a subject; None without a clash."""
        files = self.clashes.get((name, kind))
        return f"two files for the {kind} of {name}: {files[0]} and {files[1]}" if files else None

    def refuse_clashes(self, modalities: Collection[str]) -> None:
        """Raise an InputError if two files fit the same label map or image of these modalities."""
        for name, kind in self.clashes:
            if kind in (LABEL, *modalities):
                option = "--label=WORDS" if kind == LABEL else f"--modalities={kind}=WORDS"
                expected = f"one, by the end or a pattern of its path ({option}), or --pattern to tell subjects apart"
                raise InputError(f"--root={self.root}", self.clash(name, kind), expected)

    def show_unused(self, modalities: Collection[str], option: str = f"--pattern='{EXAMPLE}'") -> None:
        """Print the number of images that are not used, and some of them, those whose names say nothing first."""
        complete = [it.files for it in self.subjects.values() if not it.files.keys().isdisjoint(modalities)]
        used = {path for files in complete for kind, path in files.items() if kind in (LABEL, *modalities)}
        unused = [path for path in self.images if path not in used]
        unused.sort(key=lambda path: name_of(SUFFIX.sub("", path).rpartition("/")[2])[1] is not None)
        if unused:
            text = f"{len(unused)} files, such as {shortened(unused, most=3)}"
            show(f"not used: {text}; if they are needed, give a pattern such as {option}")


@dataclass(frozen=True)
class FileLayout:
    """File names of a cohort: a pattern of the path for each modality and the label map."""

    files: Mapping[str, str]  # path without suffix, by modality in channel order and `LABEL`; fields agree in a subject
    subject: str  # template of a subject's name
    fields: Mapping[str, str]  # regular expression of each field's values
    convention: str | None = None  # label convention
    first: str = ""  # suffix of a person's first session, omitted from the subject's name
    folders: str = ".*"  # regular expression of the folders to search

    def read(self, root: Path, images: Sequence[str]) -> DataSet:
        """Find the subjects' files among images; raise `InputError` if a subject is in two places."""
        patterns = {kind: compile_pattern(text, self.fields) for kind, text in self.files.items()}

        def identify(path: str) -> Identity | None:
            for kind, pattern in patterns.items():
                if match := pattern.fullmatch(path):
                    name = self.subject.format(**match.groupdict()).removesuffix(self.first)
                    return Identity(kind, {name: match.groupdict()})
            return None

        data = DataSet(str(root), images, [kind for kind in self.files if kind != LABEL], self.convention)
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


def read_layout(root: Path, naming: Naming) -> DataSet:
    """Find the subjects' files in any data set: by the pattern in `naming`, as nnU-Net's or BIDS, or by its names."""
    images = list_images(root)
    paths, data = [SUFFIX.sub("", image) for image in images], DataSet(str(root), images)
    if naming.pattern is None and ((root / "imagesTr").is_dir() or (root / DESCRIPTION).is_file()):
        show("layout: nnunet")
        content = read_json(root / DESCRIPTION, "nnU-Net's version 2, as by nnUNetv2_convert_MSD_dataset", SCHEMA)
        data = _nnunet(content["channel_names"], naming).read(root, images)
        data.labels = content["labels"]
        for subject in data.subjects.values():
            subject.is_test = subject.origin["part"] == "Ts"
    elif naming.pattern is None and any((match := RAW.fullmatch(path)) and match["type"] for path in paths):
        show("layout: bids")
        data.add(_bids(root, dict(zip(paths, images, strict=True)), naming).get)
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
            starts = accumulate(re.split(f"([{SIGNS}])", path.rpartition("/")[2]))  # P1, P1_, P1_v1, ...
            if any(start in data.subjects and not name.startswith(start) for start in starts):
                misnamed.append(path)
    if misnamed:
        show(f"warning: files named after a different subject: {shortened(misnamed, most=3)}", error=True)


def _bids(root: Path, images: Mapping[str, str], naming: Naming) -> dict[str, Identity]:
    """Identify the files of a BIDS data set by their paths; `images` maps these to files; each session is a subject.

    Without `--label`, label maps are lesion maps or, without any, maps that name no content. A label map without a
    session belongs to the only session of its subject.
    """
    scans, lesions, others = dict[str, Identity](), dict[str, str](), dict[str, str]()  # the last two: subjects
    for path, image in images.items():
        name, raw, stated = path.rpartition("/")[2], RAW.fullmatch(path), naming.stated(path)
        is_map = stated is None and name_of(name)[1] in (LABEL, ANATOMY)
        identity = stated if stated or is_map else naming.identify(name)
        match = raw or DERIVED.fullmatch(path)
        if match is None or not (identity or (is_map and naming.takes(LABEL))):
            continue
        kind = identity.kind if identity else LABEL
        session = match["session"].rstrip("/") or "".join(re.findall("_(ses-[^_]+)", name))
        subject = "_".join(filter(None, [match["subject"], session]))
        if kind == LABEL:
            *entities, suffix = name.lower().split("_")
            words = [part.rpartition("-")[2] for part in entities if re.match("label-|desc-|seg-|[^-]+$", part)]
            if stated or any(map(LESION.search, [*words, suffix])):
                lesions[path] = subject
            elif not any(name_of(f"label-{word}_mask")[1] == ANATOMY for word in words):
                others[path] = subject
        elif raw and not (kind == "DWI" and _is_series(root / image)):
            is_unusual = PARTS.search(name) or (AGENT.search(name) and not kind.startswith("T1"))
            if kind in naming.words or not is_unusual:
                scans[path] = Identity(kind, {subject: subject})
    labels, visits = lesions or others, {name for identity in scans.values() for name in identity.subjects}
    for path, subject in labels.items():
        sessions = [name for name in visits if name.partition("_ses-")[0] == subject]
        owner = sessions[0] if len(sessions) == 1 else subject
        scans[path] = Identity(LABEL, {owner: owner})
    if labels:
        titles = {re.sub("^derivatives/|(?:sub|ses)-[^/_]+[/_]|anat/", "", path) for path in labels}
        show(f"labels: {shortened(sorted(titles), most=3)}")
    return scans


def _is_series(image: Path) -> bool:
    with suppress(Exception):  # the file checks report damaged files
        return any(edge > 1 for edge in open_volume(image).shape[3:])
    return False


def _nnunet(channels: Mapping[str, str], naming: Naming) -> FileLayout:
    """Return the layout of nnU-Net's raw folders; a channel that `--modalities` omits is called "channel N"."""
    given = {words.lower(): modality for modality, words in naming.words.items()}
    files: dict[str, str] = {}
    for channel, name in sorted((int(channel), str(name)) for channel, name in channels.items()):
        usual = modality_of(name) or name
        modality = given.get(name.lower(), usual if naming.takes(usual) else f"channel {channel}")
        if modality in files:
            choice = f"a choice by --modalities={modality}=NAME"
            raise InputError(DESCRIPTION, f"several channels are {modality}", choice)
        files[modality] = f"images{{part}}/{{subject}}_{channel:04d}"
    return FileLayout({**files, LABEL: "labels{part}/{subject}"}, "{subject}", {"part": "Tr|Ts"})
