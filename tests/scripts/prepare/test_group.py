"""Subjects that stand out from the group by their quality figures."""

import pytest

from common.prepare.figures import Figures
from scripts.prepare.group import charts, in_words, spreads


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


def test_a_chart_names_outliers_and_has_a_row_for_each_modality(group):
    found = spreads(group | {"cut": figures(0.954, coverage=0.9, flair=False)})
    drawn = {str(chart).partition(" of every")[0].rpartition('"')[2]: chart for chart in charts(found)}
    assert [*drawn] == ["overlap", "volume (mL)", "scale", "coverage", "information"]
    assert ">cut<" in drawn["coverage"]
    assert ">FLAIR<" in drawn["coverage"]
    assert ">cut<" not in drawn["overlap"]


def test_the_figures_of_a_subject_in_a_line():
    assert in_words(figures(0.9512, flair=False)) == (
        "overlap 0.951, volume 1400 mL, scale 1; T1: coverage 1, information 0.3"
    )


def test_an_outlier_is_told_in_the_units_of_its_figure(group):
    large = figures(0.954)
    large.subject["volume"] = 1874.6
    (spread,) = (spread for spread in spreads(group | {"large": large}) if spread.outliers)
    assert str(spread) == "volume: large (1875 mL); median 1400 mL"
