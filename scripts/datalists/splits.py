"""Split people into training, validation and testing, at random or by cross-validation folds."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from common.data.datalists import SPLITS, person_in
from common.errors import InputError, check_number, choice, show
from common.files import digest, expand_home, read_json
from scripts.datalists.people import with_people

BATCH = 2  # least number of people for training: the smallest batch of a stage
VALIDATION = 0.1  # default fraction of people for validation
ALL = "all"  # value of `testing` that reserves everyone


@dataclass(frozen=True)
class RandomSplits:
    """Options of a random split of people into training, validation and testing.

    `validation` and `testing` are numbers of people (int) or fractions from 0 to below 1 (float); a fraction above 0
    gives at least one person. For `testing`, "all" reserves everyone, and None draws no split for testing. `least` is
    the smallest number of people for validation.

    Raises:
        InputError: an option is invalid or, from `draw`, too few people are left for training or validation.
    """

    validation: Any = VALIDATION
    testing: Any = 0
    seed: int = 0
    least: int = 1

    def __post_init__(self) -> None:
        check_number("seed", self.seed, int, 0)
        for option, value, words in (("validation", self.validation, ()), ("testing", self.testing, (ALL, None))):
            is_number = type(value) is int and value >= 0
            if not (is_number or (isinstance(value, float) and 0 <= value < 1) or value in words):
                raise InputError(f"--{option}={value}", expected="a number of people, or a fraction from 0 to below 1")
        if self.testing == ALL and self.validation not in (0, VALIDATION):
            raise InputError(f"--validation={self.validation}: cannot be combined with --testing={ALL}")

    def draw(self, people: Sequence[str]) -> dict[str, str]:
        """Return the split of each person; the choice for testing does not depend on `validation`."""
        if self.testing == ALL:
            return dict.fromkeys(people, "testing")
        tested, validated = _count(self.testing or 0, len(people)), _count(self.validation, len(people))
        left = max(0, len(people) - tested - validated)
        testing = "" if self.testing is None else f" --testing={self.testing}"
        hint = "" if self.testing is None else f", or --testing={ALL} for a cohort that no stage trains on"
        if left < BATCH:
            problem = f"splits leave {left} of {len(people)} people for training; need {BATCH} for a batch{hint}"
            raise InputError(f"--validation={self.validation}{testing}", problem)
        if validated < self.least:
            problem = f"leaves {validated} of {len(people)} people to select the checkpoint; need {self.least}{hint}"
            raise InputError(f"--validation={self.validation}", problem)
        names = ["testing"] * tested + ["validation"] * validated + ["training"] * left
        return dict(zip(_shuffled(people, self.seed), names, strict=True))


def _count(value: float, people: int) -> int:
    return value if isinstance(value, int) else max(round(value * people), int(value > 0))


def _shuffled(people: Sequence[str], seed: int) -> list[str]:
    return [people[index] for index in np.random.default_rng(seed).permutation(len(people))]


def drawn_anew(content: Mapping[str, Any], splits: RandomSplits) -> dict[str, Any]:
    """Return a datalist whose people of `training` and `validation` are split anew; those of `testing` stay there."""
    entries = [entry for name in SPLITS[:2] for entry in content.get(name, [])]
    parts: dict[str, list[Any]] = {"training": [], "validation": [], "testing": [*content.get("testing", [])]}
    held_out = {person_in(entry) for entry in parts["testing"]}
    split_of = splits.draw(sorted({person_in(entry) for entry in entries} - held_out))
    for entry in sorted(entries, key=lambda entry: entry["subject"]):
        parts[split_of.get(person_in(entry), "testing")].append(entry)
    return {key: value for key, value in content.items() if key not in ("folds", "subset")} | parts


def hold_out(
    content: Mapping[str, Any],
    folds: str | int,
    fold: int,
    fold_to: str,
    validation: float | None,
    seed: int,
    person: str | None = None,
) -> dict[str, Any]:
    """Return a datalist in which fold number `fold` is held out in the split `fold_to`, validation or testing.

    `folds` is a file of folds, or a number of random folds. A fold for testing replaces the datalist's test subjects;
    `validation` is then the number or fraction of the remaining people for validation (default 0.1). Subjects without a
    label go to training, or are left out if their person is in validation or testing. The result records the fold.

    Raises:
        InputError: an option is invalid, the datalist is a test fold or a subset, or the fold or the rest is too small.
    """
    validates = choice("fold_to", fold_to, {"validation": True, "testing": False})
    if validates and validation is not None:
        raise InputError(f"--validation={validation}: cannot be combined with --fold_to={fold_to}")
    random = RandomSplits(VALIDATION if validation is None else validation, None, seed)
    numbers = numbers_of(folds)
    if fold not in numbers:
        raise InputError(f"--fold={fold}", expected=f"one of {', '.join(map(str, numbers))}, of --folds={folds}")
    if "subset" in content or content.get("folds", {}).get("split") == "testing":
        raise InputError("--datalist", "already a fold or a subset", "the whole datalist")
    content = with_people(content, person)
    entries = {entry["subject"]: entry for name in SPLITS[:2] for entry in content.get(name, [])}
    person_of = {subject: person_in(entry) for subject, entry in entries.items()}
    labelled = {subject for subject, entry in entries.items() if "label" in entry} or set(entries)
    people = sorted({person_of[subject] for subject in labelled})
    unlabelled = set(person_of.values()) - set(people)
    if isinstance(folds, str):
        fold_of, source = _published_folds(expand_home(folds, f"--folds={folds}"), person_of, labelled)
        unlabelled = {member for member in unlabelled if fold_of.get(member, fold) != fold}
    elif folds > len(people):
        raise InputError(f"--folds={folds}", "more than the people with labels", f"at most {len(people)} folds")
    else:
        fold_of = {member: index % folds for index, member in enumerate(_shuffled(people, seed))}
        source = {"source": f"assigned at random, seed {seed}"}
    held = [member for member in people if fold_of.get(member) == fold]
    remaining = [member for member in people if fold_of.get(member, fold) != fold]
    if not held or len(remaining) < BATCH:
        problem = f"people in this fold: {len(held)}, in the remaining folds: {len(remaining)}"
        raise InputError(f"--fold={fold}", problem, f"at least 1, and {BATCH} (a batch) to train on")
    split_of = dict.fromkeys(remaining, "training") if validates else random.draw(remaining)
    split_of |= dict.fromkeys(held, fold_to) | dict.fromkeys(unlabelled, "training")
    splits: dict[str, list[Any]] = {split: [] for split in SPLITS[:3]}
    for subject, entry in entries.items():
        split = split_of.get(person_of[subject])
        if split == "training" or (split is not None and subject in labelled):
            splits[split].append(entry)
    if validates:
        splits["testing"] = content.get("testing", [])
    elif out := content.get("testing", []):
        show(f"subjects in testing, left out of all folds: {len(out)}, such as {out[0]['subject']}")
    if "unlabelled" in content:
        splits["unlabelled"] = content["unlabelled"]
    metadata = {key: value for key, value in content.items() if key not in (*SPLITS, "folds")}
    return metadata | {"folds": {"fold": fold, "of": len(numbers), "split": fold_to} | source} | splits


def _published_folds(
    path: Path, person_of: Mapping[str, str], labelled: Collection[str]
) -> tuple[dict[str, int], dict[str, Any]]:
    """Read the fold of each person from a JSON file; return the folds, and the source to record in the datalist.

    A visit in the file puts all visits of the person into its fold. Raise an InputError if a person is in two folds, or
    no labelled subject is in the file.
    """
    fold_of: dict[str, int] = {}
    listed = _listed_folds(path)
    for subject, fold in listed:
        person = person_of.get(subject)
        if person is not None and fold_of.setdefault(person, fold) != fold:
            raise InputError(f"--folds={path}: {person} is in fold {fold_of[person]} and in {fold}")
    outside = [subject for subject in labelled if person_of[subject] not in fold_of]
    if len(outside) == len(labelled):
        problem = f"names none of the {len(labelled)} labelled subjects; the first in the file is {listed[0][0]}"
        raise InputError(f"--folds={path}", problem)
    for problem, names in {
        "subjects left out, as their people are in no fold": outside,
        "subjects in a fold, but not in training or validation of the datalist": dict(listed).keys() - person_of.keys(),
    }.items():
        if names:
            show(f"{problem}: {len(names)}, such as {min(names)}")
    return fold_of, {"source": path.name, "sha256": digest(path)}


def _listed_folds(path: Path) -> list[tuple[str, int]]:
    """Return the subjects in a file like SwinUNETR's brats21_folds.json, by the names of their folders, with the fold.

    {"training": [{"fold": 0, "image": ["TrainingData/BraTS2021_01146/BraTS2021_01146_flair.nii.gz", ...]}, ...]}
    """
    content = read_json(path, "a file of folds, or a number of folds", name=f"--folds={path}")
    try:
        return [(PurePosixPath(entry["image"][0]).parent.name, int(entry["fold"])) for entry in content["training"]]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"--folds={path}", f"{type(error).__name__}: {error}", "as brats21_folds.json") from error


def numbers_of(folds: str | int) -> list[int]:
    """Return the fold numbers: those in the file if `folds` is a path, 0 to n - 1 if it is a count n (2 to 1000)."""
    if isinstance(folds, str):
        return sorted({fold for _, fold in _listed_folds(expand_home(folds, f"--folds={folds}"))})
    check_number("folds", folds, int, 2, 1000)
    return list(range(folds))
