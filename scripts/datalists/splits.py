"""Assign the people of a cohort or a datalist to splits: at random, or by cross-validation folds."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from common.data.datalists import SPLITS
from common.data.layouts.found import person_of
from common.errors import InputError, check_number, choice, show
from common.files import digest, expand_home, valid_json
from scripts.datalists.scan import Visit

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
                    "fold": {"type": "integer", "minimum": 0},
                    "image": {
                        "anyOf": [
                            {"type": "string"},
                            {"type": "array", "minItems": 1, "prefixItems": [{"type": "string"}]},
                        ]
                    },
                },
            },
        }
    },
}


class Assignment(NamedTuple):
    """The people of each split."""

    people: dict[str, list[str]]  # split -> people with a mask, or all people if nobody has one
    others: set[str]  # people without mask, for --unlabelled=training
    folds: dict[str, Any] | None  # record of the cross-validation


BATCH = 2  # least number of people for training: the smallest batch of a stage
VALIDATION = 0.1  # default fraction of people for validation
ALL = "all"  # people for testing
OUTSIDE = "in no fold"  # flow-chart box for people missing from the file of folds
DEALT = ("training", "validation")  # splits that the folds divide

Splitter = Callable[[Sequence[Visit], Sequence[Visit]], Assignment]  # arguments: visits to split, visits without mask


def random_splits(validation: float, testing: float | str, seed: int, self_supervised: bool = False) -> Splitter:
    """A splitter that draws people at random, by number or fraction; "all" for testing reserves everyone.

    Self-supervised cohorts need at least two people for validation. The splitter raises InputError if a split is too
    small for training.
    """
    check_number("seed", seed, int, 0)
    if testing == ALL and validation not in (0, VALIDATION):
        raise InputError(f"--validation={validation}: expected none together with --testing={ALL}")

    def split(visits: Sequence[Visit], without: Sequence[Visit]) -> Assignment:
        people = _people(visits)
        if not people or testing == ALL:
            return Assignment({"training": [], "validation": [], "testing": people}, set(), None)
        return Assignment(
            _draw(people, validation, testing, seed, 2 if self_supervised else 1),
            set(_people(without)) - set(people),
            None,
        )

    return split


def cross_validation(folds: str | int, fold: int | None, fold_to: str, validation: float | None, seed: int) -> Splitter:
    """A splitter that holds out one fold, of a file of folds or of random folds, for `fold_to`.

    `validation` is the number or fraction drawn from the rest if the fold is for testing (default 0.1). The splitter
    raises InputError if the fold does not exist, or the fold or the rest is too small.
    """
    check_number("seed", seed, int, 0)
    validates = choice("fold_to", fold_to, {"validation": True, "testing": False})
    if validates and validation is not None:
        raise InputError(f"--validation={validation}: expected none together with --folds and --fold_to={fold_to}")

    def split(visits: Sequence[Visit], without: Sequence[Visit]) -> Assignment:
        people = _people(visits)
        others = set(_people(without)) - set(people)
        if isinstance(folds, str):
            path = expand_home(folds, f"--folds={folds}")
            fold_of, source = _published_folds(path, visits, without)
            others = {person for person in others if fold_of.get(person, fold) != fold}
        else:
            fold_of, source = _random_folds(folds, people, seed)
        known = sorted(set(fold_of.values()) | set(source.pop("known", [])))
        if isinstance(fold, bool) or fold not in known:
            given = "--fold: missing;" if fold is None else f"--fold={fold}:"
            raise InputError(f"{given} expected one of {', '.join(map(str, known))}, the folds of --folds={folds}")
        held = [person for person in people if fold_of.get(person) == fold]
        rest = [person for person in people if fold_of.get(person, fold) != fold]
        record = {"fold": fold, "of": len(known), "split": fold_to} | source
        if not held or len(rest) < BATCH:
            raise InputError(
                f"--fold={fold}: {len(held)} people in it and {len(rest)} in the others; expected 1 at least in it, "
                f"and {BATCH} in the others, for a batch"
            )
        if validates:
            return Assignment({"training": rest, "validation": held, "testing": []}, others, record)
        drawn = _draw(rest, 0.1 if validation is None else validation, None, seed)
        return Assignment(drawn | {"testing": held}, others, record)

    return split


def assign(
    visits: Sequence[Visit],
    split: Splitter,
    keep_unlabelled: bool,
    has_labels: bool = True,
    held_out: Collection[str] = (),
) -> tuple[dict[str, list[Visit]], dict[str, Any] | None]:
    """Split -> visits, and the record of the folds. People with labels are split first; the rest follow.

    With `keep_unlabelled`, visits without label go to the split `unlabelled`; otherwise they are trained on unless
    their person is held out. People in `held_out` are always for testing.
    """
    without = {visit for visit in visits if has_labels and visit.label is None}
    if len(without) == len(visits) and not keep_unlabelled:
        without = set()
    drawn = [visit for visit in visits if visit.person not in held_out]
    assigned = split([visit for visit in drawn if visit not in without], [visit for visit in drawn if visit in without])
    split_of = {person: name for name, members in assigned.people.items() for person in members}
    split_of |= dict.fromkeys(held_out, "testing")
    split_of |= dict.fromkeys(assigned.others, "training")
    splits: dict[str, list[Visit]] = {name: [] for name in assigned.people}
    for visit in visits:
        if visit not in without:
            name = split_of.get(visit.person, OUTSIDE)
        elif not keep_unlabelled and split_of.get(visit.person) == "training":
            name = "training"
        else:
            name = "unlabelled"
        splits.setdefault(name, []).append(visit)
    if without:
        untrained = "held out" if assigned.folds is None else "held out or in no fold"
        where = "the split unlabelled" if keep_unlabelled else f"training, but for those of people who are {untrained}"
        show(f"without label: {len(without)} subjects, such as {min(without).subject}; they are in {where}")
    return splits, assigned.folds


def hold_out(
    content: Mapping[str, Any], folds: str | int, fold: int, fold_to: str, validation: float | None, seed: int
) -> dict[str, Any]:
    """A new datalist that holds out one fold and records it under `folds`. Arguments as in `cross_validation`.

    Subjects without label are trained on unless a fold contains them. A fold for testing replaces the test subjects of
    the datalist.
    """
    if content.get("folds", {}).get("split") == "testing":
        number = content["folds"]["fold"]
        raise InputError(f"--datalist: its testing is fold {number} of others; expected the whole datalist")
    if "subset" in content:
        raise InputError("--datalist: it is a subset of its subjects for training; expected the whole datalist")
    split = cross_validation(folds, fold, fold_to, validation, seed)
    entries = {entry["subject"]: entry for name in DEALT for entry in content.get(name, [])}
    visits = [Visit(subject, person_of(subject), label=entry.get("label")) for subject, entry in entries.items()]
    splits, record = assign(visits, split, keep_unlabelled=False)
    made = {name: [entries[visit.subject] for visit in splits.get(name, [])] for name in SPLITS[:3]}
    if fold_to == "validation":
        made["testing"] = content.get("testing", [])
    elif out := content.get("testing", []):
        show(f"left out of all folds: {len(out)} subjects in testing, such as {out[0]['subject']}")
    if "unlabelled" in content:
        made["unlabelled"] = content["unlabelled"]
    kept = {key: value for key, value in content.items() if key not in (*SPLITS, "folds")}
    return kept | {"folds": record} | {name: made[name] for name in SPLITS if name in made}


def _people(visits: Iterable[Visit]) -> list[str]:
    return sorted({visit.person for visit in visits})


def _draw(
    people: Sequence[str], validation: float, testing: float | str | None, seed: int, least: int = 1
) -> dict[str, list[str]]:
    """Split -> sorted people; at least `least` for validation. `validation` does not affect the draw for testing.

    With `testing` None, the result has no split for testing.
    """
    test = 0 if testing is None else _count("testing", testing, len(people))
    held = _count("validation", validation, len(people))
    rest = test + held
    hint = "" if testing is None else f", or --testing={ALL} for a cohort that no stage trains on"
    if len(people) - rest < BATCH:
        given = f"--validation={validation}" + ("" if testing is None else f" --testing={testing}")
        left = max(0, len(people) - rest)
        raise InputError(
            f"{given}: splits leave {left} of {len(people)} people for training; need {BATCH} for a batch{hint}"
        )
    if held < least:
        raise InputError(
            f"--validation={validation}: {held} of {len(people)} people, who choose the checkpoint; expected {least} "
            f"at least{hint}"
        )
    drawn = [people[index] for index in np.random.default_rng(seed).permutation(len(people))]
    return {"training": sorted(drawn[rest:]), "validation": sorted(drawn[test:rest]), "testing": sorted(drawn[:test])}


def _count(option: str, value: Any, people: int) -> int:
    """The number of people that an option requests; a fraction above zero gives at least one."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if not (is_number and value >= 0) and not (isinstance(value, float) and 0 <= value < 1):
        words = f", or {ALL}" if option == "testing" else ""
        raise InputError(f"--{option}={value}: expected a number of people, or a fraction from 0 to below 1{words}")
    return int(value) if is_number else max(round(value * people), int(value > 0))


