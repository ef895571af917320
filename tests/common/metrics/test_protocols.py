"""`common.metrics.protocols` against the challenges' definitions on whole volumes, and what they refuse."""

import numpy as np
import pytest

from common.metrics import protocol
from common.metrics.protocols import PENALTY
from tests.oracles import lesionwise, volumes
from tests.oracles.masks import CUBIC, EMPTY, SHAPE, box, cube, pairs

ORACLES = {
    "atlas": lesionwise.atlas,
    "isles": lesionwise.isles,
    "lesions": lesionwise.isles,
    "brats": lesionwise.brats,
    "dice": lambda prediction, reference, _: ({"dice": volumes.dice(prediction, reference)}, []),
}
atlas, isles = (protocol(name).measure for name in ("atlas", "isles"))


def brats(prediction, reference, spacing=CUBIC, challenge="GLI"):
    return protocol("brats", challenge).measure(prediction, reference, spacing)


@pytest.mark.parametrize(
    ("name", "challenge"),
    [*((name, None) for name in ORACLES if name != "brats"), *(("brats", name) for name in ("GLI", "MEN", "MET"))],
)
def test_scores_are_as_defined(name, challenge):
    chosen = protocol(name, challenge)
    for prediction, reference, spacing in pairs(40):
        scores = chosen.measure(prediction, reference, np.array(spacing))
        expected, rows = ORACLES[name](prediction, reference, spacing, *([challenge] if challenge else []))
        assert scores.values == pytest.approx(expected, abs=1e-6)
        lesionwise.assert_same(scores.lesions, rows)
        assert scores.volumes == pytest.approx([mask.sum() * np.prod(spacing) for mask in (prediction, reference)])


@pytest.mark.parametrize(("prediction", "reference"), [(EMPTY, EMPTY), (cube(4), EMPTY), (EMPTY, cube(4))])
def test_empty_masks(prediction, reference):
    region = float(prediction is reference)
    voxels = abs(int(prediction.sum()) - int(reference.sum()))
    common = {"dice": region, "lesion_f1": region, "lesion_count_difference": 1 - region}
    distance = 0 if region else PENALTY
    assert atlas(prediction, reference).values == {**common, "volume_difference": voxels}
    assert isles(prediction, reference, (1, 1, 2)).values == {**common, "volume_difference": 2 * voxels / 1000}
    expected = {"lesionwise_dice": region, "lesionwise_hd95": distance, "dice": region, "hd95": distance}
    assert brats(prediction, reference).values == expected
    assert protocol("dice").measure(prediction, reference, CUBIC).values == {"dice": region}


# BraTS by hand


@pytest.mark.parametrize(
    ("challenge", "last", "spacing", "is_scored"),
    [
        ("GLI", (4, 4, 1), (1, 1, 1), False),  # 50 voxels
        ("GLI", (16, 2, 0), (1, 1, 1), True),  # 51 voxels
        ("SSA", (4, 4, 0), (1, 1, 2.01), True),
        ("MEN", (4, 4, 3), (0.5, 1, 1), False),
        ("MET", (0, 0, 0), (1, 1, 2), False),
        ("MET", (0, 0, 0), (1, 1, 2.1), True),
    ],
)
def test_small_lesions_are_ignored(challenge, last, spacing, is_scored):
    missed = brats(EMPTY, box(SHAPE, [(0, 0, 0), last]), spacing, challenge)
    assert missed.lesions[0].is_scored is is_scored
    values = (0, PENALTY) if is_scored else (1, 0)
    assert (missed.values["lesionwise_dice"], missed.values["lesionwise_hd95"]) == values
    assert (missed.values["dice"], missed.values["hd95"]) == (0, PENALTY)  # the region counts all lesions


def test_a_distance_may_exceed_the_penalty():
    """Only infinite distances are replaced; a BraTS volume at 1 mm has none as long."""
    values = brats(cube(8), cube(2), (200.0, 1.0, 1.0)).values
    assert values["lesionwise_hd95"] == values["hd95"] == pytest.approx(6 * 200)


# Protocols by name


def test_labels_of_ones_own_are_scored_by_dice_and_lesion_f1():
    """Not lesion by lesion as BraTS 2023, where a speck weighs as much as a large lesion."""
    expected = dict.fromkeys(("brats2021", "brats2023", "brats2024", "brats2024peds"), "brats") | {"atlas": "atlas"}
    expected |= dict.fromkeys(("lesion=1", "core=1,whole=1+2"), "lesions")
    assert {name: protocol(None, convention=name).name for name in expected} == expected
    assert [*protocol("lesions").units][:2] == ["dice", "lesion_f1"]
    assert protocol(None, "MET", "brats2023").settings["dilations"] == 1
