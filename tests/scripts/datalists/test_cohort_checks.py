"""What stands out from a cohort: records are made up here, so that what is odd about one is known."""

import pytest

from scripts.datalists.cohort_checks import compare
from scripts.datalists.examine import Record


def case(name, split="training", label=False):
    files = {"image": [f"{name}_t1", f"{name}_t2"], **({"label": f"{name}_seg"} if label else {})}
    return {"subject": name, "split": split, **files}


FIGURES = {"spacing": [1.0, 1.0, 1.0], "extent": [140.0, 170.0, 140.0], "volume": 1.9, "air": 0.0, "overlap": 1.0}


def record(number, digests=None, problems=(), prepared=None, **grid):
    grid["preparation"] = {name: [value, value] for name, value in (FIGURES | (prepared or {})).items()}
    digests = (b"a%d" % number, b"b%d" % number) if digests is None else digests
    named = {f"s{number}_t{channel}": digest for channel, digest in enumerate(digests, 1)}
    grid = {"orientation": "RAS"} | grid
    return Record(tuple(problems), digests=named, **grid)


def found(changes, count=12, splits=None):
    """(place, check, file) in a cohort of equals, of which some are made with other figures."""
    cases = [case(f"s{n}", (splits or {}).get(n, "training")) for n in range(count)]
    records = [record(n, **changes.get(n, {})) for n in range(count)]
    return [(place, problem.check, problem.file) for place, problem in compare(cases, records)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({3: {"orientation": "LPS"}}, [(3, "orientation", "s3_t1")]),
        ({2: {"prepared": {"spacing": [1, 1, 1.2]}}}, [(2, "spacing", "s2_t1")]),
        ({2: {"prepared": {"spacing": [1.05, 0.95, 1]}}}, []),
        ({5: {"prepared": {"volume": 4.5}}}, [(5, "skull", "s5_t1")]),
        ({n: {"prepared": {"volume": 4.5}} for n in range(6)}, []),  # half of them: none is an outlier
    ],
)
def test_what_differs_from_the_rest_of_the_cohort_stands_out(changes, expected):
    assert found(changes) == expected


def repeated(cases, records):
    return [(place, problem.check, problem.value) for place, problem in compare(cases, records)]


def test_the_same_image_in_two_splits_is_leakage_in_one_a_duplicate():
    cases = [case("a"), case("b", "testing"), case("c"), case("d")]
    digests = [(b"x", b"y"), (b"x", b"y"), (b"p", b"q"), (b"r", b"q")]
    records = [record(n, digests=digests[n]) for n in range(4)]
    assert repeated(cases, records) == [
        (0, "leakage", "the same voxels as b in testing"),
        (3, "duplicate", "the same voxels as c in training"),
    ]
    assert repeated(cases, [record(n, digests=()) for n in range(4)]) == [], "no digest is like nothing"


@pytest.mark.parametrize(
    ("one", "other"),
    [("1000012_2_0", "1000012_3_0"), ("BraTS-GLI-00000-000", "BraTS-GLI-00000-001"), ("sub-r1", "sub-r1_ses-2")],
)
def test_visits_of_a_person_in_two_splits_are_leakage(one, other):
    records = [record(0), record(1)]
    told = (0, "leakage", f"the same person as {other} in validation")
    assert repeated([case(one), case(other, "validation")], records) == [told]
    assert repeated([case(one), case(other)], records) == []
    assert repeated([case(one, "unlabelled"), case(other, "validation")], records) == []  # nothing trains on it
