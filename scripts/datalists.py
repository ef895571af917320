"""Datalists of cohorts in their own folder layouts: `python -m scripts.datalists ukb|brats|atlas|subset|check`."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common import datalists
from common.preflight import InputError, check_number, chosen, flag
from scripts import cohorts
from scripts import consort as chart
from scripts.cli import run
from scripts.cohorts import Layout, Visit
from scripts.datalist_check import check

__all__ = ["atlas", "brats", "check", "subset", "ukb"]

OUTSIDE = "in no fold"  # where a flow chart counts who is in the root and not in the file of folds


class Drawn(NamedTuple):
    """Who is where.

    Attributes:
        people: split -> those who have a mask, or all where nobody has.
        others: those without any mask whom `--unlabelled=training` may train on.
        folds: what the datalist records of a cross-validation.
    """

    people: dict[str, list[str]]
    others: set[str]
    folds: dict[str, Any] | None


Draw = Callable[[Sequence[Visit], Sequence[Visit]], Drawn]  # of the visits to divide, and of those without mask


def ukb(
    root: str,
    output: str,
    validation: float = 0.1,
    testing: float = 0,
    seed: int = 0,
    min_slices: int = 0,
    visits: str = "all",
    consort: str | None = None,
    workers: int = 0,
) -> None:
    """Write the datalist of a UK Biobank folder: T1 and T2-FLAIR, brain only, in MNI space.

    A subject is a person's visit, such as 1000012_2_0; all visits of a person are in the same split. The paper's
    selection is `--min_slices=100 --visits=first`: 44,172 participants, of whom 43,369 have both images, of whom 41,400
    have 100 slices in each.

    Args:
        root: folder with EID_20252_2_0/T1/T1_brain_to_MNI.nii.gz and
            EID_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz; instances 2_0, 3_0 and later.
        output: the datalist, a JSON file; replaced where it exists.
        validation: so many people, or such a fraction of them, are for validation.
        testing: so many people, or such a fraction of them, are for testing.
        seed: of the random choice, 0 or more.
        min_slices: leave out visits of which an image has fewer axial slices with a voxel above zero (every volume in
            MNI space has 182, so empty ones do not count). 100 in the paper. That reads every voxel, which is an hour
            of one core for 41,400 people; 0 opens no image.
        visits: all of a person, or only the first one that is complete.
        consort: count participants at each step into this JSON file, and draw it as a flow chart beside (.svg).
        workers: processes that count slices; 0 for one per core.
    """
    check_number("min_slices", min_slices, int, 0)
    check_number("workers", workers, int, 0, 1024)
    only_first = chosen("visits", visits, {"all": False, "first": True})
    draw = _chance(validation, testing, seed)
    _make("ukb", root, output, draw, consort, min_slices=min_slices, only_first=only_first, workers=workers)


def brats(
    root: str,
    output: str,
    validation: float | None = None,
    testing: float | None = None,
    seed: int = 0,
    folds: str | int | None = None,
    fold: int | None = None,
    fold_to: str | None = None,
    unlabelled: str = "apart",
    consort: str | None = None,
) -> None:
    """Write the datalist of a BraTS folder: FLAIR, T1ce, T1, T2 and the labels.

    BraTS 2021 (labels 1, 2, 4) and BraTS 2023 and 2024 (1, 2, 3) are told apart by the folders' names; one root holds
    one of them. All timepoints of a person are in the same split. The paper's cross-validation is
    `--folds=brats21_folds.json --fold=0` and so on to 4.

    Args:
        root: folder with BraTS2021_00000/BraTS2021_00000_flair.nii.gz, and so on, or with
            BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2f.nii.gz, and so on.
        output: the datalist, a JSON file; replaced where it exists.
        validation: so many people, or such a fraction of them, are for validation; 0.1 by default.
        testing: so many people, or such a fraction of them, are for testing; 0 by default.
        seed: of the random choice, 0 or more.
        folds: the JSON file of folds that SwinUNETR publishes (brats21_folds.json), whose subjects are known by their
            folders' names; or a number, and people are shuffled by the seed and dealt into so many folds of one size.
        fold: the one that is held out, from 0.
        fold_to: the split that it goes to. In the paper, and by default, that is `validation`, where the fold chooses
            the checkpoint and gives the score too, and all others are trained on. In `testing` it gives the score only,
            and `--validation` is drawn from the others.
        unlabelled: what becomes of subjects without `seg`. By default they are kept `apart`, in the split `unlabelled`,
            which no training reads and `--split=unlabelled` of inference predicts. With `training` they are trained
            on, unless the person is held out; that suits self-supervised stages, and a supervised one refuses it.
        consort: count participants at each step into this JSON file, and draw it as a flow chart beside (.svg).
    """
    apart = _apart(unlabelled)
    if folds is None:
        for option, given in {"fold": fold, "fold_to": fold_to}.items():
            if given is not None:
                raise InputError(f"--{option}={given}: expected --folds too, a file or how many there are")
        draw = _chance(0.1 if validation is None else validation, testing or 0, seed)
    else:
        fold_to = "validation" if fold_to is None else fold_to
        validating = chosen("fold_to", fold_to, {"validation": True, "testing": False})
        for option, value in {"validation": validation if validating else None, "testing": testing}.items():
            if value is not None:
                raise InputError(f"--{option}={value}: expected none together with --folds and --fold_to={fold_to}")
        draw = _cross_validation(folds, fold, fold_to, 0.1 if validation is None else validation, seed)
    taken = {"folds": _place("folds", folds)} if isinstance(folds, str) else {}
    _make("brats", root, output, draw, consort, taken, apart=apart)


def atlas(
    root: str,
    output: str,
    validation: float = 0.1,
    testing: float = 0,
    seed: int = 0,
    unlabelled: str = "apart",
    consort: str | None = None,
) -> None:
    """Write the datalist of an ATLAS v2.0 folder: T1 and the label 1.

    The folder may hold the subjects, the sites (R001, ...) or the whole release (Training, Testing); one root holds one
    of them. All sessions of a person are in the same split. The paper holds out 100 images: `--testing=100` scores them
    only, `--validation=100` lets them choose the checkpoint too.

    Args:
        root: folder with sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz, and so on, or
            with R001/sub-r001s001, or with Training/R001/sub-r001s001 and Testing.
        output: the datalist, a JSON file; replaced where it exists.
        validation: so many people, or such a fraction of them, are for validation.
        testing: so many people, or such a fraction of them, are for testing.
        seed: of the random choice, 0 or more.
        unlabelled: what becomes of subjects without mask, as in the release's Testing. By default they are kept
            `apart`, in the split `unlabelled`, which no training reads and `--split=unlabelled` of inference predicts.
            With `training` they are trained on, unless the person is held out; that suits self-supervised stages, and
            a supervised one refuses it.
        consort: count participants at each step into this JSON file, and draw it as a flow chart beside (.svg).
    """
    _make("atlas", root, output, _chance(validation, testing, seed), consort, apart=_apart(unlabelled))


def subset(
    datalist: str,
    output: str,
    fraction: float | None = None,
    seed: int = 0,
    nested: bool = False,
    modalities: str | Sequence[str] | None = None,
) -> None:
    """Write a datalist with a part of the training subjects, or with some of the modalities, of another.

    Validation, testing and unlabelled subjects stay as they are. The paper's learning curves are the fractions 0.05,
    0.1, 0.2 and 0.4, with five seeds each. The choice depends on fraction, seed and the subjects' names only; the
    output records it.

    Args:
        datalist: JSON file to take from.
        output: the new datalist, a JSON file; replaced where it exists.
        fraction: of the training subjects, above 0 up to 1; one subject at least. All by default.
        seed: of the choice, 0 or more.
        nested: whether a smaller fraction is contained in a larger one of the same seed. By default each fraction is a
            choice of its own.
        modalities: those to keep, such as T1,T2, in that order. All by default. One modality in two channels, as in the
            paper's Table 5, needs no other datalist but the bundles' option --modalities "['T1','T1']".
    """
    source, place = _place("datalist", datalist), _place("output", output)
    content = datalists.read(source)
    _check_places([("output", place)], {"datalist": source})
    if fraction is None and modalities is None:
        raise InputError(f"--datalist={datalist}: nothing to do; expected --fraction, --modalities or both")
    if modalities is not None:
        names = modalities.split(",") if isinstance(modalities, str) else modalities
        if not isinstance(names, list | tuple):
            raise InputError(f"--modalities={modalities}: expected names, such as {','.join(content['modalities'])}")
        content = datalists.restrict(content, [str(name) for name in names])
    if fraction is not None:
        content = datalists.subset(content, fraction, seed, flag("nested", nested))
    datalists.write(content, place)
    print(f"{output}: {_sizes(content)}; {', '.join(content['modalities'])}")


def _apart(unlabelled: str) -> bool:
    apart: bool = chosen("unlabelled", unlabelled, {"apart": True, "training": False})
    return apart


def _make(
    cohort: str,
    root: str,
    output: str,
    draw: Draw,
    consort: str | None,
    taken: Mapping[str, Path] | None = None,
    *,
    min_slices: int = 0,
    only_first: bool = False,
    apart: bool = True,
    workers: int = 0,
) -> None:
    """Scan, select, draw, write; everything that a command line does but for its options."""
    place = _place("output", output)
    written = [("output", place)]
    if consort is not None:
        flow = _place("consort", consort)
        if flow.suffix != ".json":
            raise InputError(f"--consort={consort}: expected a file that ends in .json")
        written += [("consort", flow), ("consort", flow.with_suffix(".svg"))]
    _check_places(written, taken or {})
    folder = _place("root", root)
    layout = cohorts.detect(cohort, folder)
    visits, steps = _select(layout, cohorts.find(layout, folder), folder, min_slices, workers)
    if not visits:
        raise InputError(f"--root={root}: no complete subject of {layout.title}; expected {', '.join(layout.images)}")
    if only_first:
        first = {visit.person: visit for visit in reversed(visits)}
        later = {visit.subject: "a later visit" for visit in visits if first[visit.person] is not visit}
        visits, firsts = chart.step("visits", "the first of these visits of each", visits, later)
        steps.append(firsts)
    splits, folds = _divide(layout, visits, draw, apart)
    labelled = any(visit.label for visit in visits)
    head: dict[str, Any] = {
        "name": cohort,
        "modalities": list(layout.images),
        "label_convention": layout.convention if labelled else None,
        "preparation": layout.preparation,
    }
    if folds is not None:
        head["folds"] = folds
    entries = {split: [_entry(visit) for visit in members] for split, members in splits.items()}
    content = head | {split: entries[split] for split in datalists.SPLITS if split in entries}
    datalists.write(content, place)
    print(f"{output}: {_sizes(content)}")
    if consort is not None:
        counted = chart.count_splits(splits)
        chart.write({"name": cohort, "layout": layout.title, "steps": steps, "splits": counted}, flow)
        chart.draw(str(flow), str(flow.with_suffix(".svg")))


def _select(
    layout: Layout, found: Sequence[Visit], root: Path, min_slices: int, workers: int
) -> tuple[list[Visit], list[dict[str, Any]]]:
    """The visits that have all images, with enough slices where that is asked for, and the flow's steps."""
    visits, start = chart.step("participants", "participants with a scan", found, {})
    lacking = {visit.subject: _and(visit.missing) for visit in visits if visit.missing}
    for subject, modalities in lacking.items():
        print(f"left out: {subject} lacks {modalities}")
    reasons = {subject: f"without {modalities}" for subject, modalities in lacking.items()}
    visits, complete = chart.step("modalities", f"with {_and(list(layout.images))}", visits, reasons)
    if min_slices == 0:
        return visits, [start, complete]
    short: dict[str, str] = {}
    for visit, slices in zip(visits, cohorts.count_slices(visits, root, workers), strict=True):
        counts = dict(zip(layout.images, slices, strict=True))
        if unreadable := [modality for modality, count in counts.items() if count is None]:
            short[visit.subject] = f"{_and(unreadable)} cannot be read"
            print(f"left out: {visit.subject}: {short[visit.subject]}")
        elif few := [modality for modality, count in counts.items() if (count or 0) < min_slices]:
            short[visit.subject] = f"fewer than {min_slices} slices in {_and(few)}"
            numbers = ", ".join(f"{counts[modality]} in {modality}" for modality in few)
            print(f"left out: {visit.subject} has {numbers}; expected {min_slices} slices with signal")
    visits, enough = chart.step("slices", f"with {min_slices} slices or more in each", visits, short)
    return visits, [start, complete, enough | {"min_slices": min_slices}]


