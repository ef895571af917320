"""What every measure and protocol takes and refuses as masks and spacing."""

import pickle

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.metrics.measures import dice, hd95, normalized_surface_dice
from common.metrics.protocols import atlas, brats, isles, protocol
from tests.oracles import volumes
from tests.oracles.masks import KINDS, box

SHAPE = (24, 12, 12)


def cube(first, edge=4):
    """A cube that starts at a voxel along x."""
    return box(SHAPE, [(first, 4, 4), (first + edge - 1, 3 + edge, 3 + edge)])


def dice_protocol(prediction, reference, spacing=(1.0, 1.0, 1.0)):
    return protocol("dice").measure(prediction, reference, spacing)


SPATIAL = [hd95, normalized_surface_dice, atlas, isles, brats]  # these take [x, y, z] and a spacing
ALL = [*SPATIAL, dice, dice_protocol]

# More than 255 voxels each, and more in the reference: uint8 arithmetic would wrap around
PREDICTION = cube(1, 8) | box(SHAPE, [(20, 2, 2), (22, 4, 4)])
REFERENCE = cube(2, 8) | box(SHAPE, [(14, 0, 0), (16, 11, 11)])


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_of_array_gives_the_same_scores_unchanged(kind):
    given = [KINDS[kind](mask) for mask in (PREDICTION, REFERENCE)]
    before = pickle.dumps([torch.as_tensor(one).tolist() if isinstance(one, torch.Tensor) else one for one in given])
    for one in given:
        if isinstance(one, np.ndarray):
            one.flags.writeable = False
    spacing = (0.5, 2.0, 3.25)
    try:
        for measure in SPATIAL:
            assert measure(*given, spacing) == measure(PREDICTION, REFERENCE, spacing)
        assert dice(*given) == volumes.dice(PREDICTION, REFERENCE)
        assert dice_protocol(*given, spacing).values == {"dice": volumes.dice(PREDICTION, REFERENCE)}
        assert atlas(*given, spacing).values["volume_difference"] == abs(int(PREDICTION.sum()) - int(REFERENCE.sum()))
    finally:
        PREDICTION.flags.writeable = REFERENCE.flags.writeable = True
    after = pickle.dumps([torch.as_tensor(one).tolist() if isinstance(one, torch.Tensor) else one for one in given])
    assert before == after


@pytest.mark.parametrize("value", [2, 4, -1, 0.5, 255, np.nan, np.inf])
@pytest.mark.parametrize("place", ["prediction", "reference"])
def test_other_values_are_refused(value, place):
    mask = cube(2).astype(np.float32)
    odd = mask.copy()
    odd[3, 4, 5] = value
    masks = (odd, mask) if place == "prediction" else (mask, odd)
    for measure in ALL:
        for given in (masks, [torch.from_numpy(each) for each in masks]):
            with pytest.raises(InputError, match=f"^{place}: value {value}.*; expected a mask of 0 and 1"):
                measure(*given)


@pytest.mark.parametrize("measure", ALL)
def test_two_shapes_are_refused(measure):
    with pytest.raises(InputError, match=r"^prediction: shape \[4, 5, 6\]; expected the reference's, \[4, 5, 7\]"):
        measure(np.zeros((4, 5, 6)), np.zeros((4, 5, 7)))
    with pytest.raises(InputError, match=r"^prediction: shape \[1, 4, 4\]; expected the reference's, \[4, 4, 4\]"):
        measure(np.zeros((1, 4, 4)), np.zeros((4, 4, 4)))  # would broadcast


@pytest.mark.parametrize("measure", SPATIAL)
@pytest.mark.parametrize("shape", [(1, 4, 5, 6), (4, 5), (2, 1, 4, 5, 6)])
def test_other_axes_than_three_are_refused(measure, shape):
    with pytest.raises(InputError, match="expected three axes, without channel or batch"):
        measure(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize("measure", SPATIAL)
@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 1, 1), (1, 0, 1), (1, 1, -2), (1, np.nan, 1), (np.inf, 1, 1), ()])
def test_a_spacing_must_be_three_lengths(measure, spacing):
    with pytest.raises(InputError, match="expected three numbers above zero, in mm"):
        measure(cube(2), cube(2), spacing)


def test_spacing_may_be_an_array():
    spacing = np.array([0.5, 2.0, 3.25], dtype=np.float32)
    for measure in SPATIAL:
        assert measure(PREDICTION, REFERENCE, spacing) == measure(PREDICTION, REFERENCE, (0.5, 2.0, 3.25))
        assert measure(PREDICTION, REFERENCE) == measure(PREDICTION, REFERENCE, (1.0, 1.0, 1.0))
