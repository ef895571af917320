"""`common.metrics.lesions` against matching on whole volumes, and cases worked out by hand."""

import numpy as np
import pytest
from scipy import ndimage

from common.metrics.lesions import match
from tests.oracles import lesionwise
from tests.oracles.masks import CUBIC, pairs

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


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 1), (3, 1, 5), (5, 5, 5)])
def test_as_many_components_as_a_volume_can_hold(shape):
    """Given booleans and odd sides, cc3d runs out of labels."""
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[tuple(slice(2, 2 + side, 2) for side in shape)] = True
    lesions, components = match(mask, mask, CUBIC, 26)
    assert len(lesions) == components == mask.sum()
    assert all(lesion.dice == 1 for lesion in lesions)
