"""`common.metrics.measures` against their definitions, and what they refuse."""

import numpy as np
import pytest

from common.errors import InputError
from common.metrics.measures import dice, hd95, normalized_surface_dice
from tests.oracles import surfaces, volumes
from tests.oracles.masks import balls, box, pairs

CUBIC = (1.0, 1.0, 1.0)
SHAPE = (24, 12, 12)
EMPTY = np.zeros(SHAPE, dtype=bool)


def cube(first, edge=4):
    """A cube that starts at a voxel along x."""
    return box(SHAPE, [(first, 4, 4), (first + edge - 1, 3 + edge, 3 + edge)])


# Against the definitions


def test_figures_are_as_defined():
    for prediction, reference, spacing in pairs(40):
        assert dice(prediction, reference) == pytest.approx(volumes.dice(prediction, reference), abs=1e-6)
        expected = surfaces.hd95(prediction, reference, spacing)
        assert hd95(prediction, reference, spacing) == pytest.approx(expected, abs=1e-6)
        for tolerance in (0.4, 1.1, 3):
            expected = surfaces.surface_dice(prediction, reference, spacing, tolerance)
            share = normalized_surface_dice(prediction, reference, spacing, tolerance)
            assert share == pytest.approx(expected, abs=1e-6)


def test_hd95_is_not_the_percentile_of_points():
    """Elements are weighted by area: 5 mm here; equal weights give 8 mm."""
    prediction, reference = balls(1)
    assert surfaces.unweighted_hd95(prediction, reference, CUBIC) == 8
    assert surfaces.hd95(prediction, reference, CUBIC) == 5
    assert hd95(prediction, reference, CUBIC) == 5


@pytest.mark.parametrize(
    ("prediction", "reference", "region", "distance", "surface"),
    [(EMPTY, EMPTY, 1, 0, 1), (cube(4), EMPTY, 0, np.inf, 0), (EMPTY, cube(4), 0, np.inf, 0)],
    ids=["both", "reference", "prediction"],
)
def test_empty_masks(prediction, reference, region, distance, surface):
    assert dice(prediction, reference) == region
    assert hd95(prediction, reference, CUBIC) == distance
    assert normalized_surface_dice(prediction, reference, CUBIC) == surface


# Input


def test_dice_takes_any_shape():
    assert dice([1, 1, 0], [0, 1, 0]) == pytest.approx(2 / 3)
    assert dice(np.ones((2, 3, 4, 4)), np.ones((2, 3, 4, 4))) == 1
    assert dice([], []) == 1


@pytest.mark.parametrize("tolerance", [0, -1, float("nan"), "1", True, None])
def test_a_tolerance_must_be_above_zero(tolerance):
    with pytest.raises(InputError, match="expected a number of mm above zero"):
        normalized_surface_dice(EMPTY, EMPTY, CUBIC, tolerance)
