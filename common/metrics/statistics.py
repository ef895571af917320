"""Statistics of scores: means with intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 9999  # bootstrap resamples of the cases
FEWEST = 10  # values for an interval; with 5 normal values it covers the mean in 84 % of samples, with 2 in 50 %


def describe(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, sample standard deviation, median, 95 % bootstrap interval of the mean, and number of values.

    Unknown statistics are None: the interval of fewer than `FEWEST` values, the deviation of one, the mean of none.
    """
    return {
        "mean": float(np.mean(values)) if len(values) else None,
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "median": float(np.median(values)) if len(values) else None,
        "ci95": list(mean_interval(values)) if len(values) >= FEWEST else None,
        "n": len(values),
    }


def mean_interval(values: ArrayLike) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean of at least two values (Efron, 1979)."""
    from scipy.stats import bootstrap  # imported here, since it takes half a second

    interval = bootstrap(
        (np.asarray(values),), np.mean, n_resamples=RESAMPLES, method="percentile", batch=100, rng=0
    ).confidence_interval
    return float(interval.low), float(interval.high)
