"""Assign the people of a cohort or a datalist to splits: at random, or by cross-validation folds."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from common.data import datalists
from common.data.datalists import SPLITS
from common.errors import InputError, check_number, choice, show
from common.files import digest, expand_home, valid_json

MOST = 1000  # folds
BATCH = 2  # least number of people for training: the smallest batch of a stage
VALIDATION = 0.1  # default fraction of people for validation
ALL = "all"  # people for testing
DEALT = ("training", "validation")  # splits that the folds divide
FOLDS_SCHEMA = {
    "type": "object",
    "required": ["training"],
    "properties": {
        "training": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["fold", "image"],
                "properties": {
                    "fold": {"type": "integer", "minimum": 0, "maximum": MOST - 1},
                    "image": {"type": "array", "minItems": 1, "items": {"type": "string"}},
                },
            },
        }
    },
}


@dataclass(frozen=True)
class RandomSplits:
    """Splits drawn at random.

    `validation` and `testing` are numbers or, below 1, fractions of people; a fraction above 0 gives at least one.
    "all" for `testing` reserves everyone, and None means that only a split for validation is drawn. `least` is the
    smallest number of people for validation.

    Raises:
        InputError: an option is invalid or, from `draw`, a split is too small for training.
    """

    validation: Any = VALIDATION
    testing: Any = 0
    seed: int = 0
    least: int = 1

    def __post_init__(self) -> None:
        """Validate the options."""
        check_number("seed", self.seed, int, 0)
        for option, value in {"validation": self.validation, "testing": self.testing}.items():
            is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            if is_number or (isinstance(value, float) and 0 <= value < 1):
                continue
            if option == "validation" or value not in (None, ALL):
                words = f", or {ALL}" if option == "testing" else ""
                raise InputError(
                    f"--{option}={value}: expected a number of people, or a fraction from 0 to below 1{words}"
                )
        if self.testing == ALL and self.validation not in (0, VALIDATION):
            raise InputError(f"--validation={self.validation}: cannot be combined with --testing={ALL}")

    def draw(self, people: Sequence[str]) -> dict[str, list[str]]:
        """Split -> sorted people. `validation` does not affect who is drawn for testing."""
        if not people or self.testing == ALL:
            return {"training": [], "validation": [], "testing": list(people)}
        test, held = (_count(value or 0, len(people)) for value in (self.testing, self.validation))
        rest = test + held
        hint = "" if self.testing is None else f", or --testing={ALL} for a cohort that no stage trains on"
        if len(people) - rest < BATCH:
            given = f"--validation={self.validation}" + ("" if self.testing is None else f" --testing={self.testing}")
            left = max(0, len(people) - rest)
            raise InputError(
                f"{given}: splits leave {left} of {len(people)} people for training; need {BATCH} for a batch{hint}"
            )
        if held < self.least:
            raise InputError(
                f"--validation={self.validation}: leaves {held} of {len(people)} people to select the checkpoint; "
                f"need {self.least}{hint}"
            )
        drawn = _shuffled(people, self.seed)
        parts = {"training": drawn[rest:], "validation": drawn[test:rest], "testing": drawn[:test]}
        return {split: sorted(members) for split, members in parts.items()}


def _count(value: float, people: int) -> int:
    return value if isinstance(value, int) else max(round(value * people), int(value > 0))


def _shuffled(people: Sequence[str], seed: int) -> list[str]:
    return [people[index] for index in np.random.default_rng(seed).permutation(len(people))]


def person_finder(pattern: str) -> Callable[[str], str]:
    """A function from a subject's name to its person, the first group of a regular expression."""
    try:
        form = re.compile(str(pattern))
    except re.error as error:
        raise InputError(
            f"--person={pattern}: not a regular expression ({error}); expected one such as (.+)_v[0-9]+"
        ) from error
    if not form.groups:
        raise InputError(f"--person={pattern}: no group, which is the person; expected one such as (.+)_v[0-9]+")

    def find(subject: str) -> str:
        found = form.match(subject)
        if not (person := found and found[1]):
            problem = "names no person in" if found else "does not match"
            raise InputError(f"--person={pattern}: {problem} the subject {subject}")
        return person

    return find