def _divide(
    layout: Layout, visits: Sequence[Visit], draw: Draw, apart: bool
) -> tuple[dict[str, list[Visit]], dict[str, Any] | None]:
    """Split -> visits, and what to record of the folds. Labelled people are drawn; the others follow."""
    without = {visit for visit in visits if layout.label is not None and visit.label is None}
    if len(without) == len(visits) and not apart:
        without = set()
    drawn = draw([visit for visit in visits if visit not in without], sorted(without))
    split_of = {person: split for split, members in drawn.people.items() for person in members}
    split_of |= dict.fromkeys(drawn.others, "training")
    splits: dict[str, list[Visit]] = {split: [] for split in drawn.people}
    for visit in visits:
        if visit not in without:
            split = split_of.get(visit.person, OUTSIDE)
        elif not apart and split_of.get(visit.person) == "training":
            split = "training"
        else:
            split = "unlabelled"
        splits.setdefault(split, []).append(visit)
    if without:
        untrained = "held out" if drawn.folds is None else "held out or in no fold"
        where = "the split unlabelled" if apart else f"training, but for those of people who are {untrained}"
        print(f"without label: {len(without)} subjects, such as {min(without).subject}; they are in {where}")
    return splits, drawn.folds


def _entry(visit: Visit) -> dict[str, Any]:
    entry: dict[str, Any] = {"subject": visit.subject, "image": list(visit.image)}
    return entry if visit.label is None else entry | {"label": visit.label}


