"""Compare evaluations of the same cases: paired differences and tests, and the ranking of BraTS."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from common.errors import InputError, shortened
from common.files import write_csv
from common.inference.reading import read
from common.inference.results import Details
from common.metrics.cards import Protocol, Scores
from common.metrics.statistics import DIGITS, holm, mean_interval, signed_rank
from scripts.evaluate.folders import check_protocol

TABLES = ("comparison.csv", "ranking.csv")


class PairedTest(NamedTuple):
    """The first system of a pair against the second; a row of comparison.csv.

    `difference` is the mean over cases, first minus second, with its 95 % bootstrap interval (NaN for a single case);
    `p` is Wilcoxon's, and `p_holm` is corrected for all tests of the comparison.
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


class Place(NamedTuple):
    """A row of ranking.csv; `score` is the mean cumulative rank, 1 for a system that is first in everything."""

    place: int
    system: str
    score: float


class Comparison(NamedTuple):
    """The results of a comparison, both tables in order."""

    systems: Mapping[str, Details]
    tests: Sequence[PairedTest]
    ranking: Sequence[Place]


def compare(systems: Mapping[str, Details]) -> Comparison:
    """Test all pairs of two or more systems on all metrics, and rank the systems."""
    protocol = next(iter(systems.values())).protocol
    values = {name: system.values for name, system in systems.items()}
    tests = []
    for first, second in combinations(systems, 2):
        for (region, metric), ours in values[first].items():
            differences = np.round(ours - values[second][region, metric], DIGITS)
            low, high = mean_interval(differences) if len(differences) > 1 else (math.nan, math.nan)
            gains = differences if protocol.figure(metric).more_is_better else -differences
            counts = (int(np.sum(gains > 0)), int(np.sum(gains == 0)), int(np.sum(gains < 0)))
            figures = float(differences.mean()), low, high, signed_rank(differences), math.nan
            tests.append(PairedTest(first, second, region, metric, protocol.units[metric], *figures, *counts))
    corrected = holm([test.p for test in tests])
    tests = [test._replace(p_holm=p) for test, p in zip(tests, corrected, strict=True)]
    scores = cumulative_ranks(list(values.values()), protocol).mean(axis=1)
    places = rankdata(np.round(scores, DIGITS), method="min")
    ranking = sorted(Place(int(place), name, float(s)) for place, name, s in zip(places, systems, scores, strict=True))
    return Comparison(systems, tests, ranking)


def cumulative_ranks(
    systems: Sequence[Mapping[tuple[str, str], NDArray[np.float64]]], protocol: Protocol
) -> NDArray[np.float64]:
    """The cumulative ranks [systems, cases]: the mean of the ranks over regions and ranked metrics (Bakas et al. 2018).

    Rank 1 is best, and ties share their mean rank.
    """
    ranks = []
    for region, metric in systems[0]:
        if (figure := protocol.figure(metric)).ranks:
            values = np.round([system[region, metric] for system in systems], DIGITS)
            ranks.append(rankdata(-values if figure.more_is_better else values, method="average", axis=0))
    return np.mean(ranks, axis=0)


def read_all(folders: Mapping[str, Path]) -> dict[str, Details]:
    """Read evaluations of the same cases by the same protocol, by the systems' names.

    Raises an InputError if they differ in protocol, settings, cases, regions or lesions of the references.
    """
    systems = {name: read(folder) for name, folder in folders.items()}
    (name, first), *others = systems.items()
    for other, found in others:
        _check_alike(folders[name], first, folders[other], found)
    return systems


def _check_alike(folder: Path, first: Details, place: Path, other: Details) -> None:
    check_protocol(folder, first.protocol, place, other.protocol)
    if first.scores.keys() != other.scores.keys():
        unpaired = sorted(first.scores.keys() ^ other.scores.keys())
        where = folder if unpaired[0] in first.scores else place
        count = f"{len(unpaired)} cases are in one evaluation only, {unpaired[0]} in {where}"
        raise InputError(f"{place}: {count}; expected the same cases as {folder}")
    if first.regions != other.regions:
        raise InputError(f"{place}: regions differ from those of {folder}")
    for case, region in product(first.scores, first.regions):
        expected, found = (_reference(details.scores[case][region]) for details in (first, other))
        if found != expected:
            what = f"{region} in the reference of {case}: {shortened(found)}"
            raise InputError(f"{place}: {what}; expected {shortened(expected)}, as in {folder}: the same references")


def _reference(scores: Scores) -> list[str]:
    """A region's reference as an evaluation records it: its volume, and the centres of its lesions."""
    centres = sorted(lesion.centre for lesion in scores.lesions if lesion.is_reference)
    return [f"{scores.volumes[1]:.5g} mm3", *(f"a lesion at {centre}" for centre in centres)]


def write(comparison: Comparison, folder: Path) -> None:
    """Write comparison.csv (the tests) and ranking.csv."""
    write_csv(folder / TABLES[0], [PairedTest._fields, *comparison.tests])
    write_csv(folder / TABLES[1], [Place._fields, *comparison.ranking])


def lines(comparison: Comparison) -> list[str]:
    """The terminal output."""
    first = next(iter(comparison.systems.values()))
    cases = f"{len(first.scores)} {'case' if len(first.scores) == 1 else 'cases'}"
    text = [f"{cases} by {first.protocol.name}; Holm's correction over {len(comparison.tests)} tests"]
    for name, system in comparison.systems.items():
        if system.missing:
            text.append(f"{name}: {len(system.missing)} of {cases} without prediction, counted as empty")
    for pair in dict.fromkeys((test.first, test.second) for test in comparison.tests):
        text += ["", f"{pair[0]} against {pair[1]}"]
        head = f"{'region':<8}{'metric':<32}{'difference':>12}  {'95 % interval':<24}"
        text.append(f"{head}{'p':>9}{'Holm':>9}  win / tie / loss")
        text += [_line(test) for test in comparison.tests if (test.first, test.second) == pair]
    text += ["", f"{'rank':<6}{'score':>7}  system (mean cumulative rank: lower is better)"]
    return [*text, *(f"{place.place:<6}{place.score:>7.3f}  {place.system}" for place in comparison.ranking)]


def _line(test: PairedTest) -> str:
    metric = test.metric if test.unit == "1" else f"{test.metric} {test.unit}"
    interval = "" if math.isnan(test.low) else f"[{test.low:.4g}, {test.high:.4g}]"
    p, corrected = ("< 0.0001" if value < 0.0001 else f"{value:.4f}" for value in (test.p, test.p_holm))
    figures = f"{test.difference:>+12.4g}  {interval:<24}{p:>9}{corrected:>9}"
    return f"{test.region:<8}{metric:<32}{figures}  {test.wins} / {test.ties} / {test.losses}"
