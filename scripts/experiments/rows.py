"""Runs, scores by case, and statistics for a row of a table."""

import math
import warnings
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
from common.metrics.cards import DICE, PRESENT, Scores
from common.metrics.statistics import DIGITS, FEWEST, RESAMPLES
from scripts.experiments.engine import OpenStudy
from scripts.experiments.jobs import StudyJob
from scripts.experiments.study import ROW_KEYS

RowScores = Mapping[str, ArrayLike]  # case -> scores [regions], NaN for regions that do not count


@dataclass(frozen=True)
class RowRun:
    """A training run in a table row: its scores in a single metric, or the reason for missing scores.

    `reason` also explains stale scores; `record` is the training run's run.json, `page` the evaluation's page.
    """

    values: Mapping[str, Any]
    scores: RowScores | None
    reason: str
    is_stale: bool
    record: Path | None
    page: Path | None


def select(row: Mapping[str, Any], jobs: Mapping[str, StudyJob]) -> list[StudyJob]:
    """Return the training jobs that a table row averages: those of its entry in the study, with its axis values."""
    fixed = {axis: value for axis, value in row.items() if axis not in ROW_KEYS}
    return [
        job
        for job in jobs.values()
        if job.entry == row["run"]
        and not job.is_evaluation
        and all(job.values.get(axis) == value for axis, value in fixed.items())
    ]


def runs_of(row: Mapping[str, Any], study: OpenStudy, metric: str) -> list[RowRun]:
    """Return the training runs of a table row, stale runs included, with their scores (see `scores_of`)."""
    return [_run(job, study, metric) for job in select(row, study.jobs)]


def _run(job: StudyJob, study: OpenStudy, metric: str) -> RowRun:
    name = f"{job.name}/evaluation"
    folder, state = study.jobs[name].results, study.states[name]
    scores, reason = None, _reason(name, study)
    if state.name in ("done", "stale"):
        try:
            scores = scores_of(_read(folder), metric)
        except InputError as error:
            reason = f"unreadable: {error}"
    is_stale = scores is not None and state.name == "stale"
    record, page = (path if path.is_file() else None for path in (job.results / "eval" / "run.json", folder / PAGE))
    return RowRun(job.values, scores, reason, is_stale, record, page)


def evaluated_runs(study: OpenStudy) -> dict[str, tuple[RowRun, float]]:
    """Return each run that the study evaluates, with its mean Dice; the highest first, runs without scores last."""
    runs = [job for job in study.jobs.values() if f"{job.name}/evaluation" in study.jobs]
    scored = {job.name: _run(job, study, DICE.name) for job in runs}
    means = {name: math.nan if run.scores is None else estimate([run.scores]) for name, run in scored.items()}
    best_first = sorted(scored, key=lambda name: (math.isnan(means[name]), -means[name]))
    return {name: (scored[name], means[name]) for name in best_first}


_read = cache(read)  # a table can have several metrics


def _reason(name: str, study: OpenStudy) -> str:
    """Return why a job is not done, or ""; a missing job is explained by the first unfinished job that it needs."""
    state = study.states[name]
    if state.name == "done":
        return ""
    if state.name == "missing":
        for need in study.jobs[name].needs:
            reason = _reason(need, study)
            if reason.startswith("missing: "):
                return reason
            if reason and study.states[need].name not in ("missing", "stale"):
                return f"missing: {need} {reason}"
    return f"{state.name}: {state.reason}" if state.reason else state.name


# Statistics


def scores_of(evaluation: Details, metric: str) -> dict[str, NDArray[np.float64]]:
    """Return the scores [regions] of each case in a metric; `dice_present` is NaN for absent regions.

    Raise InputError if the evaluation lacks the metric.
    """
    measured, protocol = DICE.name if metric == PRESENT else metric, evaluation.protocol
    if measured not in protocol.units:
        raise InputError(f"{evaluation.name}: no {measured}; expected a metric of the protocol {protocol.name}")

    def value(scores: Scores) -> float:
        return math.nan if metric == PRESENT and not scores.is_present else scores.values[measured]

    scored = evaluation.scores.items()
    return {case: np.array([value(scores[name]) for name in evaluation.regions]) for case, scores in scored}


def estimate(runs: Sequence[RowScores]) -> float:
    """Return the mean of the runs' scores, as the paper averages folds and subsets.

    In each run, each region is averaged over the cases in which it counts; then the regions are averaged.
    """
    return float(np.mean(_scores_of_runs(runs)))


def spread(runs: Sequence[RowScores]) -> float:
    """Return the sample standard deviation of the runs' scores; NaN for a single run."""
    return float(np.std(_scores_of_runs(runs), ddof=1)) if len(runs) > 1 else math.nan


