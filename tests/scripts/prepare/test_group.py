"""Subjects that stand out from the group by their quality figures."""

import pytest

from common.prepare.figures import Figures
from scripts.prepare.group import spreads


def figures(overlap, coverage=1.0, flair=True):
    modalities = {"T1": {"coverage": coverage, "information": 0.3}}
    modalities |= {"FLAIR": {"coverage": 1.0, "information": 0.2}} if flair else {}
    return Figures("T1", {"overlap": overlap, "volume": 1400.0, "scale": 1.0}, modalities)


@pytest.fixture
def group():
    """Nine subjects like each other, by 0.001 of overlap."""
    return {f"S{n}": figures(0.950 + n / 1000) for n in range(9)}


def outliers(group):
    return {(spread.figure, spread.modality): spread.outliers for spread in spreads(group) if spread.outliers}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {}),
        ({"low": figures(0.930)}, {("overlap", ""): {"low": 0.930}}),
        ({"high": figures(0.999)}, {("overlap", ""): {"high": 0.999}}),
        ({"near": figures(0.960)}, {}),  # 0.0055 from the median, which 0.0025 is the median deviation of
        ({"cut": figures(0.954, coverage=0.985)}, {("coverage", "T1"): {"cut": 0.985}}),
        ({"almost": figures(0.954, coverage=0.9995)}, {}),  # a twentieth of the range of the limits is 0.001
    ],
)
def test_outliers_by_the_modified_z_score(group, changed, expected):
    assert outliers(group | changed) == expected


def test_few_subjects_have_no_outlier(group):
    few = dict([*group.items()][:6]) | {"low": figures(0.5)}
    assert outliers(few) == {}
    assert outliers(few | {"S8": group["S8"]}) == {("overlap", ""): {"low": 0.5}}
