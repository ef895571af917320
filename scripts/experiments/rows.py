"""The runs of a table's row, their scores by case, and statistics of the scores."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import InputError
from common.inference.publishing import PAGE
from common.inference.reading import read
from common.inference.results import Details
from common.metrics.cards import PRESENT, Scores
from common.metrics.statistics import DIGITS, RESAMPLES
from scripts.experiments.engine import OpenStudy
from scripts.experiments.jobs import StudyJob
from scripts.experiments.study import ROW_KEYS

RowScores = Mapping[str, ArrayLike]  # by case: [regions], NaN for regions that do not count; or a number


@dataclass(frozen=True)
class RowRun:
    """A run of a row: its scores in a single metric, or the reason why it has none.

    `reason` also explains stale scores; `record` is the training's run.json, `page` the evaluation's page.
    """

    values: Mapping[str, Any]
    scores: RowScores | None
    reason: str
    is_stale: bool
    record: Path | None
    page: Path | None


def select(row: Mapping[str, Any], jobs: Mapping[str, StudyJob]) -> list[StudyJob]:
    """The runs of a row's entry that have the row's values, without their evaluations."""
    fixed = {axis: value for axis, value in row.items() if axis not in ROW_KEYS}
    return [
        job
        for job in jobs.values()
        if job.entry == row["run"]
        and not job.is_evaluation
        and all(job.values.get(axis) == value for axis, value in fixed.items())
    ]


def runs_of(row: Mapping[str, Any], study: OpenStudy, metric: str) -> list[RowRun]:
    """The runs of a table's row with their scores (see `scores_of`), stale runs included."""
    return [_run(job, study, metric) for job in select(row, study.jobs)]


def _run(job: StudyJob, study: OpenStudy, metric: str) -> RowRun:
    name = f"{job.name}/evaluation"
    folder, state = study.jobs[name].results, study.states[name]
    scores, reason = None, _why(name, study)
    if state.name in ("done", "stale"):
        try:
            scores = scores_of(_read(folder), metric)
        except InputError as error:
            reason = f"unreadable: {error}"
    is_stale = scores is not None and state.name == "stale"
    record, page = (path if path.is_file() else None for path in (job.results / "eval" / "run.json", folder / PAGE))
    return RowRun(job.values, scores, reason, is_stale, record, page)


_read = cache(read)  # a table can have several metrics


def _why(name: str, study: OpenStudy) -> str:
    """A job's state if it is not done; a missing job also names the first job that it waits for in vain."""
    state = study.states[name]
    if state.name == "done":
        return ""
    if state.name == "missing":
        for need in study.jobs[name].needs:
            reason = _why(need, study)
            if reason.startswith("missing: "):
                return reason
            if reason and study.states[need].name not in ("missing", "stale"):
                return f"missing: {need} {reason}"
    return f"{state.name}: {state.reason}" if state.reason else state.name


# Statistics


def scores_of(evaluation: Details, metric: str) -> dict[str, NDArray[np.float64]]:
    """A metric of each case in each region; `dice_present` is NaN where the region is absent.

    Raises an InputError if the evaluation lacks the metric.
    """
    measured, protocol = "dice" if metric == PRESENT else metric, evaluation.protocol
    if measured not in protocol.units:
        raise InputError(f"{evaluation.name}: no {measured}; expected a metric of the protocol {protocol.name}")

    def value(scores: Scores) -> float:
        return math.nan if metric == PRESENT and not scores.is_present else scores.values[measured]

    scored = evaluation.scores.items()
    return {case: np.array([value(scores[name]) for name in evaluation.regions]) for case, scores in scored}


def estimate(runs: Sequence[RowScores]) -> float:
    """The mean of the runs' scores, as the paper averages folds and subsets.

    A run's score is the mean over regions of each region's mean over the cases in which it counts.
    """
    return float(np.mean(_scores_of_runs(runs)))


def spread(runs: Sequence[RowScores]) -> float:
    """The sample standard deviation of the runs' scores; NaN for a single run."""
    return float(np.std(_scores_of_runs(runs), ddof=1)) if len(runs) > 1 else math.nan


