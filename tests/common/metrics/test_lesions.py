"""`common.metrics.lesions` against matching on whole volumes, and cases worked out by hand."""

import numpy as np
import pytest
from scipy import ndimage

from common.metrics.lesions import Lesion, match
from tests.oracles import lesionwise
from tests.oracles.masks import CUBIC, SHAPE, box, pairs

STRUCTURES = {6: lesionwise.FACES, 18: lesionwise.EDGES, 26: lesionwise.CORNERS}


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("dilations", [0, 1, 3])
def test_matching_is_that_of_the_definition(connectivity, dilations):
    for prediction, reference, spacing in pairs(24):
        arguments = dilations, 7.5, 99.0
        matched, components = match(prediction, reference, spacing, connectivity, *arguments)
        rows = lesionwise.lesions(prediction, reference, spacing, STRUCTURES[connectivity], *arguments)
        lesionwise.assert_same(matched, rows)
        assert components == ndimage.label(prediction, STRUCTURES[connectivity])[1]


def test_a_missed_lesion_and_a_false_component_pay_the_penalty():
    mask, empty = box(SHAPE, [(2, 2, 2), (3, 3, 3)]), np.zeros(SHAPE, dtype=bool)
    (missed,), count = match(empty, mask, CUBIC, 26, 3, penalty=50.0)
    assert missed == Lesion(True, 8.0, (2, 2, 2), is_scored=True, is_found=False, dice=0.0, hd95=50.0)
    assert count == 0
    (false,), count = match(mask, empty, CUBIC, 26, 3, smallest=1000, penalty=50.0)
    assert false == Lesion(False, 8.0, (2, 2, 2), is_scored=True, is_found=False, dice=0.0, hd95=50.0)
    assert count == 1


@pytest.mark.parametrize(("spacing", "is_scored"), [((1, 1, 1), False), ((1, 1, 1.01), True), ((0.5, 2, 1), False)])
def test_a_lesion_of_exactly_the_smallest_volume_is_not_scored(spacing, is_scored):
    mask = box(SHAPE, [(2, 4, 4), (3, 5, 5)])
    ((lesion,), _) = match(mask, mask, spacing, 26, smallest=8)
    assert lesion.is_scored is is_scored
    assert lesion.volume == pytest.approx(8 * np.prod(spacing))


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 1), (3, 1, 5), (5, 5, 5)])
def test_as_many_components_as_a_volume_can_hold(shape):
    """Given booleans and odd sides, cc3d runs out of labels."""
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[tuple(slice(2, 2 + side, 2) for side in shape)] = True
    lesions, components = match(mask, mask, CUBIC, 26)
    assert len(lesions) == components == mask.sum()
    assert all(lesion.dice == 1 for lesion in lesions)
