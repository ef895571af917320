"""Statistics of scores, against the standard library, enumerations and figures worked out by hand."""

import itertools
import statistics

import numpy as np
import pytest

from common.metrics.statistics import describe, holm, mean_interval, signed_rank


def test_statistics_are_those_of_the_standard_library():
    values = [0.1, 0.4, 0.35, 0.8, 0.0]
    summary = describe(values)
    assert summary["mean"] == pytest.approx(statistics.mean(values))
    assert summary["sd"] == pytest.approx(statistics.stdev(values))
    assert summary["median"] == statistics.median(values)
    assert summary["n"] == 5
    assert describe([0.5, 0.7])["sd"] == pytest.approx(statistics.stdev([0.5, 0.7]))
    assert describe([0.5]) == {"mean": 0.5, "sd": None, "median": 0.5, "ci95": None, "n": 1}
    assert describe([0.5] * 9)["ci95"] is None
    assert describe([0.5] * 10)["ci95"] == [0.5, 0.5]
    assert describe([]) == {"mean": None, "sd": None, "median": None, "ci95": None, "n": 0}


@pytest.mark.parametrize("values", [[0.2, 0.9, 0.4, 0.45], [3, 3, 3]])
def test_an_interval_agrees_with_all_resamples(values):
    """The 2.5 and 97.5 % points of the means of all n^n resamples, within the error of 9999 drawn ones."""
    means = np.sort([np.mean(drawn) for drawn in itertools.product(values, repeat=len(values))])
    low, high = mean_interval(values)
    assert (low, high) == mean_interval(tuple(values))
    slack = 0.006  # four standard errors of a share of 2.5 % among 9999

    def quantile(share):
        return np.quantile(means, share, method="inverted_cdf")

    assert quantile(0.025 - slack) - 1e-12 <= low <= quantile(0.025 + slack) + 1e-12
    assert quantile(0.975 - slack) - 1e-12 <= high <= quantile(0.975 + slack) + 1e-12


@pytest.mark.parametrize(
    "differences", [[1.0, 2, 3], [1, -2, 3, 4, 5], [0.5, 0.5, -0.25, 0.75], [1, 1, 1, 1, -1, 2, 2]]
)
def test_signed_rank_counts_all_signs(differences):
    """The share of all sign assignments whose rank sum is as far from its mean, times the ranks of tied sizes."""
    sizes = np.abs(differences)
    ranks = np.array([(sizes < size).sum() + ((sizes == size).sum() + 1) / 2 for size in sizes])
    observed = abs(ranks[np.array(differences) > 0].sum() - ranks.sum() / 2)
    assignments = itertools.product([0, 1], repeat=len(ranks))
    extreme = [abs(np.dot(signs, ranks) - ranks.sum() / 2) >= observed - 1e-9 for signs in assignments]
    assert signed_rank(np.array(differences)) == pytest.approx(np.mean(extreme))


def test_signed_rank_leaves_zeros_out():
    differences = np.array([1.0, -2, 3, 4, 5])
    assert signed_rank(np.concatenate([differences, np.zeros(100)])) == signed_rank(differences)
    assert signed_rank(np.zeros(5)) == 1


def test_holm_adjusts_and_rejects_step_by_step():
    # by hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04, which may not fall below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    # at each level: the smallest p-values one by one, each against level / (number left), until one fails
    generator = np.random.default_rng(0)
    for _ in range(50):
        p_values = generator.uniform(0, 0.1, 8) ** 2
        corrected = np.array(holm(p_values))
        for level in (0.001, 0.01, 0.05):
            rejected = set()
            for step, index in enumerate(np.argsort(p_values)):
                if p_values[index] > level / (8 - step):
                    break
                rejected.add(index)
            assert set(np.flatnonzero(corrected <= level)) == rejected