def _random_folds(number: Any, people: Sequence[str], seed: int) -> tuple[dict[str, int], dict[str, Any]]:
    """Person -> fold: people are shuffled by the seed and dealt into folds that differ by at most one in size."""
    check_number("folds", number, int, 2)
    if number > len(people):
        raise InputError(f"--folds={number}: expected no more than the {len(people)} people with labels")
    shuffled = [people[index] for index in np.random.default_rng(seed).permutation(len(people))]
    fold_of = {person: index % number for index, person in enumerate(shuffled)}
    return fold_of, {"source": f"dealt by chance, seed {seed}"}


def _published_folds(
    path: Path, visits: Sequence[Visit], without: Sequence[Visit]
) -> tuple[dict[str, int], dict[str, Any]]:
    """Person -> fold from a file of folds, with or without mask; prints people that only the file or the cohort has.

    One visit in the file puts all visits of the person into the fold.
    """
    fold_of_subject, digest = read_folds(path)
    fold_of: dict[str, int] = {}
    for visit in [*visits, *without]:
        fold = fold_of_subject.get(visit.subject)
        if fold is not None and fold_of.setdefault(visit.person, fold) != fold:
            raise InputError(f"--folds={path}: {visit.person} is in fold {fold_of[visit.person]} and in {fold}")
    if not any(visit.person in fold_of for visit in visits):
        example = next(iter(fold_of_subject))
        raise InputError(f"--folds={path}: it names none of the {len(visits)} subjects with labels, but {example}")
    _report("left out, as their people are in no fold", {v.subject for v in visits if v.person not in fold_of})
    found = {visit.subject for visit in [*visits, *without]}
    _report("in a fold, but no complete subject of the root", fold_of_subject.keys() - found)
    return fold_of, {"source": path.name, "sha256": digest, "known": set(fold_of_subject.values())}


