"""Hold out one fold of a datalist, for cross-validation on any data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.data.datalists import SPLITS
from common.data.layouts.found import person_of
from common.errors import InputError, check_number, show
from common.files import expand_home
from scripts.datalists.scan import Visit
from scripts.datalists.splits import cross_validation, read_folds

__all__ = ["hold_out", "numbers_of"]

DEALT = ("training", "validation")  # splits whose subjects the folds share out


def hold_out(
    content: Mapping[str, Any], folds: str | int, fold: int, fold_to: str, validation: float | None, seed: int
) -> dict[str, Any]:
    """A datalist with one fold of another held out. Subjects without label are trained on unless a fold has them.

    Args:
        content: of a datalist.
        folds: a number of folds, or a file of folds; see `scripts.datalists.splits.cross_validation`, also for the
            other arguments.
        fold: the one that is held out.
        fold_to: its split, validation or testing; in testing, it replaces the subjects that are there.
        validation: number or fraction of the other people for validation, if the fold is for testing.
        seed: of all draws.

    Returns:
        A new datalist, whose `folds` says how it was made.

    Raises:
        InputError: an argument is out of range, the datalist holds out a fold for testing already, or it is a subset.
    """
    if content.get("folds", {}).get("split") == "testing":
        number = content["folds"]["fold"]
        raise InputError(f"--datalist: its testing is fold {number} of others; expected the whole datalist")
    if "subset" in content:
        raise InputError("--datalist: it is a subset of its subjects for training; expected the whole datalist")
    split = cross_validation(folds, fold, fold_to, validation, seed)
    entries = [entry for name in DEALT for entry in content.get(name, [])]
    visits = [Visit(e["subject"], person_of(e["subject"]), (), e.get("label"), ()) for e in entries]
    labelled = [visit for visit in visits if visit.label is not None] or visits
    without = set(visits) - set(labelled)
    assigned = split(labelled, sorted(without))
    split_of = {person: name for name, people in assigned.people.items() for person in people}
    trained_on = {*assigned.people["training"], *assigned.others}
    made: dict[str, list[Any]] = {name: [] for name in assigned.people}
    for visit, entry in zip(visits, entries, strict=True):
        if visit not in without and visit.person in split_of:
            made[split_of[visit.person]].append(entry)
        elif visit in without and visit.person in trained_on:
            made["training"].append(entry)
    if fold_to == "validation":
        made["testing"] = content.get("testing", [])
    elif out := content.get("testing", []):
        show(f"left out of all folds: {len(out)} subjects in testing, such as {out[0]['subject']}")
    if "unlabelled" in content:
        made["unlabelled"] = content["unlabelled"]
    kept = {key: value for key, value in content.items() if key not in (*SPLITS, "folds")}
    return kept | {"folds": assigned.folds} | {name: made[name] for name in SPLITS if name in made}


def numbers_of(folds: str | int) -> list[int]:
    """The numbers of the folds: of a file, or 0 to the number of folds.

    Raises:
        InputError: the file cannot be read, or the number is less than 2.
    """
    if isinstance(folds, str):
        found, _ = read_folds(expand_home(Path(folds), f"--folds={folds}"))
        return sorted(set(found.values()))
    check_number("folds", folds, int, 2)
    return list(range(folds))