def hold_out(
    content: Mapping[str, Any],
    folds: str | int,
    fold: int,
    fold_to: str,
    validation: float | None,
    seed: int,
    person: str | None = None,
) -> dict[str, Any]:
    """A new datalist that holds out one fold, of a file of folds or of random folds, for the split `fold_to`.

    `validation` is the number or fraction drawn from the rest if the fold is for testing (default 0.1). A fold for
    testing replaces the test subjects of the datalist. Subjects without label are trained on unless a fold that is held
    out has their person, whom the pattern `person` finds (by default that of the datalist). The datalist records the
    fold under `folds`.

    Raises:
        InputError: the fold does not exist, or the fold or the rest is too small.
    """
    validates = choice("fold_to", fold_to, {"validation": True, "testing": False})
    if validates and validation is not None:
        raise InputError(f"--validation={validation}: cannot be combined with --fold_to={fold_to}")
    random = RandomSplits(VALIDATION if validation is None else validation, None, seed)
    known = numbers_of(folds)
    if isinstance(fold, bool) or fold not in known:
        raise InputError(f"--fold={fold}: expected one of {', '.join(map(str, known))}, the folds of --folds={folds}")
    if content.get("folds", {}).get("split") == "testing":
        number = content["folds"]["fold"]
        raise InputError(f"--datalist: already a fold, number {number}; give the whole datalist")
    if "subset" in content:
        raise InputError("--datalist: already a subset; give the whole datalist")
    if person is not None:
        find = person_finder(person)
        named = {
            name: [{**entry, "person": find(entry["subject"])} for entry in content[name]]
            for name in SPLITS
            if name in content
        }
        content = {**content, **named}
    entries = {entry["subject"]: entry for name in DEALT for entry in content.get(name, [])}
    person_in = {subject: datalists.person_in(entry) for subject, entry in entries.items()}
    labelled = {subject for subject, entry in entries.items() if "label" in entry} or set(entries)
    people = sorted({person_in[subject] for subject in labelled})
    others = set(person_in.values()) - set(people)
    if isinstance(folds, str):
        fold_of, source = _published_folds(expand_home(folds, f"--folds={folds}"), person_in, labelled)
        others = {each for each in others if fold_of.get(each, fold) != fold}
    else:
        fold_of, source = random_folds(folds, people, seed)
    held = [each for each in people if fold_of.get(each) == fold]
    rest = [each for each in people if fold_of.get(each, fold) != fold]
    if not held or len(rest) < BATCH:
        raise InputError(
            f"--fold={fold}: {len(held)} people in this fold and {len(rest)} in the others; need 1 and "
            f"{BATCH} (a batch)"
        )
    parts = {"training": rest, "validation": held} if validates else random.draw(rest) | {"testing": held}
    split_of = {each: split for split, members in parts.items() for each in members}
    split_of |= dict.fromkeys(others, "training")
    made: dict[str, list[Any]] = {split: [] for split in SPLITS[:3]}
    for subject, entry in entries.items():
        split = split_of.get(person_in[subject])
        if split == "training" or (split is not None and subject in labelled):
            made[split].append(entry)
    if validates:
        made["testing"] = content.get("testing", [])
    elif out := content.get("testing", []):
        show(f"left out of all folds: {len(out)} subjects in testing, such as {out[0]['subject']}")
    if "unlabelled" in content:
        made["unlabelled"] = content["unlabelled"]
    kept = {key: value for key, value in content.items() if key not in (*SPLITS, "folds")}
    return kept | {"folds": {"fold": fold, "of": len(known), "split": fold_to} | source} | made


def random_folds(number: int, people: Sequence[str], seed: int) -> tuple[dict[str, int], dict[str, Any]]:
    """Person -> fold: people are shuffled by the seed and dealt into folds that differ by at most one in size."""
    if number > len(people):
        raise InputError(f"--folds={number}: only {len(people)} people have labels; expected at most as many folds")
    fold_of = {person: index % number for index, person in enumerate(_shuffled(people, seed))}
    return fold_of, {"source": f"assigned at random, seed {seed}"}


def _published_folds(
    path: Path, person_in: Mapping[str, str], labelled: Collection[str]
) -> tuple[dict[str, int], dict[str, Any]]:
    """Person -> fold from a file of folds; prints subjects that only the file or the datalist has.

    One visit in the file puts all visits of the person into the fold.
    """
    fold_of_subject = read_folds(path)
    fold_of: dict[str, int] = {}
    for subject, person in person_in.items():
        fold = fold_of_subject.get(subject)
        if fold is not None and fold_of.setdefault(person, fold) != fold:
            raise InputError(f"--folds={path}: {person} is in fold {fold_of[person]} and in {fold}")
    outside = [subject for subject in labelled if person_in[subject] not in fold_of]
    if len(outside) == len(labelled):
        example = next(iter(fold_of_subject))
        raise InputError(f"--folds={path}: it names none of the {len(labelled)} subjects with labels, but {example}")
    unknown = fold_of_subject.keys() - person_in.keys()
    for what, names in {
        "left out, as their people are in no fold": outside,
        "in a fold, but not in training or validation of the datalist": unknown,
    }.items():
        if names:
            show(f"{what}: {len(names)} subjects, such as {min(names)}")
    return fold_of, {"source": path.name, "sha256": digest(path)}


def read_folds(path: Path) -> dict[str, int]:
    """Subject -> fold from a JSON file in the format of SwinUNETR's brats21_folds.json.

        {"training": [{"fold": 0, "image": ["TrainingData/BraTS2021_01146/BraTS2021_01146_flair.nii.gz", ...]}, ...]}

    Only the folder of the first image matters; it names the subject.
    """
    content = valid_json(path, "a file of folds, or a number of folds", FOLDS_SCHEMA, f"--folds={path}")
    folds: dict[str, int] = {}
    for entry in content["training"]:
        image = entry["image"][0]
        subject = PurePosixPath(image).parent.name
        if not subject:
            raise InputError(f"--folds={path}: image {image} is in no folder; expected a folder named as the subject")
        if folds.setdefault(subject, entry["fold"]) != entry["fold"]:
            raise InputError(f"--folds={path}: {subject} is in fold {folds[subject]} and in {entry['fold']}")
    return folds


def numbers_of(folds: str | int) -> list[int]:
    """The fold numbers of a file, or 0 to the number of folds minus 1 (2 to 1000 folds)."""
    if isinstance(folds, str):
        return sorted(set(read_folds(expand_home(folds, f"--folds={folds}")).values()))
    check_number("folds", folds, int, 2, MOST)
    return list(range(folds))