def _chance(validation: float, testing: float, seed: int) -> Draw:
    """Draw the splits by chance."""
    check_number("seed", seed, int, 0)

    def draw(visits: Sequence[Visit], without: Sequence[Visit]) -> Drawn:
        people = _people(visits)
        if not people:
            return Drawn({"training": [], "validation": [], "testing": []}, set(), None)
        return Drawn(_split(people, validation, testing, seed), set(_people(without)) - set(people), None)

    return draw


def _cross_validation(folds: str | int, fold: int | None, fold_to: str, validation: float, seed: int) -> Draw:
    """Hold out one fold, of a file or of folds that are dealt by chance."""
    check_number("seed", seed, int, 0)

    def draw(visits: Sequence[Visit], without: Sequence[Visit]) -> Drawn:
        people = _people(visits)
        others = set(_people(without)) - set(people)
        if isinstance(folds, str):
            fold_of, source = _published(_place("folds", folds), visits, without)
            others = {person for person in others if fold_of.get(person, fold) != fold}
        else:
            fold_of, source = _dealt(folds, people, seed)
        known = sorted(set(fold_of.values()) | set(source.pop("known", [])))
        if isinstance(fold, bool) or fold not in known:
            given = "--fold: missing;" if fold is None else f"--fold={fold}:"
            raise InputError(f"{given} expected one of {', '.join(map(str, known))}, the folds of --folds={folds}")
        held = [person for person in people if fold_of.get(person) == fold]
        rest = [person for person in people if fold_of.get(person, fold) != fold]
        record = {"fold": fold, "of": len(known), "split": fold_to} | source
        if not held or not rest:
            raise InputError(
                f"--fold={fold}: {len(held)} people in it and {len(rest)} in the others; expected some in each"
            )
        if fold_to == "validation":
            return Drawn({"training": rest, "validation": held, "testing": []}, others, record)
        return Drawn(_split(rest, validation, 0, seed) | {"testing": held}, others, record)

    return draw


