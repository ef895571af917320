"""What a model says of its training: nothing that the record does not."""

import pytest

from common.data import cohort_of, is_skull_stripped, model_name, trained_on

BUNDLE = "stage 3: brain tumour segmentation on BraTS 2021"


def measured(low, high):
    return {
        "spacing": [[1.0] * 3, [1.0] * 3],
        "extent": [[130.0] * 3] * 2,
        "volume": [low, high],
        "air": [0.0, 0.0],
        "overlap": [1.0, 1.0],
    }


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({}, "stage 3: brain tumour segmentation"),
        ({"cohort": "unnamed"}, "stage 3: brain tumour segmentation"),
        ({"cohort": "embedded"}, "stage 3: brain tumour segmentation, synthetic"),
        ({"cohort": "hospital A"}, "stage 3: brain tumour segmentation, hospital A"),
        ({"cohort": "BraTS 2021"}, BUNDLE),
        ({"cohort": "a\\b"}, "stage 3: brain tumour segmentation"),
        ({"cohort": 7}, "stage 3: brain tumour segmentation"),
    ],
)
def test_a_model_is_named_after_its_own_data(record, name):
    assert model_name(BUNDLE, record) == name
    assert model_name(name, record) == name, "a package says it already"


@pytest.mark.parametrize("cohort", ["unnamed", "", "a\nb", "a\\b", "<b>", "x|y", "a" * 101, None, ["a"]])
def test_a_name_that_is_no_plain_text_is_none(cohort):
    assert cohort_of({"cohort": cohort}) is None


def test_the_data_in_a_phrase():
    record = {"cohort": "site 3", "dataset": {"name": "x", "training": 875}, "modalities": ["T1", "T2"]}
    preparation = "voxels of 1 x 1 x 1 mm, whole heads, background 0"
    assert trained_on(record | {"measured": measured(3.7, 4.1)}) == (
        f"site 3: 875 training subjects; T1, T2; {preparation}"
    )
    assert trained_on({}) == "a cohort that the weights do not name"
    assert trained_on({"cohort": "embedded", "dataset": {"training": "many"}}).startswith(
        "the embedded cohort, which is syn"
    )


@pytest.mark.parametrize(("litres", "expected"), [((1.9, 2.8), True), ((3.7, 4.0), False), ((1.9, 4.0), None)])
def test_the_skull_as_the_training_measured_it(litres, expected):
    assert is_skull_stripped({"measured": measured(*litres)}) is expected
    assert is_skull_stripped({}) is None
