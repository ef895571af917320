"""Compare evaluations of the same cases: paired differences and tests, and the ranking of BraTS."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from common.errors import InputError
from common.files import write_csv, write_json
from common.inference.reading import Evaluation, Values, read
from common.inference.results import mean_interval
from common.metrics.protocols import Protocol
from scripts.evaluate.folders import check_protocol, named_folders

TABLES = ("comparison.csv", "ranking.csv", "comparison.json")
PERMUTATIONS = 100_000  # of the rank differences; Bakas et al. 2018
DIGITS = 12  # decimals of a difference; rounding errors count as ties
WIDTH = 40  # characters of a name in a table


class PairedTest(NamedTuple):
    """The first system of a pair against the second; a row of comparison.csv.

    `difference` is the mean over cases, first minus second, with its 95 % bootstrap interval (NaN for a single case);
    `p_holm` is corrected for all tests of the comparison. For the cumulative rank, `region` is "all", `metric`
    "cumulative_rank" and `test` "permutation" instead of "wilcoxon".
    """

    first: str
    second: str
    region: str
    metric: str
    unit: str
    difference: float
    low: float
    high: float
    test: str
    p: float
    p_holm: float
    wins: int
    ties: int
    losses: int


class Place(NamedTuple):
    """A row of ranking.csv; `score` is the mean cumulative rank, 1 for a system that is first in everything."""

    place: int
    system: str
    score: float


class Comparison(NamedTuple):
    """The results of a comparison; `ranks` are cumulative ranks [systems, cases]."""

    systems: Mapping[str, Evaluation]
    tests: Sequence[PairedTest]
    ranking: Sequence[Place]
    ranks: NDArray[np.float64]


# Statistics


def compare(systems: Mapping[str, Evaluation]) -> Comparison:
    """Test all pairs of two or more systems on all metrics and cumulative ranks, and rank the systems."""
    protocol = next(iter(systems.values())).protocol
    points, count = cumulative_ranks([system.values for system in systems.values()], protocol)
    ranks = dict(zip(systems, points, strict=True))
    tests = []
    for first, second in combinations(systems, 2):
        for (region, metric), values in systems[first].values.items():
            differences = np.round(values - systems[second].values[region, metric], DIGITS)
            head = (first, second, region, metric, protocol.units[metric])
            p = signed_rank(differences)
            tests.append(_test(head, differences, "wilcoxon", p, more_is_better(protocol, metric)))
        differences = ranks[first] - ranks[second]
        head = (first, second, "all", "cumulative_rank", "rank")
        tests.append(_test(head, differences / count, "permutation", permuted(differences), rising=False))
    corrected = adjusted([test.p for test in tests])
    tests = [test._replace(p_holm=p) for test, p in zip(tests, corrected, strict=True)]
    totals = points.sum(axis=1)
    places = stats.rankdata(totals, method="min")
    scores = totals / (count * points.shape[1])
    ranking = sorted(Place(int(place), name, float(s)) for place, name, s in zip(places, systems, scores, strict=True))
    return Comparison(systems, tests, ranking, points / count)


def more_is_better(protocol: Protocol, metric: str) -> bool:
    """Whether higher is better: by the protocol for ranked metrics, otherwise true for shares."""
    return protocol.ranked.get(metric, protocol.units[metric] == "1")


def signed_rank(differences: NDArray[np.float64]) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test; 1 if all differences are zero.

    Zeros are left out, as in Wilcoxon's paper. The p-value is exact for up to 13 differences, or up to 50 without ties;
    otherwise it is the normal approximation, corrected for ties.
    """
    left = differences[differences != 0]
    return float(stats.wilcoxon(left, method="auto").pvalue) if len(left) else 1.0


