"""Paired tests of scores: Wilcoxon's signed rank, and Holm's correction for several tests."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DIGITS = 12  # decimals of a difference; rounding errors count as ties


def signed_rank(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test; 1 if all differences are zero.

    Zeros are dropped, as in Wilcoxon's paper. The p-value is exact for up to 13 differences, or up to 50 without ties;
    otherwise it is the normal approximation, corrected for ties.
    """
    from scipy.stats import wilcoxon

    nonzero = differences[differences != 0]
    return float(wilcoxon(nonzero, method="auto").pvalue) if len(nonzero) else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Apply Holm's step-down correction (1979): the k-th smallest of m p-values times m - k + 1, monotonic, at most 1.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    result = np.empty(len(order))
    result[order] = np.minimum(1, np.maximum.accumulate(steps))
    return [float(p) for p in result]
