"""Compare evaluations of the same cases: paired differences and tests, and the ranking of BraTS."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from common.errors import InputError, aligned, shortened
from common.files import write_csv
from common.inference.reading import read
from common.inference.results import Details
from common.metrics.cards import Protocol, Scores
from common.metrics.statistics import FEWEST, mean_interval
from scripts.evaluate.folders import check_protocol
from scripts.paired_tests import DIGITS, holm, signed_rank

TABLES = ("comparison.csv", "ranking.csv")


class PairedTest(NamedTuple):
    """Comparison of two systems in a single region and metric; a row of comparison.csv.

    `difference` is the mean over cases, first minus second, with a 95 % bootstrap interval (NaN below `FEWEST`);
    `p` is Wilcoxon's p-value, `p_holm` the p-value corrected for all tests of the comparison.
    """

    first: str
    second: str
    region: str
    metric: str
    unit: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    wins: int
    ties: int
    losses: int


class Rank(NamedTuple):
    """A row of ranking.csv; `score` is the mean cumulative rank, 1 for a system that is always first."""

    place: int
    system: str
    score: float


class Comparison(NamedTuple):
    """The compared systems by name, and the rows of comparison.csv and ranking.csv in order."""

    systems: Mapping[str, Details]
    tests: Sequence[PairedTest]
    ranking: Sequence[Rank]


def compare(systems: Mapping[str, Details]) -> Comparison:
    """Test all pairs of two or more systems in every region and metric, and rank the systems."""
    protocol = next(iter(systems.values())).protocol
    values = {name: system.values for name, system in systems.items()}
    tests = []
    for first, second in combinations(systems, 2):
        for (region, metric), ours in values[first].items():
            differences = np.round(ours - values[second][region, metric], DIGITS)
            low, high = mean_interval(differences) if len(differences) >= FEWEST else (math.nan, math.nan)
            gains = differences if protocol.metric(metric).more_is_better else -differences
            counts = (int(np.sum(gains > 0)), int(np.sum(gains == 0)), int(np.sum(gains < 0)))
            figures = float(differences.mean()), low, high, signed_rank(differences), math.nan
            tests.append(PairedTest(first, second, region, metric, protocol.units[metric], *figures, *counts))
    corrected = holm([test.p for test in tests])
    tests = [test._replace(p_holm=p) for test, p in zip(tests, corrected, strict=True)]
    scores = cumulative_ranks(list(values.values()), protocol).mean(axis=1)
    ranks = rankdata(np.round(scores, DIGITS), method="min")
    ranking = sorted(Rank(int(rank), name, float(s)) for rank, name, s in zip(ranks, systems, scores, strict=True))
    return Comparison(systems, tests, ranking)


def cumulative_ranks(
    systems: Sequence[Mapping[tuple[str, str], NDArray[np.float64]]], protocol: Protocol
) -> NDArray[np.float64]:
    """Return cumulative ranks [systems, cases]: mean ranks over regions and ranked metrics (Bakas et al. 2018).

    Rank 1 is best, and ties share their mean rank.
    """
    ranks = []
    for region, metric in systems[0]:
        if (definition := protocol.metric(metric)).ranks:
            values = np.round([system[region, metric] for system in systems], DIGITS)
            ranks.append(rankdata(-values if definition.more_is_better else values, method="average", axis=0))
    return np.mean(ranks, axis=0)


def read_all(folders: Mapping[str, Path]) -> dict[str, Details]:
    """Read evaluations of the same cases by the same protocol; return them by system name.

    Raise InputError if the evaluations differ in protocol, settings, cases, regions, reference volumes or lesions.
    """
    systems = {name: read(folder) for name, folder in folders.items()}
    (name, first), *others = systems.items()
    for other, details in others:
        _check_alike(folders[name], first, folders[other], details)
    return systems


def _check_alike(folder: Path, first: Details, path: Path, other: Details) -> None:
    check_protocol(folder, first.protocol, path, other.protocol)
    if first.scores.keys() != other.scores.keys():
        unpaired = sorted(first.scores.keys() ^ other.scores.keys())
        where = folder if unpaired[0] in first.scores else path
        count = f"{len(unpaired)} cases occur in only one of the two evaluations, such as {unpaired[0]} in {where}"
        raise InputError(f"{path}: {count}; expected the same cases as {folder}")
    if first.regions != other.regions:
        raise InputError(f"{path}: regions differ from those of {folder}")
    for case, region in product(first.scores, first.regions):
        expected, actual = (_reference(details.scores[case][region]) for details in (first, other))
        if actual != expected:
            text = f"{region} in the reference of {case}: {shortened(actual)}"
            raise InputError(f"{path}: {text}; expected {shortened(expected)}, as in {folder}: the same references")


def _reference(scores: Scores) -> list[str]:
    """Describe the reference of a region: the volume, and the centre of each lesion."""
    centres = sorted(lesion.centre for lesion in scores.lesions if lesion.is_reference)
    return [f"{scores.volumes[1]:.5g} mm3", *(f"a lesion at {centre}" for centre in centres)]


def write(comparison: Comparison, folder: Path) -> None:
    """Write comparison.csv (the tests) and ranking.csv."""
    write_csv(folder / TABLES[0], [PairedTest._fields, *comparison.tests])
    write_csv(folder / TABLES[1], [Rank._fields, *comparison.ranking])


def lines(comparison: Comparison) -> list[str]:
    """Return a comparison as lines for the terminal."""
    first = next(iter(comparison.systems.values()))
    cases = f"{len(first.scores)} {'case' if len(first.scores) == 1 else 'cases'}"
    text = [f"{cases} by {first.protocol.name}; Holm's correction over {len(comparison.tests)} tests"]
    for name, system in comparison.systems.items():
        if system.missing:
            text.append(f"{name}: {len(system.missing)} of {cases} without prediction, counted as empty")
    for pair in dict.fromkeys((test.first, test.second) for test in comparison.tests):
        head = ("region", "metric", "difference", "95 % interval", "p", "Holm", "win / tie / loss")
        tests = [_row(test) for test in comparison.tests if (test.first, test.second) == pair]
        text += ["", f"{pair[0]} against {pair[1]}", *aligned([head, *tests], right=(2, 4, 5))]
    places = [(row.place, f"{row.score:.3f}", row.system) for row in comparison.ranking]
    return [
        *text,
        "",
        *aligned([("rank", "score", "system (mean cumulative rank: lower is better)"), *places], right=(1,)),
    ]


def _row(test: PairedTest) -> tuple[str, ...]:
    metric = test.metric if test.unit == "1" else f"{test.metric} {test.unit}"
    interval = "" if math.isnan(test.low) else f"[{test.low:.4g}, {test.high:.4g}]"
    p, corrected = ("< 0.0001" if value < 0.0001 else f"{value:.4f}" for value in (test.p, test.p_holm))
    counts = f"{test.wins} / {test.ties} / {test.losses}"
    return test.region, metric, f"{test.difference:+.4g}", interval, p, corrected, counts
