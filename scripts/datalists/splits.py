"""Split people into training, validation and testing: at random, by cross-validation folds, or a part of them."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from common.data.datalists import SPLITS, Datalist, person_in, read
from common.errors import ArgumentError, InputError, choice, show
from common.files import digest, read_json
from scripts.datalists.files import describe_people, write

BATCH = 2  # least number of people for training: the smallest batch of a stage


@dataclass(frozen=True)
class Split:
    """Numbers (int) or fractions (float) of people for validation and testing, and the seed of the random choice.

    A fraction above 0 gives at least one person, for validation `least`, the smallest number there; "all" reserves
    everyone for testing. Raise `InputError` for an invalid option or, in `draw`, for too few people.
    """

    validation: Any = 0.1
    testing: Any = 0
    seed: int = 0
    least: int = 1

    def __post_init__(self) -> None:
        for option, value in (("validation", self.validation), ("testing", self.testing)):
            is_fraction = isinstance(value, float) and 0 <= value < 1
            if not (is_fraction or (type(value) is int and value >= 0) or (option, value) == ("testing", "all")):
                raise InputError(f"--{option}={value}", expected="a number of people, or a fraction from 0 to below 1")

    def draw(self, people: Sequence[str]) -> dict[str, str]:
        """Return the split of each person; the choice for testing does not depend on `validation`."""
        if self.testing == "all":
            return dict.fromkeys(people, "testing")
        tested, validated = _count(self.testing, len(people)), _count(self.validation, len(people), self.least)
        left = max(0, len(people) - tested - validated)
        if left < BATCH or validated < self.least:
            options = f"--validation={self.validation} --testing={self.testing}"
            problem = f"splits leave {left} of {len(people)} people for training and {validated} for validation"
            raise InputError(options, problem, f"{BATCH} and {self.least} at least")
        names = ["testing"] * tested + ["validation"] * validated + ["training"] * left
        return dict(zip(np.random.default_rng(self.seed).permutation(people).tolist(), names, strict=True))


def _count(value: float, people: int, least: int = 1) -> int:
    return value if isinstance(value, int) else max(round(value * people), least * (value > 0))


def assigned(content: Mapping[str, Any], split_of: Mapping[str, str], **record: Any) -> dict[str, Any]:
    """Return a datalist with the subjects of `training` and `validation` in the splits of their people.

    People without a split are left out; other subjects stay. `record` replaces the records of folds and subsets.
    """
    parts = {"training": [], "validation": [], "testing": [*content.get("testing", [])]}
    for entry in _trained(content):
        if name := split_of.get(person_in(entry)):
            parts[name].append(entry)
    if "unlabelled" in content:
        parts["unlabelled"] = content["unlabelled"]
    return {key: value for key, value in content.items() if key not in (*SPLITS, "folds", "subset")} | record | parts


def drawn(content: Mapping[str, Any], splits: Split, tested: Collection[str]) -> dict[str, Any]:
    """Return a datalist with `training` and `validation` split at random, but the people of `tested` in testing."""
    people = sorted({person_in(entry) for entry in _trained(content)}.difference(tested))
    return assigned(content, dict.fromkeys(tested, "testing") | (splits.draw(people) if people else {}))


def read_datalist(datalist: str) -> dict[str, Any]:
    """Read a datalist, and print who its people are."""
    listed = Datalist(Path(datalist).expanduser(), root="")  # its files are not looked up
    show(f"people: {describe_people(listed.people)}")
    return listed.content


def _trained(content: Mapping[str, Any]) -> list[Any]:
    """Return the subjects that random choices and folds assign: those of `training` and `validation`."""
    return [*content.get("training", []), *content.get("validation", [])]


def split(datalist: str, output: str, validation: float = 0.1, testing: float | str = 0, seed: int = 0) -> None:
    """Write a copy of a datalist whose people of `training` and `validation` are split anew, such as after a check.

    Args:
        datalist: JSON file to split.
        output: the new datalist, a JSON file.
        validation: number or fraction of people for validation.
        testing: number or fraction of people for testing, in addition to the datalist's.
        seed: seed of the random choice, 0 or more.
    """
    splits, content = Split(validation, testing, seed), read_datalist(datalist)
    if not _trained(content):
        raise InputError(f"--datalist={datalist}", "no subjects in training or validation")
    content |= {"training": sorted(_trained(content), key=lambda entry: entry["subject"]), "validation": []}
    tested = {person_in(entry) for entry in content.get("testing", [])}
    write(drawn(content, splits, tested), output, datalist)


def fold(
    datalist: str,
    output: str,
    folds: str | int,
    fold: int,
    fold_to: str = "validation",
    validation: float | None = None,
    seed: int = 0,
) -> None:
    """Write a datalist with one fold of the people of `training` and `validation` held out, for cross-validation.

    Args:
        datalist: JSON file to divide; subjects of `testing` are in no fold.
        output: the new datalist, a JSON file.
        folds: number of folds, to which people are assigned at random; or a JSON file in the format of SwinUNETR's
            brats21_folds.json, which identifies subjects by the names of their folders.
        fold: number of the held-out fold, from 0.
        fold_to: split of the held-out fold: validation, where it also selects the checkpoint, as in the paper; or
            testing, in place of the datalist's own, where it only gives the score.
        validation: number or fraction of the other people for validation, with `--fold_to=testing`; by default 0.1.
        seed: seed of the random choices, 0 or more; the same seed gives the same folds.
    """
    choice("fold_to", fold_to, ("validation", "testing"))
    content, numbers = read_datalist(datalist), [*members_of(folds)]
    if "subset" in content or content.get("folds", {}).get("split") == "testing":
        raise InputError("--datalist", "already a fold or a subset", "the whole datalist")
    fold_of = _folds_of(folds, {entry["subject"]: person_in(entry) for entry in _trained(content)}, seed)
    split_of = {member: fold_to if number == fold else "training" for member, number in fold_of.items()}
    if fold_to not in split_of.values():
        raise InputError(f"--fold={fold}", f"nobody is in this fold of {folds}", f"one of {numbers}")
    rest = Split(0, seed=seed, least=0)
    if fold_to == "testing":
        rest = Split(0.1 if validation is None else validation, seed=seed)
        if tests := content.pop("testing", None):
            show(f"subjects in testing, left out of all folds: {len(tests)}, such as {tests[0]['subject']}")
    elif validation is not None:
        raise InputError(f"--validation={validation}: cannot be combined with --fold_to={fold_to}")
    split_of |= rest.draw(sorted(member for member, name in split_of.items() if name == "training"))
    record = {"fold": fold, "of": len(numbers), "split": fold_to, "source": f"assigned at random, seed {seed}"}
    if not isinstance(folds, int):
        record |= {"source": Path(folds).name, "sha256": digest(Path(folds).expanduser())}
    write(assigned(content, split_of, folds=record), output, datalist, str(folds))


def _folds_of(folds: str | int, person_of: Mapping[str, str], seed: int) -> dict[str, int]:
    """Return the fold of each person; `person_of` maps the subjects to people.

    A visit in a file of folds puts all visits of the person into its fold.
    """
    if isinstance(folds, int):
        people = np.random.default_rng(seed).permutation(sorted({*person_of.values()})).tolist()
        return {member: at % folds for at, member in enumerate(people)}
    fold_of: dict[str, int] = {}
    for fold, members in members_of(folds).items():
        for person in [person_of[member] for member in members if member in person_of]:
            if fold_of.setdefault(person, fold) != fold:
                raise InputError(f"--folds={folds}: {person} is in fold {fold_of[person]} and in {fold}")
    if outside := [subject for subject, person in person_of.items() if person not in fold_of]:
        show(f"subjects left out, as their people are in no fold: {len(outside)}, such as {min(outside)}")
    return fold_of


def members_of(folds: str | int) -> dict[int, list[str]]:
    """Return the subjects of each fold in a file like SwinUNETR's brats21_folds.json; none for a number of folds.

    {"training": [{"fold": 0, "image": ["TrainingData/BraTS2021_01146/BraTS2021_01146_flair.nii.gz", ...]}, ...]}
    """
    if isinstance(folds, int):
        if folds < 2:
            raise InputError(f"--folds={folds}", expected="at least 2")
        return {fold: [] for fold in range(folds)}
    members = defaultdict[int, list[str]](list)
    for entry in read_json(Path(folds).expanduser(), "a file of folds, or a number of folds")["training"]:
        members[int(entry["fold"])].append(PurePosixPath(entry["image"][0]).parent.name)
    return dict(sorted(members.items()))


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
    if not 0 < fraction <= 1:
        raise ArgumentError("fraction", fraction, expected="a number above 0, up to 1")
    content = read(Path(datalist).expanduser())
    if "subset" in content or not content.get("training"):
        raise InputError("--datalist: already a subset, or without training subjects; give the whole datalist")
    entries = content["training"]
    prefix = f"{seed}" if nested else f"{seed}/{float(fraction)!r}"
    ranked = sorted(entries, key=lambda it: hashlib.sha256(f"{prefix}/{it['subject']}".encode()).hexdigest())
    chosen = {entry["subject"] for entry in ranked[: max(1, round(fraction * len(entries)))]}
    record = {"fraction": fraction, "seed": seed, "nested": nested, "of": len(entries)}
    part = content | {"subset": record, "training": [entry for entry in entries if entry["subject"] in chosen]}
    write(dict(sorted(part.items(), key=lambda item: item[0] in SPLITS)), output, datalist)  # splits last
