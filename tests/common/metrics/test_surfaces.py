"""`common.metrics.surfaces` against the definition on whole volumes."""

import numpy as np
import pytest

from common.metrics.surfaces import Surface, box_of, percentile_distance, surface_dice, surface_of
from tests.oracles import surfaces as oracle
from tests.oracles.masks import SPACINGS, balls, box, pairs

FLAT = (0.5, 2.0, 3.25)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_areas_of_all_patterns_of_eight_voxels(spacing):
    for code in range(256):
        mask = np.array([code >> bit & 1 for bit in range(8)], dtype=bool).reshape(2, 2, 2)
        places, areas = expected_surface(mask, spacing)
        surface = surface_of(mask, spacing)
        assert surface.places.tolist() == places
        np.testing.assert_allclose(surface.areas, areas, rtol=1e-12)
        assert (surface.areas > 0).all()


def test_surface_of_masks_that_reach_the_edge_or_do_not():
    for mask in (balls(0)[1], balls(2)[1], np.ones((3, 4, 5), dtype=bool), box((6, 5, 4), [(2, 2, 1), (3, 3, 2)])):
        places, areas = expected_surface(mask, FLAT)
        surface = surface_of(mask, FLAT)
        assert surface.places.tolist() == places
        np.testing.assert_allclose(surface.areas, areas, rtol=1e-12)


def test_the_origin_moves_the_surface():
    mask = balls(4)[1]
    moved = surface_of(mask, FLAT, origin=(3, 0, 7))
    np.testing.assert_array_equal(moved.places, surface_of(mask, FLAT).places + np.array([3, 0, 7]))


def test_no_surface():
    surface = surface_of(np.zeros((3, 4, 5), dtype=bool), FLAT)
    assert surface.places.shape == (0, 3)
    assert surface.areas.shape == (0,)


def test_surface_of_a_view():
    mask = balls(6)[1]
    for view in (mask[::2, 1:, ::-1], mask.T, np.asfortranarray(mask)):
        places, areas = expected_surface(view, FLAT)
        surface = surface_of(view, FLAT)
        assert surface.places.tolist() == places
        np.testing.assert_allclose(surface.areas, areas, rtol=1e-12)


def expected_surface(mask, spacing):
    """Positions and areas; the oracle pads the volume by a voxel and puts an element at its last voxel."""
    surface, areas = oracle.elements(mask, oracle.create_table_neighbour_code_to_surface_area(spacing))
    return (np.argwhere(surface) - 1).tolist(), areas[surface]


def test_the_smallest_box_that_holds_a_mask():
    mask = box((7, 8, 9), [(1, 4, 2), (3, 4, 6)], [(2, 6, 8), (2, 6, 8)])
    assert box_of(mask) == (slice(1, 4), slice(4, 7), slice(2, 9))
    for margin in range(4):
        inside = np.zeros(mask.shape, dtype=int)
        inside[box_of(mask, margin)] = 1
        expected = np.zeros(mask.shape, dtype=int)
        for x, y, z in np.ndindex(mask.shape):
            expected[x, y, z] = 1 - margin <= x <= 3 + margin and 4 - margin <= y <= 6 + margin and z >= 2 - margin
        np.testing.assert_array_equal(inside, expected)


def test_no_box():
    assert box_of(np.zeros((3, 4, 5), dtype=bool)) is None
    assert box_of(np.zeros((3, 4, 5), dtype=bool), 2) is None


@pytest.mark.parametrize("percent", [5, 50, 95, 100])
def test_percentiles_are_weighted_by_area(percent):
    for prediction, reference, spacing in pairs(30):
        surfaces = surface_of(prediction, spacing), surface_of(reference, spacing)
        distance = percentile_distance(*surfaces, spacing, percent)
        if prediction.any() or reference.any():
            ways = oracle.distances(prediction, reference, spacing)
            assert distance == pytest.approx(max(oracle.percentile(*way, percent / 100) for way in ways), abs=1e-6)
        else:
            assert distance == 0


def test_a_percentile_includes_a_share_that_is_exactly_as_large():
    """Two voxels whose elements, by distance, have areas of 1 : 3; a quarter lies within the first one."""
    places = np.array([[0, 0, 0], [4, 0, 0]])
    source, target = Surface(places, np.array([1.0, 3.0])), Surface(places[:1], np.array([1.0]))
    assert percentile_distance(source, target, (2.0, 1.0, 1.0), 25) == 0
    assert percentile_distance(source, target, (2.0, 1.0, 1.0), 25.1) == 8
    assert percentile_distance(target, source, (2.0, 1.0, 1.0), 25.1) == 8


@pytest.mark.parametrize("tolerance", [0.3, 1.0, 2.5])
def test_shares_within_a_tolerance_are_weighted_by_area(tolerance):
    for prediction, reference, spacing in pairs(30):
        share = surface_dice(surface_of(prediction, spacing), surface_of(reference, spacing), spacing, tolerance)
        assert share == pytest.approx(oracle.surface_dice(prediction, reference, spacing, tolerance), abs=1e-6)


def test_a_distance_equal_to_the_tolerance_is_within():
    one, other = (surface_of(box((9, 5, 5), [(x, 2, 2), (x, 2, 2)]), (1.0, 1.0, 1.0)) for x in (2, 5))
    # of each voxel's eight elements four are 2 voxels from the other voxel's, and four 3
    assert surface_dice(one, other, (1.0, 1.0, 1.0), 1.99) == 0
    assert surface_dice(one, other, (1.0, 1.0, 1.0), 2.0) == 0.5
    assert surface_dice(one, other, (1.0, 1.0, 1.0), 3.0) == 1
    assert percentile_distance(one, other, (1.0, 1.0, 1.0)) == 3
