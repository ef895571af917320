"""Datalists: JSON files that list a cohort's scans, their modalities, and the split of each subject.

    {"name": "brats", "modalities": ["FLAIR", "T1ce", "T1", "T2"], "label_convention": "brats2021",
     "training": [{"subject": "BraTS2021_00000", "image": ["a_flair.nii.gz", ...], "label": "a_seg.nii.gz"}],
     "validation": [...], "testing": [...], "unlabelled": [...]}

Paths are relative to the cohort's root folder; null marks a missing modality. docs/reference/data.md explains the keys.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from posixpath import normpath
from typing import Any

from ..errors import ArgumentError, InputError, within
from ..files import check_schema, existing_folder, read_json
from .names import check_order, files_in, missing_in, person_of
from .regions import CONVENTIONS, declaration, regions_of

SPLITS = ("training", "validation", "testing", "unlabelled")
ALL = "all"  # option value that selects all splits
SCHEMA = read_json(Path(__file__).with_name("datalist.schema.json"))


class Datalist:
    """A datalist file, read once, and the folder `root` that its paths are relative to.

    `content` is as from `read`, `splits` has the split and `people` the person (`person_in`) of each subject.
    """

    def __init__(self, path: str | Path, root: str | Path) -> None:
        self.path, self.root, self.content = path, root, read(path)
        entries = [(split, entry) for split in SPLITS for entry in self.content.get(split, [])]
        self.splits = {entry["subject"]: split for split, entry in entries}
        self.people = {entry["subject"]: person_in(entry) for _, entry in entries}

    def load(
        self,
        split: str,
        modalities: Sequence[str] | None = None,
        label_convention: str | None = None,
        must_exist: bool = True,
        missing: Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Return the entries of a split, or of "all", as dictionaries for MONAI's datasets.

        Each has "subject", "image" (absolute paths in the order of `modalities`, by default all; None if missing) and,
        with a label convention, "label" (absolute path), which every subject must have. `missing` are modalities to
        treat as missing in every subject, even if their files exist; () accepts incomplete subjects, None refuses them.
        """
        available, stated = self.content["modalities"], self.content["label_convention"]
        names = modalities or available
        folder = existing_folder(self.root, f"root {self.root}", f"that of the paths in {self.path}").absolute()
        chosen = [entry for part in SPLITS if split in (part, ALL) for entry in self.content.get(part, [])]
        if not chosen:
            filled = ", ".join(part for part in SPLITS if self.content.get(part)) or "none"
            raise InputError(f"{self.path}: the split {split} is empty; splits with subjects: {filled}")
        if unknown := [modality for modality in names if modality not in available]:
            raise InputError(f"modality {unknown[0]}: not in {self.path}, which has {', '.join(available)}")
        if label_convention is not None and (stated is None or regions_of(stated) != regions_of(label_convention)):
            raise ArgumentError("label_convention", label_convention, f"the labels of {self.path} follow {stated}")
        entries = []
        for stored in chosen:
            files = dict(zip(available, stored["image"], strict=True)) | dict.fromkeys(missing or ())
            images = [files[modality] and f"{folder}/{files[modality]}" for modality in names]
            entry = {"subject": stored["subject"], "image": images}
            lacking = list(missing_in(entry, names))
            if label_convention is not None:
                entry["label"] = f"{folder}/{stored.get('label')}"
                lacking += [] if "label" in stored else ["a label"]
            if lacking and (missing is None or "a label" in lacking or len(lacking) == len(names)):
                problem = f"subject {stored['subject']} lacks {', '.join(lacking)}"
                expected = f"{'all' if missing is None else 'at least one'} of {', '.join(names)}"
                raise InputError(f"datalist {self.path}: {problem}; expected {expected}")
            entries.append(entry)
        owners = {path: entry["subject"] for entry in entries if must_exist for path in files_in(entry)}
        absent = [path for path in owners if not Path(path).is_file()]
        if absent:
            count = f"missing files: {len(absent)} of {len(owners)}"
            raise InputError(f"{absent[0]}: no such file, of subject {owners[absent[0]]} in {self.path}; {count}")
        return entries

    @property
    def leaked(self) -> list[str]:
        """The sorted people with visits in two or more of training, validation and testing."""
        places = {(self.people[subject], split) for subject, split in self.splits.items() if split != "unlabelled"}
        return sorted(person for person, count in Counter(person for person, _ in places).items() if count > 1)

    def digest(self) -> str:
        """Return a SHA-256 of the subjects' names in each split, regardless of their order and of paths."""
        subjects = {split: sorted(entry["subject"] for entry in self.content.get(split, [])) for split in SPLITS}
        return hashlib.sha256(json.dumps(subjects).encode()).hexdigest()


