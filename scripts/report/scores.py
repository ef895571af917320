"""Statistics of the scores in a run's record: means by region, best and worst cases."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["exemplars", "finite", "mean", "region_statistics"]


def region_statistics(scores: dict[str, Any]) -> list[dict[str, Any]]:
    """Mean, sample standard deviation (`sd`), median, extremes and number of finite scores, one row per region.

    `mean_present` and `n_present` are the mean over the cases whose reference has the region and their number, as the
    run recorded them. Undefined statistics are NaN: all without a score, `sd` with a single score, `mean_present`
    without such a case; what an older run did not record is NaN and None.
    """
    means, counts = (scores.get(name, {}) for name in ("mean_present", "n_present"))
    rows = []
    for region in scores["regions"]:
        values = finite(case.get(region) for case in scores["cases"].values())
        row: dict[str, Any] = {"region": region, "n": len(values)}
        for name, function in (("mean", np.mean), ("median", np.median), ("min", np.min), ("max", np.max)):
            row[name] = float(function(values)) if len(values) else math.nan
        row["sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        row |= {"mean_present": mean([means.get(region)]), "n_present": counts.get(region)}
        rows.append(row)
    return rows


def exemplars(scores: dict[str, Any]) -> dict[str, str]:
    """The best, the median and the worst case by the mean over its regions, each case once.

    The median of an even number of cases is the worse of the two in the middle. Cases without a finite score are
    skipped.
    """
    means = {case: mean(values.values()) for case, values in scores["cases"].items()}
    ranked = sorted((value, case) for case, value in means.items() if not math.isnan(value))
    last = len(ranked) - 1
    places = {"Best": last, "Median": last // 2, "Worst": 0} if last >= 2 else {"Best": last, "Worst": 0}
    chosen: dict[str, str] = {}
    for label, place in places.items():
        if ranked and ranked[place][1] not in chosen.values():
            chosen[label] = ranked[place][1]
    return chosen


def finite(values: Any) -> NDArray[np.float64]:
    """The finite values, without None and NaN."""
    array = np.array([math.nan if value is None else value for value in values], dtype=float)
    return array[np.isfinite(array)]


def mean(values: Any) -> float:
    """The mean of the finite values, NaN if there are none."""
    known = finite(values)
    return float(known.mean()) if len(known) else math.nan