def _dealt(number: Any, people: Sequence[str], seed: int) -> tuple[dict[str, int], dict[str, Any]]:
    """Person -> fold, for people shuffled by the seed and dealt into folds of equal size, one apart at most."""
    check_number("folds", number, int, 2)
    if number > len(people):
        raise InputError(f"--folds={number}: expected no more than the {len(people)} people with labels")
    shuffled = [people[index] for index in np.random.default_rng(seed).permutation(len(people))]
    fold_of = {person: index % number for index, person in enumerate(shuffled)}
    return fold_of, {"source": f"dealt by chance, seed {seed}"}


def _published(path: Path, visits: Sequence[Visit], without: Sequence[Visit]) -> tuple[dict[str, int], dict[str, Any]]:
    """Person -> fold, with or without a mask, from a file that names each subject's images; says who is not in both.

    One visit that the file names puts its person, with all visits, into the fold.
    """
    fold_of_subject, digest = cohorts.read_folds(path)
    fold_of: dict[str, int] = {}
    for visit in [*visits, *without]:
        fold = fold_of_subject.get(visit.subject)
        if fold is not None and fold_of.setdefault(visit.person, fold) != fold:
            raise InputError(f"--folds={path}: {visit.person} is in fold {fold_of[visit.person]} and in {fold}")
    if not any(visit.person in fold_of for visit in visits):
        example = next(iter(fold_of_subject))
        raise InputError(f"--folds={path}: it names none of the {len(visits)} subjects with labels, but {example}")
    _tell(
        "left out, as their people are in no fold", {visit.subject for visit in visits if visit.person not in fold_of}
    )
    found = {visit.subject for visit in [*visits, *without]}
    _tell("in a fold, but no complete subject of the root", fold_of_subject.keys() - found)
    return fold_of, {"source": path.name, "sha256": digest, "known": set(fold_of_subject.values())}