def permuted(differences: NDArray[np.float64], seed: int = 0) -> float:
    """The two-sided p-value of a mean difference, by a permutation test that swaps the two systems in each case.

    All 2^n permutations of n differing cases are counted if there are at most `PERMUTATIONS`; otherwise that many are
    drawn. The p-value is 1 if fewer than two cases differ.
    """
    left = differences[differences != 0]  # swapping equal systems changes nothing
    if len(left) < 2:
        return 1.0
    draws = {"n_resamples": PERMUTATIONS, "batch": 1000, "rng": seed}
    tested = stats.permutation_test((left,), np.sum, permutation_type="samples", vectorized=True, **draws)
    return float(tested.pvalue)


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): the k-th smallest of m p-values times m - k + 1, made monotonic, at most 1.

    Example:
        >>> adjusted([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    result = np.empty(len(order))
    result[order] = np.minimum(1, np.maximum.accumulate(steps))
    return [float(p) for p in result]


def cumulative_ranks(systems: Sequence[Values], protocol: Protocol) -> tuple[NDArray[np.float64], int]:
    """Sum the ranks of the systems over regions and ranked metrics; rank 1 is best, and ties share their mean rank.

    Returns the sums [systems, cases] and the number of ranks in a sum; their quotient is the cumulative rank (Bakas et
    al. 2018). Sums are exact, because ranks are multiples of 0.5.
    """
    ranked = [(region, metric) for region, metric in systems[0] if metric in protocol.ranked]
    total = 0.0
    for region, metric in ranked:
        values = np.round([system[region, metric] for system in systems], DIGITS)
        total = total + stats.rankdata(-values if protocol.ranked[metric] else values, method="average", axis=0)
    return np.asarray(total), len(ranked)


def _test(
    head: tuple[str, str, str, str, str],
    differences: NDArray[np.float64],
    test: str,
    p: float,
    rising: bool,
) -> PairedTest:
    low, high = mean_interval(differences.tolist()) if len(differences) > 1 else (math.nan, math.nan)
    gains = differences if rising else -differences
    counts = (int(np.sum(gains > 0)), int(np.sum(gains == 0)), int(np.sum(gains < 0)))
    return PairedTest(*head, float(differences.mean()), low, high, test, p, math.nan, *counts)


# Reading


def read_all(folders: Sequence[str], names: str | Sequence[str] | None = None) -> dict[str, Evaluation]:
    """Read evaluations of the same cases by the same protocol, by the systems' names.

    Raises an InputError if folders or names are invalid, or if the evaluations differ in protocol, settings, cases or
    lesions of the references.
    """
    found = named_folders("compare", folders, names)
    systems = {name: read(folder) for name, folder in found.items()}
    first, *others = systems.values()
    for other in others:
        _check_alike(first, other)
    return systems


def _check_alike(first: Evaluation, other: Evaluation) -> None:
    check_protocol(first.folder, first.protocol, other.folder, other.protocol)
    if first.cases != other.cases:
        unpaired = sorted(set(first.cases) ^ set(other.cases))
        where = first.folder if unpaired[0] in first.cases else other.folder
        count = f"{len(unpaired)} cases are in one evaluation only, {unpaired[0]} in {where}"
        raise InputError(f"{other.folder}: {count}; expected the same cases as {first.folder}")
    if first.values.keys() != other.values.keys():
        raise InputError(f"{other.folder}: other regions than {first.folder}; expected the same regions")
    for region, counts in first.lesions.items():
        if other.lesions[region] != counts:
            found = f"{other.lesions[region][0]} lesions of {region} in the references"
            raise InputError(
                f"{other.folder}: {found}; expected {counts[0]}, as in {first.folder}: the same references"
            )


# Writing


def write(comparison: Comparison, folder: Path) -> None:
    """Write comparison.csv (the tests), ranking.csv, and comparison.json with everything."""
    for name, kind, rows in (
        ("comparison.csv", PairedTest, comparison.tests),
        ("ranking.csv", Place, comparison.ranking),
    ):
        write_csv(folder / name, [kind._fields, *([_cell(value) for value in row] for row in rows)])
    write_json(folder / "comparison.json", _content(comparison))


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    return value


def _content(comparison: Comparison) -> dict[str, Any]:
    first = next(iter(comparison.systems.values()))
    tests = [
        {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
        for row in (test._asdict() for test in comparison.tests)
    ]
    ranks = {
        name: dict(zip(first.cases, map(float, row), strict=True))
        for name, row in zip(comparison.systems, comparison.ranks, strict=True)
    }
    return {
        "protocol": first.protocol.name,
        **first.protocol.settings,
        "cases": len(first.cases),
        "systems": {name: system.folder for name, system in comparison.systems.items()},
        "missing": {name: list(system.missing) for name, system in comparison.systems.items()},
        "difference": "mean of first minus second, with its 95 % percentile bootstrap interval",
        "holm": f"over {len(tests)} tests: those of all pairs, regions and metrics, and of the pairs' cumulative ranks",
        "tests": tests,
        "ranked_metrics": list(first.protocol.ranked),
        "ranking": [place._asdict() for place in comparison.ranking],
        "cumulative_ranks": ranks,
    }


def lines(comparison: Comparison) -> list[str]:
    """The terminal output, in lines of at most 120 characters."""
    first = next(iter(comparison.systems.values()))
    cases = f"{len(first.cases)} {'case' if len(first.cases) == 1 else 'cases'}"
    text = [f"{cases} by {first.protocol.name}; Holm's correction over {len(comparison.tests)} tests"]
    for name, system in comparison.systems.items():
        if system.missing:
            text.append(f"{_short(name)}: {len(system.missing)} of {cases} without prediction, counted as empty")
    for pair in dict.fromkeys((test.first, test.second) for test in comparison.tests):
        text += ["", f"{_short(pair[0])} against {_short(pair[1])}"]
        head = f"{'region':<8}{'metric':<32}{'difference':>12}  {'95 % interval':<24}"
        text.append(f"{head}{'p':>9}{'Holm':>9}  win / tie / loss")
        text += [_line(test) for test in comparison.tests if (test.first, test.second) == pair]
    text += ["", f"{'rank':<6}{'system':<{WIDTH + 2}}{'score':>7}  mean cumulative rank: lower is better"]
    text += [f"{place.place:<6}{_short(place.system):<{WIDTH + 2}}{place.score:>7.3f}" for place in comparison.ranking]
    return text


def _line(test: PairedTest) -> str:
    metric = test.metric if test.unit in ("1", "rank") else f"{test.metric} {test.unit}"
    interval = "" if math.isnan(test.low) else f"[{test.low:.4g}, {test.high:.4g}]"
    figures = f"{test.difference:>+12.4g}  {interval:<24}{_p(test.p):>9}{_p(test.p_holm):>9}"
    return f"{test.region:<8}{metric:<32}{figures}  {test.wins} / {test.ties} / {test.losses}"


def _p(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def _short(name: str) -> str:
    return name if len(name) <= WIDTH else f"...{name[3 - WIDTH :]}"
