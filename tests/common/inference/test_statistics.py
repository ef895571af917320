"""Statistics of scores, against the standard library, enumerations and figures worked out by hand."""

import itertools
import statistics

import numpy as np
import pytest

from common.inference.evaluation import describe, mean_interval


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