def _tell(what: str, subjects: Collection[str]) -> None:
    if subjects:
        print(f"{what}: {len(subjects)} subjects, such as {min(subjects)}")


def _people(visits: Iterable[Visit]) -> list[str]:
    return sorted({visit.person for visit in visits})


def _split(people: Sequence[str], validation: float, testing: float, seed: int) -> dict[str, list[str]]:
    """Split -> people, sorted; a change of `validation` leaves the people for testing as they are."""
    test = _count("testing", testing, len(people))
    rest = test + _count("validation", validation, len(people))
    if rest >= len(people):
        taken = f"--validation={validation} --testing={testing}"
        raise InputError(f"{taken}: nobody is left for training; expected fewer than the {len(people)} people")
    drawn = [people[index] for index in np.random.default_rng(seed).permutation(len(people))]
    return {"training": sorted(drawn[rest:]), "validation": sorted(drawn[test:rest]), "testing": sorted(drawn[:test])}


def _count(option: str, value: float, people: int) -> int:
    """How many people an option asks for; a fraction above zero asks for one at least."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole and value >= 0) and not (isinstance(value, float) and 0 <= value < 1):
        raise InputError(f"--{option}={value}: expected a number of people, or a fraction from 0 to below 1")
    return int(value) if whole else max(round(value * people), int(value > 0))


def _sizes(content: dict[str, Any]) -> str:
    return ", ".join(f"{len(content[split])} {split}" for split in datalists.SPLITS if split in content)


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _place(option: str, value: str) -> Path:
    """A path as it was given, `~` being the home folder."""
    try:
        return Path(str(value)).expanduser()
    except RuntimeError as error:
        raise InputError(f"--{option}={value}: {error}; expected a path") from error


def _check_places(written: Sequence[tuple[str, Path]], taken: Mapping[str, Path]) -> None:
    """Refuse, before an hour of counting, a file that cannot be written after it, or that would replace another one.

    Args:
        written: options, and the files that the command writes for them.
        taken: option -> file that the command reads.
    """
    known = {_resolved(option, path): option for option, path in taken.items()}
    for option, path in written:
        above = next((folder for folder in path.absolute().parents if folder.exists()), path)
        if path.is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
            raise InputError(f"--{option}={path}: expected a file that can be written")
        other = known.setdefault(_resolved(option, path), option)
        if other != option:
            raise InputError(f"--{option}={path}: expected another file than --{other}")


def _resolved(option: str, path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise InputError(f"--{option}={path}: {error}; expected a file") from error


if __name__ == "__main__":
    run({"ukb": ukb, "brats": brats, "atlas": atlas, "subset": subset, "check": check}, "datalists")