def interval(runs: Sequence[RowScores]) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of `estimate`: cases are resampled, runs are not.

    Runs on the same test cases (seeds, subsets) are averaged case by case before resampling. Different test sets
    (folds) are resampled separately, as if independent even if they overlap, and weighted by their numbers of runs.
    The bounds are NaN with fewer than `FEWEST` cases, or a single case in a test set.
    """
    from scipy.stats import bootstrap  # late import: takes 0.5 s

    sets: dict[tuple[str, ...], list[RowScores]] = {}
    for scores in runs:
        sets.setdefault(tuple(sorted(scores)), []).append(scores)
    values = [np.mean([_array(scores, cases) for scores in group], axis=0) for cases, group in sets.items()]
    weights = [len(group) / len(runs) for group in sets.values()]
    indices = [np.arange(len(cases)) for cases in sets]
    if min(map(len, indices)) < 2 or sum(map(len, indices)) < FEWEST:
        return math.nan, math.nan

    def mean(*drawn: NDArray[np.int64], axis: int = -1) -> Any:
        """Return the mean of each resample; `drawn` holds case indices [resamples, cases] for each test set."""
        parts = zip(weights, values, drawn, strict=True)
        return sum(weight * _score(scores_of_set[:, at.astype(int)]) for weight, scores_of_set, at in parts)

    result = bootstrap(indices, mean, n_resamples=RESAMPLES, method="percentile", batch=100, vectorized=True, rng=0)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


class RowContrast(NamedTuple):
    """The comparison of two table rows on the cases that both have: the gain in score; unknown numbers are NaN.

    `cases` counts them, `trainings` the runs of each row. `gain` is the first row's score minus the second's, with its
    95 % interval and two-sided p-value over training runs and cases.
    """

    cases: int
    trainings: tuple[int, int]
    gain: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan


def contrast(ours: Sequence[RowScores], others: Sequence[RowScores]) -> RowContrast:
    """Compare two table rows on the cases that both have: the gain in score, its confidence interval and p-value.

    With several test sets (folds), Student's t tests the mean of the sets' gains. With a single test set, Student's t
    has (runs of both rows - 2) degrees of freedom, and a bootstrap gives the standard error: the standard deviation of
    resampled gains. A sample draws all n cases with replacement, and from each row one run fewer than it has, so that
    the variance of the mean is unbiased (McCarthy and Snowden 1985, The bootstrap and finite population sampling). If
    a row has only one run, there is no test, because the effect of the seed is unknown.
    """
    from scipy.stats import t, ttest_1samp  # late import: takes 0.5 s

    first, second = (_by_set(runs, _counted_cases(ours) & _counted_cases(others)) for runs in (ours, others))
    sets = sorted(first.keys() & second.keys())
    if not sets:
        return RowContrast(0, (0, 0), math.nan)
    pairs = [(np.stack(first[cases]), np.stack(second[cases])) for cases in sets]
    gains = [float(_score(mine.mean(axis=0)) - _score(other.mean(axis=0))) for mine, other in pairs]
    gain = float(np.mean(gains))
    trainings = sum(len(mine) for mine, _ in pairs), sum(len(other) for _, other in pairs)
    result = RowContrast(len({case for cases in sets for case in cases}), trainings, gain)
    if len(sets) > 1:
        if np.ptp(gains) < 10.0**-DIGITS:  # equal gains give no error estimate
            return result
        test = ttest_1samp(gains, 0)
        low, high = test.confidence_interval(0.95)
        return result._replace(low=float(low), high=float(high), p=float(test.pvalue))
    if min(trainings) < 2 or result.cases < FEWEST:
        return result
    error = float(np.std(_resampled_gains(*pairs[0], np.random.default_rng(0)), ddof=1))
    if error < 10.0**-DIGITS:
        return result
    freedom = sum(trainings) - 2
    margin = float(t.ppf(0.975, freedom)) * error
    return result._replace(low=gain - margin, high=gain + margin, p=float(2 * t.sf(abs(gain) / error, freedom)))


def _counted_cases(runs: Sequence[RowScores]) -> set[str]:
    """Return the cases that count in at least one region."""
    return {case for scores in runs for case, values in scores.items() if not np.isnan(values).all()}


def _by_set(runs: Sequence[RowScores], allowed: Set[str]) -> dict[tuple[str, ...], list[NDArray[np.float64]]]:
    """Return the runs' scores [regions, cases] by test set, restricted to the allowed cases."""
    by_set: dict[tuple[str, ...], list[NDArray[np.float64]]] = {}
    for scores in runs:
        if cases := tuple(sorted(scores.keys() & allowed)):
            by_set.setdefault(cases, []).append(_array(scores, cases))
    return by_set


def _resampled_gains(mine: NDArray[np.float64], other: NDArray[np.float64], draw: np.random.Generator) -> list[float]:
    """Return the gains of `RESAMPLES` bootstrap samples of the scores [runs, regions, cases] of two rows."""
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
    """Return the scores of cases as an array [regions, cases]."""
    return np.array([scores[case] for case in cases], dtype=float).T


def _score(values: NDArray[np.float64]) -> Any:
    """Return the mean over the cases (last axis), then over the regions (first axis), without NaN."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # a region without a case that counts
        return np.nanmean(np.nanmean(values, axis=-1), axis=0)
