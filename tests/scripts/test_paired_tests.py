"""Paired tests of scores, against enumerations and figures worked out by hand."""

import itertools

import numpy as np
import pytest

from scripts.paired_tests import holm, signed_rank


@pytest.mark.parametrize("differences", [[1, -2, 0, 3, 4, 5], [0.5, 0.5, -0.25, 0.75], [1, 1, 1, 1, -1, 2, 2], [0, 0]])
def test_signed_rank_counts_all_signs(differences):
    """The share of all sign assignments whose rank sum is as far from its mean, times the ranks of tied sizes."""
    nonzero = np.array([difference for difference in differences if difference])
    sizes = np.abs(nonzero)
    ranks = np.array([(sizes < size).sum() + ((sizes == size).sum() + 1) / 2 for size in sizes])
    observed = abs(ranks[nonzero > 0].sum() - ranks.sum() / 2)
    assignments = itertools.product([0, 1], repeat=len(ranks))
    extreme = [abs(np.dot(signs, ranks) - ranks.sum() / 2) >= observed - 1e-9 for signs in assignments]
    assert signed_rank(np.array(differences)) == pytest.approx(np.mean(extreme))


def test_holm_adjusts_and_rejects_step_by_step():
    # by hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04, which may not fall below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
