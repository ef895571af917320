"""`common.metrics.measures` against their definitions; the masks and spacings that every protocol takes and refuses."""

import pickle

import numpy as np
import pytest
import torch

from common.metrics.measures import dice, hd95, spacing_of
from common.metrics.protocols import PROTOCOLS, protocol
from tests.oracles import surfaces, volumes
from tests.oracles.masks import KINDS, SHAPE, box, cube, pairs
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


def snapshot(masks):
    return pickle.dumps([mask.tolist() if isinstance(mask, torch.Tensor) else mask for mask in masks])


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_of_array_gives_the_same_scores_unchanged(kind, expected):
    pair = [KINDS[kind](mask) for mask in (PREDICTION, REFERENCE)]
    before = snapshot(pair)
    assert [measure(*pair, FLAT) for measure in SPATIAL] == expected
    assert dice(*pair) == volumes.dice(PREDICTION, REFERENCE)
    assert before == snapshot(pair)


@pytest.mark.parametrize("edges", [(0.7, 1.1, 3.0), (1.0547, 0.46875, 2.000001)])
def test_the_spacing_of_an_affine_in_single_precision_is_the_shortest_decimal(edges):
    assert spacing_of(oblique(edges).astype(np.float32)) == spacing_of(np.diag([*edges, 1]).astype("f4")) == edges