def interval(runs: Sequence[RowScores], seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of `estimate` over cases; the runs are fixed.

    Runs on the same test cases (seeds, subsets) are averaged case by case before resampling. Different test sets
    (folds) are resampled separately and weighted by their numbers of runs, as if independent even where they overlap.
    The interval is NaN if a test set has only one case.
    """
    from scipy.stats import bootstrap  # late import: takes 0.5 s

    sets: dict[tuple[str, ...], list[RowScores]] = {}
    for scores in runs:
        sets.setdefault(tuple(sorted(scores)), []).append(scores)
    values = [np.mean([_array(scores, cases) for scores in found], axis=0) for cases, found in sets.items()]
    weights = [len(found) / len(runs) for found in sets.values()]
    places = [np.arange(len(cases)) for cases in sets]
    if min(map(len, places)) < 2:
        return math.nan, math.nan

    def mean(*drawn: NDArray[np.int64], axis: int = -1) -> Any:
        """Takes case indices [resamples, cases] for each test set."""
        of_sets = zip(weights, values, drawn, strict=True)
        return sum(weight * _score(of_set[:, at.astype(int)]) for weight, of_set, at in of_sets)

    found = bootstrap(places, mean, n_resamples=RESAMPLES, method="percentile", batch=100, vectorized=True, rng=seed)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


class RowContrast(NamedTuple):
    """The comparison of two rows on the `cases` that both have; unknown numbers are NaN.

    `trainings` counts the runs of each row. `gain` is the first row's score minus the second's, with its 95 % interval
    and two-sided p-value over trainings and cases.
    """

    cases: int
    trainings: tuple[int, int]
    gain: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan


def contrast(ours: Sequence[RowScores], others: Sequence[RowScores], seed: int = 0) -> RowContrast:
    """Compare two rows on the cases that both have, over trainings and cases.

    Different test sets (folds) give one gain each, and Student's t tests their mean. On a single test set, a bootstrap
    draws all n cases, and one training fewer than each row has, which makes the variance of their mean unbiased
    (McCarthy and Snowden 1985, The bootstrap and finite population sampling). The standard deviation of the drawn gains
    is the error in Student's t, with the trainings' degrees of freedom. A single test set with one training in a row
    cannot be tested: the effect of the seed is unknown.
    """
    from scipy.stats import t, ttest_1samp  # late import: takes 0.5 s

    first, second = (_by_set(runs, _counting(ours) & _counting(others)) for runs in (ours, others))
    sets = sorted(first.keys() & second.keys())
    if not sets:
        return RowContrast(0, (0, 0), math.nan)
    pairs = [(np.stack(first[cases]), np.stack(second[cases])) for cases in sets]
    gains = [float(_score(mine.mean(axis=0)) - _score(other.mean(axis=0))) for mine, other in pairs]
    gain = float(np.mean(gains))
    trainings = sum(len(mine) for mine, _ in pairs), sum(len(other) for _, other in pairs)
    known = RowContrast(len({case for cases in sets for case in cases}), trainings, gain)
    if len(sets) > 1:
        if np.ptp(gains) < 10.0**-DIGITS:  # equal gains give no error estimate
            return known
        found = ttest_1samp(gains, 0)
        low, high = found.confidence_interval(0.95)
        return known._replace(low=float(low), high=float(high), p=float(found.pvalue))
    if min(trainings) < 2 or known.cases < 2:
        return known
    error = float(np.std(_drawn(*pairs[0], np.random.default_rng(seed)), ddof=1))
    if error < 10.0**-DIGITS:
        return known
    freedom = sum(trainings) - 2
    margin = float(t.ppf(0.975, freedom)) * error
    return known._replace(low=gain - margin, high=gain + margin, p=float(2 * t.sf(abs(gain) / error, freedom)))


def _counting(runs: Sequence[RowScores]) -> set[str]:
    """The cases that count in at least one region."""
    return {
        case for scores in runs for case, value in scores.items() if not np.isnan(np.asarray(value, dtype=float)).all()
    }


def _by_set(runs: Sequence[RowScores], known: Set[str]) -> dict[tuple[str, ...], list[NDArray[np.float64]]]:
    """The runs' scores [regions, cases] by test set, restricted to the known cases."""
    found: dict[tuple[str, ...], list[NDArray[np.float64]]] = {}
    for scores in runs:
        if cases := tuple(sorted(scores.keys() & known)):
            found.setdefault(cases, []).append(_array(scores, cases))
    return found


def _drawn(mine: NDArray[np.float64], other: NDArray[np.float64], draw: np.random.Generator) -> list[float]:
    """Gains of `RESAMPLES` bootstrap draws from scores [trainings, regions, cases]."""
    count = mine.shape[-1]
    gains = []
    for _ in range(RESAMPLES):
        cases = draw.integers(count, size=count)
        means = [
            _score(arm[draw.integers(len(arm), size=len(arm) - 1)][..., cases].mean(axis=0)) for arm in (mine, other)
        ]
        gains.append(float(means[0] - means[1]))
    return gains


def _scores_of_runs(runs: Sequence[RowScores]) -> list[float]:
    return [float(_score(_array(scores, list(scores)))) for scores in runs]


def _array(scores: RowScores, cases: Sequence[str]) -> NDArray[np.float64]:
    """The scores of cases as an array [regions, cases]."""
    return np.array([np.atleast_1d(np.asarray(scores[case], dtype=float)) for case in cases]).T


def _score(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the cases (last axis), then over the regions (first axis)."""
    return _mean(np.moveaxis(_mean(values), 0, -1))


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the last axis without NaN; NaN if all values are."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0).sum(axis=-1)
    return np.divide(total, count, out=np.full(np.shape(total), math.nan), where=count > 0)
