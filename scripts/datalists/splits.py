"""Split people into training, validation and testing, at random or by cross-validation folds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from common.data.datalists import SPLITS, person_in
from common.errors import InputError, choice, show
from common.files import digest, read_json

BATCH = 2  # least number of people for training: the smallest batch of a stage
VALIDATION = 0.1  # default fraction of people for validation
ALL = "all"  # value of `testing` that reserves everyone

Datalist = Mapping[str, Any]


@dataclass(frozen=True)
class Split:
    """Numbers (int) or fractions (float) of people for validation and testing, and the seed of the random choice.

    A fraction above 0 gives at least one person; "all" reserves everyone for testing. `least` is the smallest number of
    people for validation.

    Raises:
        InputError: an option is invalid or, from `draw`, too few people are left for training or validation.
    """

    validation: Any = VALIDATION
    testing: Any = 0
    seed: int = 0
    least: int = 1

    def __post_init__(self) -> None:
        for option, value in (("validation", self.validation), ("testing", self.testing)):
            is_fraction = isinstance(value, float) and 0 <= value < 1
            if not (is_fraction or (type(value) is int and value >= 0) or (option, value) == ("testing", ALL)):
                raise InputError(f"--{option}={value}", expected="a number of people, or a fraction from 0 to below 1")

    def draw(self, people: Sequence[str]) -> dict[str, str]:
        """Return the split of each person; the choice for testing does not depend on `validation`."""
        if self.testing == ALL:
            return dict.fromkeys(people, "testing")
        tested, validated = _count(self.testing, len(people)), _count(self.validation, len(people))
        left = max(0, len(people) - tested - validated)
        options = f"--validation={self.validation}" + (f" --testing={self.testing}" if self.testing else "")
        if left < BATCH:
            raise InputError(options, f"splits leave {left} of {len(people)} people for training; need {BATCH}")
        if validated < self.least:
            problem = f"leaves {validated} of {len(people)} people to select the checkpoint; need {self.least}"
            raise InputError(f"--validation={self.validation}", problem)
        names = ["testing"] * tested + ["validation"] * validated + ["training"] * left
        return dict(zip(_shuffled(people, self.seed), names, strict=True))


def _count(value: float, people: int) -> int:
    return value if isinstance(value, int) else max(round(value * people), int(value > 0))


def _shuffled(people: Sequence[str], seed: int) -> list[str]:
    return [people[index] for index in np.random.default_rng(seed).permutation(len(people))]


def split_anew(content: Datalist, split: Split) -> dict[str, Any]:
    """Return a datalist whose people of `training` and `validation` are split anew; those of `testing` stay there."""
    entries = sorted(_entries(content), key=lambda entry: entry["subject"])
    testing = content.get("testing", [])
    tested = {person_in(entry) for entry in testing}
    split_of = split.draw(sorted({person_in(entry) for entry in entries} - tested))
    return _assigned(content, entries, split_of | dict.fromkeys(tested, "testing"), testing)


def hold_out(
    content: Datalist, folds: str | int, fold: int, fold_to: str, validation: float | None, seed: int
) -> dict[str, Any]:
    """Return a datalist in which fold number `fold` is held out in the split `fold_to`, validation or testing.

    `folds` is a file of folds, or a number of random folds. A fold for testing replaces the datalist's test subjects;
    `validation` is then the number or fraction of the remaining people for validation (default 0.1). The result records
    the fold.

    Raises:
        InputError: an option is invalid, the datalist is a test fold or a subset, or the fold or the rest is too small.
    """
    validates = choice("fold_to", fold_to, {"validation": True, "testing": False})
    if validates and validation is not None:
        raise InputError(f"--validation={validation}: cannot be combined with --fold_to={fold_to}")
    if validates:
        split = Split(validation=0, seed=seed, least=0)
    else:
        split = Split(VALIDATION if validation is None else validation, seed=seed)
    numbers = numbers_of(folds)
    if fold not in numbers:
        raise InputError(f"--fold={fold}", expected=f"one of {', '.join(map(str, numbers))}, of --folds={folds}")
    if "subset" in content or content.get("folds", {}).get("split") == "testing":
        raise InputError("--datalist", "already a fold or a subset", "the whole datalist")
    entries, testing = _entries(content), content.get("testing", [])
    person_of = {entry["subject"]: person_in(entry) for entry in entries}
    people = sorted({*person_of.values()})
    if isinstance(folds, str):
        path = Path(folds).expanduser()
        fold_of = _published_folds(path, person_of)
        source = {"source": path.name, "sha256": digest(path)}
    elif folds > len(people):
        raise InputError(f"--folds={folds}", expected=f"at most the number of people, {len(people)}")
    else:
        fold_of = {member: index % folds for index, member in enumerate(_shuffled(people, seed))}
        source = {"source": f"assigned at random, seed {seed}"}
    held = [member for member in people if fold_of.get(member) == fold]
    remaining = [member for member in people if fold_of.get(member, fold) != fold]
    if not held:
        raise InputError(f"--fold={fold}", f"nobody of the datalist is in this fold of {folds}")
    if testing and not validates:
        show(f"subjects in testing, left out of all folds: {len(testing)}, such as {testing[0]['subject']}")
    record = {"fold": fold, "of": len(numbers), "split": fold_to} | source
    split_of = split.draw(remaining) | dict.fromkeys(held, fold_to)
    return _assigned(content, entries, split_of, testing if validates else [], folds=record)


def _entries(content: Datalist) -> list[Any]:
    return [*content.get("training", []), *content.get("validation", [])]


def _assigned(
    content: Datalist, entries: Sequence[Any], split_of: Mapping[str, str], testing: Sequence[Any], **record: Any
) -> dict[str, Any]:
    """Return a datalist with entries in the splits of their people; people without a split are left out."""
    parts: dict[str, list[Any]] = {"training": [], "validation": [], "testing": [*testing]}
    for entry in entries:
        if split := split_of.get(person_in(entry)):
            parts[split].append(entry)
    if "unlabelled" in content:
        parts["unlabelled"] = content["unlabelled"]
    metadata = {key: value for key, value in content.items() if key not in (*SPLITS, "folds", "subset")}
    return metadata | record | parts


def _published_folds(path: Path, person_of: Mapping[str, str]) -> dict[str, int]:
    """Read the fold of each person from a JSON file; a visit in it puts all visits of the person into its fold.

    Raise an InputError if a person is in two folds, or no subject is in the file.
    """
    fold_of: dict[str, int] = {}
    listed = _listed_folds(path)
    for subject, fold in listed:
        person = person_of.get(subject)
        if person is not None and fold_of.setdefault(person, fold) != fold:
            raise InputError(f"--folds={path}: {person} is in fold {fold_of[person]} and in {fold}")
    if not fold_of:
        raise InputError(f"--folds={path}", f"has none of the subjects; the first in the file is {listed[0][0]}")
    for problem, names in {
        "subjects left out, as their people are in no fold": [
            subject for subject, person in person_of.items() if person not in fold_of
        ],
        "subjects in a fold, but not in training or validation of the datalist": dict(listed).keys() - person_of.keys(),
    }.items():
        if names:
            show(f"{problem}: {len(names)}, such as {min(names)}")
    return fold_of


def _listed_folds(path: Path) -> list[tuple[str, int]]:
    """Return the subjects in a file like SwinUNETR's brats21_folds.json, by the names of their folders, with the fold.

    {"training": [{"fold": 0, "image": ["TrainingData/BraTS2021_01146/BraTS2021_01146_flair.nii.gz", ...]}, ...]}
    """
    content = read_json(path, "a file of folds, or a number of folds")
    return [(PurePosixPath(entry["image"][0]).parent.name, int(entry["fold"])) for entry in content["training"]]


def numbers_of(folds: str | int) -> list[int]:
    """Return the fold numbers: those in the file if `folds` is a path, 0 to n - 1 if it is a count n (2 to 1000)."""
    if isinstance(folds, str):
        return sorted({fold for _, fold in _listed_folds(Path(folds).expanduser())})
    if folds < 2:
        raise InputError(f"--folds={folds}", expected="at least 2")
    return list(range(folds))