def _report(what: str, subjects: Collection[str]) -> None:
    if subjects:
        show(f"{what}: {len(subjects)} subjects, such as {min(subjects)}")


def read_folds(path: Path) -> tuple[dict[str, int], str]:
    """Subject -> fold from a JSON file in the format of SwinUNETR's brats21_folds.json, and the file's SHA-256.

        {"training": [{"fold": 0, "image": ["TrainingData/BraTS2021_01146/BraTS2021_01146_flair.nii.gz", ...]}, ...]}

    Only the folder of the first image matters; it names the subject.
    """
    content = valid_json(path, "a file of folds, or a number of folds", FOLDS_SCHEMA, f"--folds={path}")
    folds: dict[str, int] = {}
    for entry in content["training"]:
        image = entry["image"] if isinstance(entry["image"], str) else entry["image"][0]
        subject = PurePosixPath(image).parent.name
        if not subject:
            raise InputError(f"--folds={path}: image {image} is in no folder; expected a folder named as the subject")
        if folds.setdefault(subject, entry["fold"]) != entry["fold"]:
            raise InputError(f"--folds={path}: {subject} is in fold {folds[subject]} and in {entry['fold']}")
    return folds, digest(path)


def numbers_of(folds: str | int) -> list[int]:
    """The fold numbers of a file, or 0 to the number of folds minus 1 (at least 2 folds)."""
    if isinstance(folds, str):
        found, _ = read_folds(expand_home(Path(folds), f"--folds={folds}"))
        return sorted(set(found.values()))
    check_number("folds", folds, int, 2)
    return list(range(folds))
