"""Compare the subjects of a cohort to find outliers and duplicates, for `python -m scripts.datalists check`."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import exp, log
from typing import Any

import numpy as np

from common.data.layouts.found import person_of
from common.data.modalities import first_image
from common.data.preparation import BRAIN, differences, usual
from common.data.scan_checks import CHECKS, Problem
from scripts.datalists.examine import Image, Record, in_mm

HELD_OUT_FIRST = ("testing", "validation", "training", "unlabelled")
SUBJECT, VOXELS, PERSON, MASK = "the same subject", "the same voxels", "the same person", "the same mask"
FEWEST = 8  # images needed to look for outliers
OUTLIER = 5.0  # an outlier is this many robust standard deviations of log intensity ...
FACTOR = 3.0  # ... and at least this factor from the median


def compare(
    cases: Sequence[Mapping[str, Any]],
    records: Sequence[Record],
    modalities: Sequence[str],
    expected: Mapping[str, Sequence[Any]] | None = None,
    is_resampled: bool = False,
) -> list[tuple[int, Problem]]:
    """Find outliers and duplicates; return case index (-1: the whole cohort) and problem.

    `records` follow the order of `cases`. Preparation is compared with `expected`, the ranges of a network's training
    data, or with the middle half of the cohort; `is_resampled` ignores spacing.
    """
    return [
        *_odd_orientations(cases, records),
        *_odd_preparation(cases, records, expected, is_resampled),
        *_odd_intensities(cases, records, modalities),
        *_negatives(cases, records),
        *_repeated(cases, records),
    ]


def describe(records: Sequence[Record]) -> dict[str, str]:
    """Facts about a cohort: orientation, spacing, and number of skull-stripped images."""
    orientations = Counter(record.orientation for record in records if record.orientation)
    spacings = Counter(in_mm(record.spacing) for record in records if record.spacing)
    volumes = [record.preparation["volume"][1] for record in records if record.preparation is not None]
    extracted = sum(volume <= BRAIN for volume in volumes)
    return {
        "orientation": _counted(orientations),
        "spacing": _counted(spacings),
        "brain extracted": f"{extracted} of {len(volumes)} subjects" if volumes else "no readable image",
    }


def _counted(values: Counter[str]) -> str:
    if len(values) < 2:
        return next(iter(values), "unknown")
    value, count = values.most_common(1)[0]
    return f"{value} in {count} of {values.total()} subjects"


def _odd_orientations(cases: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> Iterator[tuple[int, Problem]]:
    orientations = Counter(record.orientation for record in records if record.orientation)
    for place, (case, record) in enumerate(zip(cases, records, strict=True)):
        usual_one, count = orientations.most_common(1)[0] if orientations else ("", 0)
        if record.orientation and record.orientation != usual_one:
            expected = f"{usual_one}, as {count} of {orientations.total()} subjects"
            yield place, Problem("orientation", first_image(case), record.orientation, expected)


def _odd_preparation(
    cases: Sequence[Mapping[str, Any]],
    records: Sequence[Record],
    expected: Mapping[str, Sequence[Any]] | None,
    is_resampled: bool,
) -> Iterator[tuple[int, Problem]]:
    """Scans that a network would refuse, or that differ from most of the cohort in the same figures."""
    measured = [record.preparation for record in records if record.preparation is not None]
    ranges = expected or (usual(measured) if measured else None)
    for place, (case, record) in enumerate(zip(cases, records, strict=True)):
        if record.preparation is not None:
            found = differences(record.preparation, ranges, is_resampled, first_image(case))
            yield from ((place, problem) for problem in found.values())


def _odd_intensities(
    cases: Sequence[Mapping[str, Any]], records: Sequence[Record], modalities: Sequence[str]
) -> Iterator[tuple[int, Problem]]:
    """Images with intensity ranges far from the rest of their modality, on a log scale since MR has no unit."""
    for channel, modality in enumerate(modalities):
        found = [(place, record.images[channel]) for place, record in enumerate(records) if record.images]
        ranges = {place: log(image.high) for place, image in found if image is not None and image.high > 0}
        if len(ranges) < FEWEST:
            continue
        median = float(np.median(list(ranges.values())))
        spread = 1.4826 * float(np.median([abs(value - median) for value in ranges.values()]))
        limit = max(OUTLIER * spread, log(FACTOR))
        for place, value in ranges.items():
            if abs(value - median) > limit:
                expected = f"{exp(median - limit):.3g} to {exp(median + limit):.3g}, as in the cohort's {modality}"
                text = f"intensity range {exp(value):.3g}"
                yield place, Problem("intensity", cases[place]["image"][channel], text, expected)


def _negatives(cases: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> Iterator[tuple[int, Problem]]:
    """Images with negative voxels: one problem each, or one for the cohort if most images have them."""
    found = [(place, file) for place, file, image in _images(cases, records) if image.negative]
    total = sum(1 for _ in _images(cases, records))
    expected = "intensities from 0, which the volume is cut to"
    if 2 * len(found) > total:
        yield -1, Problem("negative", "", f"{len(found)} of {total} images have voxels below 0", expected)
    else:
        for place, file in found:
            yield place, Problem("negative", file, "voxels below 0", expected)


def _images(cases: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> Iterator[tuple[int, str, Image]]:
    """Case index, file and figures of each image without error."""
    for place, (case, record) in enumerate(zip(cases, records, strict=True)):
        for file, image in zip(case["image"], record.images, strict=False):
            if image is not None:
                yield place, file, image


def _repeated(cases: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> Iterator[tuple[int, Problem]]:
    """Subjects, people and images that occur twice; each problem is reported for the copy and names the case to keep.

    That is the case without errors, then in the most strictly held-out split, then the first. Visits of a person may
    share a split or be unlabelled; equal masks are only a warning.
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
        if what == MASK:
            yield place, Problem("mask_copy", file, value, "a different mask")
        else:
            expected = "each person in one split" if what == PERSON else "each subject and image once"
            yield place, Problem(check, file, value, expected)


def _likenesses(cases: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> dict[str, dict[Any, dict[int, str]]]:
    """Kind of duplicate -> name or digest -> indices of the cases that share it, with the file to report."""
    alike: dict[str, dict[Any, dict[int, str]]] = {what: defaultdict(dict) for what in (SUBJECT, VOXELS, PERSON, MASK)}
    for place, (case, record) in enumerate(zip(cases, records, strict=True)):
        alike[SUBJECT][case["subject"]][place] = first_image(case)
        if case["split"] != "unlabelled":
            alike[PERSON][person_of(case["subject"])][place] = first_image(case)
        for file, digest in zip((*case["image"], case.get("label")), record.digests, strict=False):
            if digest:
                alike[MASK if file == case.get("label") else VOXELS][digest].setdefault(place, file)
    return alike
