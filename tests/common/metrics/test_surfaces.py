"""`common.metrics.surfaces` against the definition on whole volumes."""

import numpy as np
import pytest

from common.components import box_of
from common.metrics.surfaces import Surface, percentile_distance, surface_of
from tests.oracles import surfaces as oracle
from tests.oracles.masks import SPACINGS, balls, box

FLAT = (0.5, 2.0, 3.25)


def assert_is_the_oracles(mask, spacing):
    """Compare positions and areas; the oracle pads the volume by a voxel and puts an element at its last voxel."""
    expected, areas = oracle.elements(mask, oracle.create_table_neighbour_code_to_surface_area(spacing))
    surface = surface_of(mask, spacing)
    assert surface.positions.tolist() == (np.argwhere(expected) - 1).tolist()
    np.testing.assert_allclose(surface.areas, areas[expected], rtol=1e-12)
    assert (surface.areas > 0).all()


@pytest.mark.parametrize("spacing", SPACINGS)
def test_areas_of_all_patterns_of_eight_voxels(spacing):
    for code in range(256):
        assert_is_the_oracles(np.array([code >> bit & 1 for bit in range(8)], dtype=bool).reshape(2, 2, 2), spacing)


def test_surface_of_masks_and_views_that_reach_the_edge_or_do_not():
    ragged = balls(6)[1]
    for mask in (balls(0)[1], np.ones((3, 4, 5), dtype=bool), box((6, 5, 4), [(2, 2, 1), (3, 3, 2)])):
        assert_is_the_oracles(mask, FLAT)
    for view in (ragged[::2, 1:, ::-1], ragged.T, np.asfortranarray(ragged)):
        assert_is_the_oracles(view, FLAT)
    moved = surface_of(ragged, FLAT, origin=(3, 0, 7))
    np.testing.assert_array_equal(moved.positions, surface_of(ragged, FLAT).positions + np.array([3, 0, 7]))


def test_the_smallest_box_that_holds_a_mask():
    mask = box((7, 8, 9), [(1, 4, 2), (3, 4, 6)], [(2, 6, 8), (2, 6, 8)])
    assert box_of(mask) == (slice(1, 4), slice(4, 7), slice(2, 9))
    wider = [range(edge)[side] for side, edge in zip(box_of(mask, 2), mask.shape, strict=True)]
    assert wider == [range(6), range(2, 8), range(9)]


@pytest.mark.parametrize(("areas", "distance"), [((19.0, 1.0), 0), ((18.99, 1.01), 8)])
def test_a_percentile_includes_a_share_that_is_exactly_as_large(areas, distance):
    """Two elements: the first, at distance 0, has 95 % of the area, or hardly less."""
    places = np.array([[0, 0, 0], [4, 0, 0]])
    source, target = Surface(places, np.array(areas)), Surface(places[:1], np.array([1.0]))
    assert percentile_distance(source, target, (2.0, 1.0, 1.0)) == distance
    assert percentile_distance(target, source, (2.0, 1.0, 1.0)) == distance
