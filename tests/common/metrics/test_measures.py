"""`common.metrics.measures` against their definitions; the masks and spacings that every protocol takes and refuses."""

import numpy as np
import pytest

from common.metrics.measures import Surface, dice, hd95, percentile_distance, spacing_of, surface_of
from common.metrics.protocols import PROTOCOLS, protocol
from tests.oracles import surfaces, volumes
from tests.oracles.masks import KINDS, SHAPE, SPACINGS, box, cube, pairs
from tests.support import oblique

FLAT = (0.5, 2.0, 3.25)


SPATIAL = [hd95, *(protocol(name).measure for name in PROTOCOLS)]  # these take [x, y, z] and a spacing

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


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_of_array_gives_the_same_scores(kind, expected):
    pair = [KINDS[kind](mask) for mask in (PREDICTION, REFERENCE)]
    assert [measure(*pair, FLAT) for measure in SPATIAL] == expected
    assert dice(*pair) == volumes.dice(PREDICTION, REFERENCE)


@pytest.mark.parametrize("edges", [(0.7, 1.1, 3.0), (1.0547, 0.46875, 2.000001)])
def test_the_spacing_of_an_affine_in_single_precision_is_the_shortest_decimal(edges):
    assert spacing_of(oblique(edges).astype(np.float32)) == spacing_of(np.diag([*edges, 1]).astype("f4")) == edges


# Surfaces


def assert_is_the_oracles(mask, spacing):
    """Compare positions and areas; the oracle pads the volume by a voxel and puts an element at its last voxel."""
    expected, areas = surfaces.elements(mask, surfaces.create_table_neighbour_code_to_surface_area(spacing))
    surface = surface_of(mask, spacing)
    assert surface.positions.tolist() == (np.argwhere(expected) - 1).tolist()
    np.testing.assert_allclose(surface.areas, areas[expected], rtol=1e-12)
    assert (surface.areas > 0).all()


@pytest.mark.parametrize("spacing", SPACINGS)
def test_areas_of_all_patterns_of_eight_voxels(spacing):
    for code in range(256):
        assert_is_the_oracles(np.array([code >> bit & 1 for bit in range(8)], dtype=bool).reshape(2, 2, 2), spacing)


@pytest.mark.parametrize(("areas", "distance"), [((19.0, 1.0), 0), ((18.99, 1.01), 8)])
def test_a_percentile_includes_a_share_that_is_exactly_as_large(areas, distance):
    """Two elements: the first, at distance 0, has 95 % of the area, or hardly less."""
    places = np.array([[0, 0, 0], [4, 0, 0]])
    source, target = Surface(places, np.array(areas)), Surface(places[:1], np.array([1.0]))
    assert percentile_distance(source, target, (2.0, 1.0, 1.0)) == distance
    assert percentile_distance(target, source, (2.0, 1.0, 1.0)) == distance
