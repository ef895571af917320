"""`common.metrics.lesions` against matching on whole volumes, and cases worked out by hand."""

import numpy as np
import pytest
from scipy import ndimage

from common.metrics.lesions import Lesion, dilate, match
from tests.oracles import lesionwise
from tests.oracles.masks import SPACINGS, balls, box, noise, pairs

STRUCTURES = {6: lesionwise.FACES, 18: lesionwise.EDGES, 26: lesionwise.CORNERS}
CUBIC = (1.0, 1.0, 1.0)
SHAPE = (24, 12, 12)


# Dilation


@pytest.mark.parametrize("times", [0, 1, 3])
def test_dilation_is_that_of_scipy(times):
    structure = ndimage.generate_binary_structure(3, 2)
    for mask in [pair[0] for seed in range(12) for pair in (noise(seed), balls(seed))]:
        before = mask.copy()
        expected = ndimage.binary_dilation(mask, structure, iterations=times) if times else mask
        np.testing.assert_array_equal(dilate(mask, times), expected)
        np.testing.assert_array_equal(mask, before)


# Matching


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("dilations", [0, 1, 3])
def test_matching_is_that_of_the_definition(connectivity, dilations):
    for prediction, reference, spacing in pairs(24):
        arguments = dilations, 7.5, 99.0
        matching = match(prediction, reference, spacing, connectivity, *arguments)
        rows = lesionwise.lesions(prediction, reference, spacing, STRUCTURES[connectivity], *arguments)
        lesionwise.assert_same(matching, rows)
        assert matching.components == ndimage.label(prediction, STRUCTURES[connectivity])[1]


def test_nothing_to_match():
    empty = np.zeros((4, 5, 6), dtype=bool)
    assert match(empty, empty, CUBIC, 26, 3) == ((), 0)


def test_a_missed_lesion_and_a_false_component_pay_the_penalty():
    mask, empty = box(SHAPE, [(2, 2, 2), (3, 3, 3)]), np.zeros(SHAPE, dtype=bool)
    (missed,), count = match(empty, mask, CUBIC, 26, 3, penalty=50.0)
    assert missed == Lesion(True, 8.0, (2, 2, 2), is_scored=True, is_found=False, dice=0.0, hd95=50.0)
    assert count == 0
    (false,), count = match(mask, empty, CUBIC, 26, 3, smallest=1000, penalty=50.0)
    assert false == Lesion(False, 8.0, (2, 2, 2), is_scored=True, is_found=False, dice=0.0, hd95=50.0)
    assert count == 1


@pytest.mark.parametrize(
    ("second", "lesions"),
    [((3, 3, 3), {6: 2, 18: 2, 26: 1}), ((3, 3, 2), {6: 2, 18: 1, 26: 1}), ((3, 2, 2), {6: 1, 18: 1, 26: 1})],
    ids=["corner", "edge", "face"],
)
def test_voxels_that_touch(second, lesions):
    mask = box((6, 6, 6), [(2, 2, 2)] * 2, [second] * 2)
    for connectivity, count in lesions.items():
        matching = match(mask, mask, CUBIC, connectivity)
        assert (len(matching.lesions), matching.components) == (count, count)


@pytest.mark.parametrize(("dilations", "gap", "lesions"), [(0, 1, 2), (1, 2, 1), (1, 3, 2), (3, 6, 1), (3, 7, 2)])
def test_lesions_merge_where_their_dilations_touch(dilations, gap, lesions):
    reference = box(SHAPE, [(2, 4, 4), (4, 6, 6)], [(5 + gap, 4, 4), (7 + gap, 6, 6)])
    found = match(reference, reference, CUBIC, 26, dilations).lesions
    assert [lesion.volume for lesion in found] == ([54.0] if lesions == 1 else [27.0, 27.0])
    assert all(lesion.is_found for lesion in found)


@pytest.mark.parametrize(("dilations", "gap", "found"), [(0, 0, False), (1, 0, True), (1, 1, False), (3, 2, True)])
def test_a_component_hits_what_its_dilation_reaches(dilations, gap, found):
    reference, prediction = (box(SHAPE, [(x, 4, 4), (x + 2, 6, 6)]) for x in (2, 5 + gap))
    lesions = match(prediction, reference, CUBIC, 26, dilations, penalty=99).lesions
    assert [(lesion.is_reference, lesion.is_found) for lesion in lesions] == (
        [(True, True)] if found else [(True, False), (False, False)]
    )
    assert lesions[0].dice == 0
    assert lesions[0].hd95 == (3 + gap if found else 99)  # cubes of three voxels, so far apart


