"""Split people into training, validation and testing: at random, by cross-validation folds, or a part of them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from common.data import datalists
from common.data.datalists import SPLITS, person_in
from common.errors import ArgumentError, InputError, choice, show
from common.files import digest, read_json
from scripts.datalists.files import output_file, write_datalist
from scripts.datalists.people import with_people

BATCH = 2  # least number of people for training: the smallest batch of a stage
ALL = "all"  # value of `testing` that reserves everyone

Datalist = Mapping[str, Any]


@dataclass(frozen=True)
class Split:
    """Numbers (int) or fractions (float) of people for validation and testing, and the seed of the random choice.

    A fraction above 0 gives at least one person, for validation at least `least`, the smallest number there; "all"
    reserves everyone for testing.

    Raises:
        InputError: an option is invalid or, from `draw`, too few people are left for training or validation.
    """

    validation: Any = 0.1
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
        tested, validated = _count(self.testing, len(people)), _count(self.validation, len(people), self.least)
        left = max(0, len(people) - tested - validated)
        if left < BATCH:
            options = f"--validation={self.validation} --testing={self.testing}"
            raise InputError(options, f"splits leave {left} of {len(people)} people for training; need {BATCH}")
        if validated < self.least:
            problem = f"leaves {validated} of {len(people)} people to select the checkpoint; need {self.least}"
            raise InputError(f"--validation={self.validation}", problem)
        names = ["testing"] * tested + ["validation"] * validated + ["training"] * left
        return dict(zip(_shuffled(people, self.seed), names, strict=True))


def _count(value: float, people: int, least: int = 1) -> int:
    return value if isinstance(value, int) else max(round(value * people), least * (value > 0))


def _shuffled(people: Sequence[str], seed: int) -> list[str]:
    return [people[index] for index in np.random.default_rng(seed).permutation(len(people))]


def split(
    datalist: str,
    output: str,
    validation: float = 0.1,
    testing: float | str = 0,
    seed: int = 0,
    person: str | None = None,
) -> None:
    """Write a copy of a datalist whose people of `training` and `validation` are split anew, such as after a check.

    Args:
        datalist: JSON file to split.
        output: the new datalist, a JSON file.
        validation: number or fraction of people for validation.
        testing: number or fraction of people for testing, in addition to the datalist's.
        seed: seed of the random choice, 0 or more.
        person: as for generic; by default people are as in the datalist.
    """
    splits, source = Split(validation, testing, seed), Path(datalist).expanduser()
    target = output_file(output, source)
    content = with_people(datalists.read(source), person)
    entries, tests = sorted(_entries(content), key=lambda entry: entry["subject"]), content.get("testing", [])
    tested = {person_in(entry) for entry in tests}
    split_of = splits.draw(sorted({person_in(entry) for entry in entries} - tested))
    write_datalist(_assigned(content, entries, split_of | dict.fromkeys(tested, "testing"), tests), target)


def fold(
    datalist: str,
    output: str,
    folds: str | int,
    fold: int,
    fold_to: str = "validation",
    validation: float | None = None,
    seed: int = 0,
    person: str | None = None,
) -> None:
    """Write a datalist with one fold of the people of `training` and `validation` held out, for cross-validation.

    Args:
        datalist: JSON file to divide; subjects of `testing` are in no fold.
        output: the new datalist, a JSON file.
        folds: number of folds, to which people are assigned at random; or a JSON file in the format of SwinUNETR's
            brats21_folds.json, which identifies subjects by the names of their folders.
        fold: number of the held-out fold, from 0.
        fold_to: split of the held-out fold. In `validation` the fold both selects the checkpoint and gives the score,
            as in the paper. In `testing` it only gives the score; `--validation` is drawn from the other folds, and the
            datalist's own `testing` subjects are left out.
        validation: number or fraction of the remaining people for validation, with `--fold_to=testing`; by default 0.1.
        seed: seed of the random choices, 0 or more; the same seed gives the same folds.
        person: as for generic; by default people are as in the datalist.
    """
    source = Path(datalist).expanduser()
    target = output_file(output, source, *([Path(folds).expanduser()] if isinstance(folds, str) else []))
    validates, numbers = choice("fold_to", fold_to, {"validation": True, "testing": False}), numbers_of(folds)
    if validates and validation is not None:
        raise InputError(f"--validation={validation}: cannot be combined with --fold_to={fold_to}")
    share = 0.1 if validation is None else validation
    rest = Split(0, seed=seed, least=0) if validates else Split(share, seed=seed)
    if fold not in numbers:
        raise InputError(f"--fold={fold}", expected=f"one of {', '.join(map(str, numbers))}, of --folds={folds}")
    content = with_people(datalists.read(source), person)
    if "subset" in content or content.get("folds", {}).get("split") == "testing":
        raise InputError("--datalist", "already a fold or a subset", "the whole datalist")
    entries, tests = _entries(content), content.get("testing", [])
    person_of = {entry["subject"]: person_in(entry) for entry in entries}
    people = sorted({*person_of.values()})
    if isinstance(folds, str):
        path = Path(folds).expanduser()
        fold_of, origin = _published_folds(path, person_of), {"source": path.name, "sha256": digest(path)}
    else:
        fold_of = {member: index % folds for index, member in enumerate(_shuffled(people, seed))}
        origin = {"source": f"assigned at random, seed {seed}"}
    held = [member for member in people if fold_of.get(member) == fold]
    if not held:
        raise InputError(f"--fold={fold}", f"none of the datalist's {len(people)} people is in this fold of {folds}")
    if tests and not validates:
        show(f"subjects in testing, left out of all folds: {len(tests)}, such as {tests[0]['subject']}")
    split_of = rest.draw([member for member in people if fold_of.get(member, fold) != fold])
    record = {"fold": fold, "of": len(numbers), "split": fold_to} | origin
    split_of |= dict.fromkeys(held, fold_to)
    write_datalist(_assigned(content, entries, split_of, tests if validates else [], folds=record), target)


def subset(datalist: str, output: str, fraction: float, seed: int = 0, nested: bool = False) -> None:
    """Write a copy of a datalist with a fraction of its training subjects, for learning curves (DIFF-27).

    Subjects are ranked by the SHA-256 of seed, fraction and name, so that every machine selects the same subjects.

    Args:
        datalist: JSON file to copy.
        output: the new datalist, a JSON file.
        fraction: share of the training subjects, above 0 and up to 1; at least one subject is kept.
        seed: seed of the choice, 0 or more, which depends on nothing else but fraction and the subjects' names.
        nested: whether, for the same seed, a larger fraction contains the smaller fractions.
    """
    source = Path(datalist).expanduser()
    target = output_file(output, source)
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        raise ArgumentError("fraction", fraction, expected="a number above 0, up to 1")
    content = datalists.read(source)
    if "subset" in content or not content.get("training"):
        raise InputError("--datalist: already a subset, or without training subjects; give the whole datalist")
    entries = content["training"]
    prefix = f"{seed}" if nested else f"{seed}/{float(fraction)!r}"
    ranked = sorted(entries, key=lambda it: hashlib.sha256(f"{prefix}/{it['subject']}".encode()).hexdigest())
    chosen = {entry["subject"] for entry in ranked[: max(1, round(fraction * len(entries)))]}
    record = {"fraction": fraction, "seed": seed, "nested": nested, "of": len(entries)}
    part = content | {"subset": record, "training": [entry for entry in entries if entry["subject"] in chosen]}
    write_datalist(dict(sorted(part.items(), key=lambda item: item[0] in SPLITS)), target)  # splits last


def _entries(content: Datalist) -> list[Any]:
    return [*content.get("training", []), *content.get("validation", [])]


def _assigned(
    content: Datalist, entries: Sequence[Any], split_of: Mapping[str, str], tests: Sequence[Any], **record: Any
) -> dict[str, Any]:
    """Return a datalist with entries in the splits of their people; people without a split are left out."""
    parts: dict[str, list[Any]] = {"training": [], "validation": [], "testing": [*tests]}
    for entry in entries:
        if split := split_of.get(person_in(entry)):
            parts[split].append(entry)
    if "unlabelled" in content:
        parts["unlabelled"] = content["unlabelled"]
    metadata = {key: value for key, value in content.items() if key not in (*SPLITS, "folds", "subset")}
    return metadata | record | parts


def _published_folds(path: Path, person_of: Mapping[str, str]) -> dict[str, int]:
    """Read the fold of each person from a JSON file; a visit in it puts all visits of the person into its fold."""
    fold_of: dict[str, int] = {}
    for subject, fold in _listed_folds(path):
        person = person_of.get(subject)
        if person is not None and fold_of.setdefault(person, fold) != fold:
            raise InputError(f"--folds={path}: {person} is in fold {fold_of[person]} and in {fold}")
    if outside := [subject for subject, person in person_of.items() if person not in fold_of]:
        show(f"subjects left out, as their people are in no fold: {len(outside)}, such as {min(outside)}")
    return fold_of


def _listed_folds(path: Path) -> list[tuple[str, int]]:
    """Return the subjects in a file like SwinUNETR's brats21_folds.json, by the names of their folders, with the fold.

    {"training": [{"fold": 0, "image": ["TrainingData/BraTS2021_01146/BraTS2021_01146_flair.nii.gz", ...]}, ...]}
    """
    content = read_json(path, "a file of folds, or a number of folds")
    return [(PurePosixPath(entry["image"][0]).parent.name, int(entry["fold"])) for entry in content["training"]]


def numbers_of(folds: str | int) -> list[int]:
    """Return the fold numbers: those in the file if `folds` is a path, 0 to n - 1 if it is a count n."""
    if isinstance(folds, str):
        return sorted({fold for _, fold in _listed_folds(Path(folds).expanduser())})
    if folds < 2:
        raise InputError(f"--folds={folds}", expected="at least 2")
    return list(range(folds))
