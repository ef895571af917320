"""Compare the subjects of a cohort to find outliers and duplicates, for `python -m scripts.datalists check`."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common.data.datalists import person_in
from common.data.modalities import first_image
from common.data.preparation import differences, quartiles
from common.data.regions import regions_of
from common.data.scan_checks import Problem
from scripts.datalists.examine import CHECKS, Record

HELD_OUT_FIRST = ("testing", "validation", "training", "unlabelled")
SUBJECT, VOXELS, PERSON = "the same subject", "the same voxels", "the same person"


def compare(
    cases: Sequence[Mapping[str, Any]], records: Sequence[Record], convention: str | None = None
) -> list[tuple[int, Problem]]:
    """Return outliers, duplicates and absent regions as (case index, problem); index -1 is the whole cohort.

    `records` follow the order of `cases`. Each scan's preparation is compared with the quartiles of the cohort.
    """
    return [
        *_odd_orientations(cases, records),
        *_odd_preparation(cases, records),
        *_repeated(cases, records),
        *([] if convention is None else _absent_regions(records, convention)),
    ]


def _odd_orientations(cases: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> Iterator[tuple[int, Problem]]:
    orientations = Counter(record.orientation for record in records if record.orientation)
    majority, count = orientations.most_common(1)[0] if orientations else ("", 0)
    for index, (case, record) in enumerate(zip(cases, records, strict=True)):
        if record.orientation and record.orientation != majority:
            expected = f"{majority}, as {count} of {orientations.total()} subjects"
            yield index, Problem("orientation", first_image(case), record.orientation, expected)


def _odd_preparation(cases: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> Iterator[tuple[int, Problem]]:
    measured = [record.preparation for record in records if record.preparation is not None]
    ranges = quartiles(measured) if measured else None
    for index, (case, record) in enumerate(zip(cases, records, strict=True)):
        if record.preparation is not None:
            deviations = differences(record.preparation, ranges, file=first_image(case))
            yield from ((index, problem) for problem in deviations.values())


def _absent_regions(records: Sequence[Record], convention: str) -> Iterator[tuple[int, Problem]]:
    label_sets = [record.labels for record in records if record.labels is not None]
    for name, values in regions_of(convention).items():
        if label_sets and not any(values & labels for labels in label_sets):
            numbers = "+".join(map(str, sorted(values)))
            value = f"no voxel of {name} ({numbers}) in any label map ({len(label_sets)} read)"
            yield -1, Problem("absent_region", "", value, "each region in some label map")


def _repeated(cases: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> Iterator[tuple[int, Problem]]:
    """Yield a problem for each repeated subject, person or image; its value names the case to keep.

    Cases without errors are preferred, then cases in the most strictly held-out split, then the first in the datalist.
    Visits of a person may share a split or be unlabelled.
    """

    def rank(index: int) -> tuple[bool, int, int]:
        broken = any(CHECKS[problem.check] == "error" for problem in records[index].problems)
        return broken, HELD_OUT_FIRST.index(cases[index]["split"]), index

    pairs: dict[tuple[int, int], tuple[str, str]] = {}
    for kind, groups in _duplicates(cases, records).items():  # strongest kind first: only the first is reported
        for members in groups.values():
            original, *copies = sorted(members, key=rank)
            for index in copies:
                if kind != PERSON or cases[index]["split"] != cases[original]["split"]:
                    pairs.setdefault((index, original), (kind, members[index]))
    for (index, original), (kind, file) in sorted(pairs.items()):
        subject, split = cases[original]["subject"], cases[original]["split"]
        check = "duplicate" if cases[index]["split"] == split else "leakage"
        value = f"{kind} as {subject} in {split}"
        expected = "each person in one split" if kind == PERSON else "each subject and image once"
        yield index, Problem(check, file, value, expected)


def _duplicates(cases: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> dict[str, dict[Any, dict[int, str]]]:
    """Return cases grouped by kind of duplicate and by subject, person or digest; a group maps case index to file.

    Groups of a single case are included.
    """
    groups: dict[str, dict[Any, dict[int, str]]] = {kind: defaultdict(dict) for kind in (SUBJECT, VOXELS, PERSON)}
    for index, (case, record) in enumerate(zip(cases, records, strict=True)):
        groups[SUBJECT][case["subject"]][index] = first_image(case)
        if case["split"] != "unlabelled":
            groups[PERSON][person_in(case)][index] = first_image(case)
        for file, digest in record.digests.items():
            groups[VOXELS][digest].setdefault(index, file)
    return groups