def test_only_the_dilation_of_the_lesion_itself_decides():
    """Two lesions at a distance: a component is reached from one alone, though it is near both in the dilated mask."""
    reference = box(SHAPE, [(2, 4, 4), (4, 6, 6)], [(13, 4, 4), (15, 6, 6)])
    prediction = box(SHAPE, [(7, 5, 5), (7, 5, 5)])
    near, far = match(prediction, reference, CUBIC, 26, 3).lesions
    assert (near.is_found, far.is_found) == (True, False)


def test_a_component_counts_whole_for_each_lesion_it_hits():
    reference = box(SHAPE, [(2, 4, 4), (3, 5, 5)], [(15, 4, 4), (17, 5, 5)])  # 8 and 12 voxels
    bar = box(SHAPE, [(2, 4, 4), (17, 5, 5)])  # 64 voxels
    larger, smaller = match(bar, reference, CUBIC, 26, 3).lesions
    assert (larger.dice, smaller.dice) == (2 * 12 / (64 + 12), 2 * 8 / (64 + 8))


def test_components_that_hit_one_lesion_count_together():
    reference = box(SHAPE, [(2, 4, 4), (9, 5, 5)])  # 32 voxels
    prediction = box(SHAPE, [(2, 4, 4), (3, 5, 5)], [(8, 4, 4), (11, 5, 5)])  # 8 voxels, and 16 with 8 inside
    (lesion,), components = match(prediction, reference, CUBIC, 26)
    assert (components, lesion.dice) == (2, 2 * 16 / (32 + 24))


def test_a_component_on_an_ignored_lesion_is_neither_found_nor_false():
    mask = box(SHAPE, [(2, 4, 4), (3, 5, 5)])
    for prediction in (mask, np.roll(mask, 3, axis=0)):
        (lesion,) = match(prediction, mask, CUBIC, 26, 3, smallest=8).lesions
        assert (lesion.is_reference, lesion.is_scored, lesion.is_found) == (True, False, True)


@pytest.mark.parametrize(("spacing", "is_scored"), [((1, 1, 1), False), ((1, 1, 1.01), True), ((0.5, 2, 1), False)])
def test_a_lesion_of_exactly_the_smallest_volume_is_not_scored(spacing, is_scored):
    mask = box(SHAPE, [(2, 4, 4), (3, 5, 5)])
    (lesion,) = match(mask, mask, spacing, 26, smallest=8).lesions
    assert lesion.is_scored is is_scored
    assert lesion.volume == pytest.approx(8 * np.prod(spacing))


def test_larger_ones_come_first_and_false_ones_last():
    shape = (40, 6, 6)
    reference = box(shape, [(2, 2, 2), (2, 2, 2)], [(12, 2, 2), (13, 2, 2)], [(22, 2, 2), (22, 2, 2)])
    prediction = box(shape, [(30, 2, 2), (30, 2, 2)], [(35, 2, 2), (38, 3, 3)])
    lesions = match(prediction, reference, (1.0, 2.0, 3.0), 26).lesions
    assert [(lesion.is_reference, lesion.volume, lesion.centre) for lesion in lesions] == [
        (True, 12, (12, 2, 2)),
        (True, 6, (2, 2, 2)),
        (True, 6, (22, 2, 2)),
        (False, 96, (36, 2, 2)),
        (False, 6, (30, 2, 2)),
    ]


def test_dilation_ends_at_the_edge_of_the_volume():
    """Lesions in opposite corners: no dilation or box wraps around."""
    shape = (9, 8, 7)
    for corner in ((0, 0, 0), (8, 0, 6)):
        opposite = tuple(side - 1 - place for side, place in zip(shape, corner, strict=True))
        reference, prediction = box(shape, [corner] * 2), box(shape, [opposite] * 2)
        lesionwise.assert_same(
            match(prediction, reference, SPACINGS[2], 26, 3),
            lesionwise.lesions(prediction, reference, SPACINGS[2], lesionwise.CORNERS, 3),
        )


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 1), (3, 1, 5), (5, 5, 5)])
def test_as_many_components_as_a_volume_can_hold(shape):
    """Given booleans and odd sides, cc3d runs out of labels."""
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[tuple(slice(2, 2 + side, 2) for side in shape)] = True
    lesions, components = match(mask, mask, CUBIC, 26)
    assert len(lesions) == components == mask.sum()
    assert all(lesion.dice == 1 for lesion in lesions)
