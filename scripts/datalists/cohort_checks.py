"""Compare the subjects of a cohort to find outliers and duplicates, for `python -m scripts.datalists check`."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common.data.datalists import person_in
from common.data.modalities import first_image
from common.data.preparation import differences, usual
from common.data.regions import regions_of
from common.data.scan_checks import CHECKS, Problem
from scripts.datalists.examine import Record

HELD_OUT_FIRST = ("testing", "validation", "training", "unlabelled")
SUBJECT, VOXELS, PERSON = "the same subject", "the same voxels", "the same person"


def compare(
    cases: Sequence[Mapping[str, Any]], records: Sequence[Record], convention: str | None = None
) -> list[tuple[int, Problem]]:
    """Find outliers, duplicates and absent regions; return case index (-1: the whole cohort) and problem.

    `records` follow the order of `cases`. Preparation is compared with the middle half of the cohort.
    """
    return [
        *_odd_orientations(cases, records),
        *_odd_preparation(cases, records),
        *_negatives(records),
        *_repeated(cases, records),
        *([] if convention is None else _absent_regions(records, convention)),
    ]


def _odd_orientations(cases: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> Iterator[tuple[int, Problem]]:
    orientations = Counter(record.orientation for record in records if record.orientation)
    for place, (case, record) in enumerate(zip(cases, records, strict=True)):
        usual_one, count = orientations.most_common(1)[0] if orientations else ("", 0)
        if record.orientation and record.orientation != usual_one:
            expected = f"{usual_one}, as {count} of {orientations.total()} subjects"
            yield place, Problem("orientation", first_image(case), record.orientation, expected)


def _odd_preparation(cases: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> Iterator[tuple[int, Problem]]:
    measured = [record.preparation for record in records if record.preparation is not None]
    ranges = usual(measured) if measured else None
    for place, (case, record) in enumerate(zip(cases, records, strict=True)):
        if record.preparation is not None:
            found = differences(record.preparation, ranges, file=first_image(case))
            yield from ((place, problem) for problem in found.values())


def _negatives(records: Sequence[Record]) -> Iterator[tuple[int, Problem]]:
    """Images with negative voxels: one problem each, or one for the cohort if most images have them."""
    found = [(place, file) for place, record in enumerate(records) for file in record.negative]
    total = sum(record.sound for record in records)
    expected = "no negative voxels, as only voxels above 0 are foreground"
    if 2 * len(found) > total:
        yield -1, Problem("negative", "", f"{len(found)} of {total} images have voxels below 0", expected)
    else:
        for place, file in found:
            yield place, Problem("negative", file, "voxels below 0", expected)


def _absent_regions(records: Sequence[Record], convention: str) -> Iterator[tuple[int, Problem]]:
    found = [record.labels for record in records if record.labels is not None]
    for name, values in regions_of(convention).items():
        if found and not any(values & labels for labels in found):
            numbers = "+".join(map(str, sorted(values)))
            value = f"no voxel of {name} ({numbers}) in {len(found)} label maps"
            yield -1, Problem("absent_region", "", value, "regions that some subject has")


def _repeated(cases: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> Iterator[tuple[int, Problem]]:
    """Subjects, people and images that occur twice; each problem is reported for the copy and names the case to keep.

    That is the case without errors, then in the most strictly held-out split, then the first. Visits of a person may
    share a split or be unlabelled.
    """

    def rank(place: int) -> tuple[bool, int, int]:
        broken = any(CHECKS[problem.check] == "error" for problem in records[place].problems)
        return broken, HELD_OUT_FIRST.index(cases[place]["split"]), place

    pairs: dict[tuple[int, int], tuple[str, str]] = {}
    for what, groups in _likenesses(cases, records).items():  # strongest first: only the first is reported
        for members in groups.values():
            kept, *others = sorted(members, key=rank)
            for place in others:
                if what != PERSON or cases[place]["split"] != cases[kept]["split"]:
                    pairs.setdefault((place, kept), (what, members[place]))
    for (place, kept), (what, file) in sorted(pairs.items()):
        subject, split = cases[kept]["subject"], cases[kept]["split"]
        check = "duplicate" if cases[place]["split"] == split else "leakage"
        value = f"{what} as {subject} in {split}"
        expected = "each person in one split" if what == PERSON else "each subject and image once"
        yield place, Problem(check, file, value, expected)


def _likenesses(cases: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> dict[str, dict[Any, dict[int, str]]]:
    """Kind of duplicate -> name or digest -> indices of the cases that share it, with the file to report."""
    alike: dict[str, dict[Any, dict[int, str]]] = {what: defaultdict(dict) for what in (SUBJECT, VOXELS, PERSON)}
    for place, (case, record) in enumerate(zip(cases, records, strict=True)):
        alike[SUBJECT][case["subject"]][place] = first_image(case)
        if case["split"] != "unlabelled":
            alike[PERSON][person_in(case)][place] = first_image(case)
        for file, digest in record.digests.items():
            alike[VOXELS][digest].setdefault(place, file)
    return alike
