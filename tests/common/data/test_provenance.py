"""Descriptions of a model's training data state only facts of the record."""

import pytest

from common.data import is_skull_stripped, model_name, trained_on

BUNDLE = "stage 3: brain tumour segmentation on BraTS 2021"


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({}, "stage 3: brain tumour segmentation"),
        *[({"cohort": name}, "stage 3: brain tumour segmentation") for name in ("unnamed", "a\\b", "a\nb", "<b>", 7)],
        ({"made_up": True, "cohort": "heads"}, "stage 3: brain tumour segmentation, synthetic"),
        ({"cohort": "hospital A"}, "stage 3: brain tumour segmentation, hospital A"),
        ({"cohort": "St. Mary's, Köln"}, "stage 3: brain tumour segmentation, St. Mary's, Köln"),
        ({"cohort": "BraTS 2021"}, BUNDLE),
        ({"cohort": "BraTS 2021", "label_convention": "brats2023"}, BUNDLE),
        ({"label_convention": "lesion=1"}, "stage 3: segmentation of lesion"),
        ({"label_convention": "b=2,a=1+2,c=3", "cohort": "A"}, "stage 3: segmentation of b, a and c, A"),
    ],
)
def test_a_model_is_named_after_its_own_data(record, name):
    assert model_name(BUNDLE, record) == name
    assert model_name(name, record) == name, "a package says it already"


@pytest.mark.parametrize(
    ("litres", "stripped", "skull"),
    [
        ([1.9, 2.8], True, "brains without skull"),
        ([3.7, 4.0], False, "whole heads"),
        ([1.9, 4.0], None, "brains and whole heads"),
    ],
)
def test_the_data_in_a_phrase(litres, stripped, skull):
    measured = {"spacing": [[1.0] * 3] * 2, "volume": litres, "air": [0.0, 0.0], "overlap": [1.0, 1.0]}
    record = {"cohort": "site 3", "dataset": {"name": "x", "training": 875}, "modalities": ["T1", "T2"]}
    record["measured"] = measured
    preparation = f"voxels of 1 x 1 x 1 mm, {skull}, background 0"
    assert trained_on(record) == f"site 3: 875 training subjects; T1, T2; {preparation}"
    assert is_skull_stripped(record) is stripped
    assert trained_on({"made_up": True}).startswith("synthetic heads, computed from ")
    assert (trained_on({}), is_skull_stripped({})) == ("an unnamed cohort", None)