def read(datalist: str | Path, may_repeat: bool = False) -> dict[str, Any]:
    """Read a datalist file and check its content; `may_repeat` allows a subject in several splits.

    In the result, custom `regions` become text under `label_convention` (see `common.data.regions`).
    """
    content = read_json(datalist, "a datalist", {"type": "object"})
    check(content, datalist, may_repeat)
    renamed = {"label_convention" if key == "regions" else key: value for key, value in content.items()}
    return renamed | {"label_convention": _convention(content)}


def _convention(content: Mapping[str, Any]) -> str | None:
    """Return the label convention that a datalist names or declares under `regions`, as text; None for null."""
    if ("regions" in content) == ("label_convention" in content):
        raise InputError("expected either label_convention or regions")
    if "regions" in content:
        return declaration(content["regions"])
    stated: str | None = content["label_convention"]
    if stated is not None and stated not in CONVENTIONS:
        expected = f"one of {', '.join(CONVENTIONS)}, null, or `regions` instead"
        raise ArgumentError("label_convention", f"{stated:.200}", expected=expected)
    return stated


def convention_of(datalist: str | Path, default: str) -> str:
    """Return the label convention of a datalist file, or `default` if it states none or is no readable datalist."""
    try:
        return _convention(read_json(Path(datalist).expanduser())) or default
    except (OSError, RuntimeError, ValueError, TypeError, AttributeError, KeyError):
        return default


def check(content: Mapping[str, Any], name: str | Path, may_repeat: bool = False) -> None:
    """Raise `InputError` unless a datalist's content is valid; messages call the datalist `name`.

    Besides the schema: a subject occurs once (unless `may_repeat`) and has an image per modality. Files occur once.
    """
    splits = {part: content[part] for part in SPLITS if isinstance(content.get(part), list)}
    check_schema({**content, **{part: [] for part in splits}}, SCHEMA, f"datalist {name}", "a datalist")
    with within(f"datalist {name}"):
        _convention(content)
        alike = {re.sub(r"\d", "0", repr(entry)): entry for split in splits.values() for entry in split}
        for entry in alike.values():  # the schema treats all digits alike
            check_schema(entry, SCHEMA["$defs"]["entry"], f"{entry!s:.99}", "an entry of a datalist")
        owners: dict[str, str] = {}  # file -> subject
        subjects: dict[str, str] = {}  # subject -> split
        for split, entry in [(part, entry) for part in splits for entry in splits[part]]:
            subject, images, modalities = entry["subject"], entry["image"], content["modalities"]
            files = [normpath(file) for file in (*images, entry.get("label")) if file]
            if not may_repeat and subject in subjects:
                raise InputError(f"subject {subject} is in {subjects[subject]} and again in {split}")
            if len(images) != len(modalities):
                raise InputError(f"subject {subject}: {len(images)} images; expected {', '.join(modalities)}")
            check_order(images, modalities)
            if len({*files}) < len(files):
                raise InputError(f"subject {subject}: {max(files, key=files.count)} is listed twice")
            subjects[subject] = split
            for file in files:
                if owners.setdefault(file, subject) != subject and not may_repeat:
                    raise InputError(f"{file} belongs to the subjects {owners[file]} and {subject}")


def person_in(entry: Mapping[str, Any]) -> str:
    """Return the person of a datalist's entry: its `person` or, without one, the person in the subject's name."""
    return str(entry.get("person") or person_of(entry["subject"]))
