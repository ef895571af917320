"""`common.metrics.measures` against their definitions; the masks and spacings that every protocol takes and refuses."""

import pickle

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.metrics.measures import dice, hd95, spacing_of
from common.metrics.protocols import PROTOCOLS, protocol
from tests.oracles import surfaces, volumes
from tests.oracles.masks import CUBIC, KINDS, SHAPE, box, cube, pairs
from tests.support import oblique

FLAT = (0.5, 2.0, 3.25)


SPATIAL = [hd95, *(protocol(name).measure for name in PROTOCOLS)]  # these take [x, y, z] and a spacing
ALL = [*SPATIAL, dice]

# More than 255 voxels each, and more in the reference: uint8 arithmetic would wrap around
PREDICTION = cube(1, 8) | box(SHAPE, [(20, 2, 2), (22, 4, 4)])
REFERENCE = cube(2, 8) | box(SHAPE, [(14, 0, 0), (16, 11, 11)])


# Against the definitions


def test_figures_are_as_defined():
    for prediction, reference, spacing in pairs(40):
        assert dice(prediction, reference) == pytest.approx(volumes.dice(prediction, reference), abs=1e-6)
        expected = surfaces.hd95(prediction, reference, spacing)
        assert hd95(prediction, reference, spacing) == pytest.approx(expected, abs=1e-6)


# Masks and spacings


@pytest.fixture(scope="module")
def expected():
    return [measure(PREDICTION, REFERENCE, FLAT) for measure in SPATIAL]


def snapshot(masks):
    return pickle.dumps([mask.tolist() if isinstance(mask, torch.Tensor) else mask for mask in masks])


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_of_array_gives_the_same_scores_unchanged(kind, expected):
    pair = [KINDS[kind](mask) for mask in (PREDICTION, REFERENCE)]
    before = snapshot(pair)
    assert [measure(*pair, FLAT) for measure in SPATIAL] == expected
    assert dice(*pair) == volumes.dice(PREDICTION, REFERENCE)
    assert before == snapshot(pair)


@pytest.mark.parametrize("value", [2, 0.5, np.nan])
@pytest.mark.parametrize("argument", ["prediction", "reference"])
def test_other_values_are_refused(value, argument):
    mask = cube(2).astype(np.float32)
    odd = mask.copy()
    odd[3, 4, 5] = value
    masks = (odd, mask) if argument == "prediction" else (mask, odd)
    for measure in ALL:
        for pair in (masks, [torch.from_numpy(array) for array in masks]):
            with pytest.raises(InputError, match=f"^{argument}: value {value}.*; expected a mask of 0 and 1"):
                measure(*pair)


@pytest.mark.parametrize("measure", ALL)
def test_two_shapes_are_refused(measure):
    with pytest.raises(InputError, match=r"^prediction: shape \[4, 5, 6\]; expected the reference's, \[4, 5, 7\]"):
        measure(np.zeros((4, 5, 6)), np.zeros((4, 5, 7)))
    with pytest.raises(InputError, match=r"^prediction: shape \[1, 4, 4\]; expected the reference's, \[4, 4, 4\]"):
        measure(np.zeros((1, 4, 4)), np.zeros((4, 4, 4)))  # would broadcast


@pytest.mark.parametrize("measure", SPATIAL)
def test_other_axes_than_three_and_other_spacings_than_three_lengths_are_refused(measure):
    for shape in ((1, 4, 5, 6), (4, 5)):
        with pytest.raises(InputError, match="expected three axes, without channel or batch"):
            measure(np.zeros(shape), np.zeros(shape))
    for spacing in ((1, 1), (1, 1, 1, 1), (1, 0, 1), (1, 1, -2), (1, np.nan, 1), (np.inf, 1, 1), ()):
        with pytest.raises(InputError, match="expected three numbers above zero, in mm"):
            measure(cube(2), cube(2), spacing)


def test_spacing_may_be_an_array_and_is_1_mm_by_default(expected):
    for measure, scores in zip(SPATIAL, expected, strict=True):
        assert measure(PREDICTION, REFERENCE, np.array(FLAT, dtype=np.float32)) == scores
        assert measure(PREDICTION, REFERENCE) == measure(PREDICTION, REFERENCE, CUBIC)


@pytest.mark.parametrize("edges", [(0.7, 1.1, 3.0), (1.0547, 0.46875, 2.000001)])
def test_the_spacing_of_an_affine_in_single_precision_is_the_shortest_decimal(edges):
    assert spacing_of(oblique(edges).astype(np.float32)) == spacing_of(np.diag([*edges, 1]).astype("f4")) == edges


def test_dice_takes_any_shape():
    assert dice([1, 1, 0], [0, 1, 0]) == pytest.approx(2 / 3)
    assert dice(np.ones((2, 3, 4, 4)), np.ones((2, 3, 4, 4))) == 1
    assert dice([], []) == 1
