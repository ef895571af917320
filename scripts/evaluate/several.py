"""Read, pool and compare several evaluations: paired differences and tests, and the ranking of BraTS."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from common.errors import InputError, aligned
from common.inference.evaluation import Record
from common.made import origin_of
from common.metrics.cards import Protocol
from common.metrics.statistics import FEWEST, mean_interval
from common.values import names_of
from scripts.evaluate.records import read_record
from scripts.paired_tests import DIGITS, holm, signed_rank

Values = Mapping[tuple[str, str], NDArray[np.float64]]  # of all cases, by region and metric


class PairedTest(NamedTuple):
    """Comparison of two systems in a region and metric; a row of comparison.csv (docs/reference/evaluation.md)."""

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


def read_all(folders: Sequence[str], names: str | Sequence[str] | None) -> tuple[dict[str, Record], Protocol]:
    """Read two or more evaluations by the same protocol; return the records by name, and the protocol.

    The default names are the shortest distinct ends of the paths. In a record, paths of files become absolute.
    """
    paths = [Path(folder).expanduser().resolve() for folder in folders]
    if len(paths) < 2 or len(set(paths)) < len(paths):
        raise InputError(", ".join(folders), expected="two or more different folders")
    ends = [["/".join(path.parts[-length:]) for path in paths] for length in range(1, 99)]
    words = next(labels for labels in ends if len(set(labels)) == len(labels)) if names is None else names_of(names)
    if len(set(words)) != len(paths):
        raise InputError(f"--names={','.join(words)}", expected=f"a different name for each of {', '.join(folders)}")
    records = {}
    for name, path in zip(words, paths, strict=True):
        records[name], protocol = read_record(path)
        for entry in records[name]["cases"].values():
            entry |= {kind: entry[kind] and str(path / entry[kind]) for kind in ("prediction", "reference")}
            entry |= {"modalities": {kind: str(path / file) for kind, file in entry.get("modalities", {}).items()}}
        for key in ("label_convention", "protocol", "settings"):
            if (value := records[name][key]) != (expected := records[words[0]][key]):
                raise InputError(path, f"{key} {value}", f"{expected}, as in {paths[0]}")
    return records, protocol


def pool(records: Mapping[str, Record]) -> Record:
    """Pool evaluations of different cases without scoring again; the `part` of a case is its evaluation's name."""
    pooled = dict(next(iter(records.values())))
    cases: dict[str, Record] = {}
    for name, record in records.items():
        for case, entry in record["cases"].items():
            if case in cases:
                raise InputError(f"case {case}", f"is in {cases[case]['part']} and in {name}", "different cases")
            cases[case] = entry | {"part": name}
    sources = [record["made"] for record in records.values()]
    facts = {name: {source[name] or "none" for source in sources} for name in ("cohort", "split", "cleanup")}
    shared = {name: " or ".join(sorted(values)) for name, values in facts.items() if values - {"none"}}
    pooled["name"] = ", ".join(dict.fromkeys(record["name"] for record in records.values()))
    pooled["made"] = origin_of(shared, any(source["made_up"] for source in sources))
    pooled["made"]["checkpoints"] = {path: sha for source in sources for path, sha in source["checkpoints"].items()}
    return pooled | {"cases": dict(sorted(cases.items()))}


def compare(records: Mapping[str, Record], protocol: Protocol) -> tuple[list[PairedTest], list[Rank]]:
    """Test all pairs of systems in every region and metric, and rank the systems."""
    (base, expected), *others = ((name, _references(record)) for name, record in records.items())
    for name, references in others:
        if differing := sorted({*expected.items()} ^ {*references.items()}):
            (case, region), volume = differing[0]
            problem = f"the reference of {case}, {region}, has {volume} in one of {base} and {name}"
            raise InputError("compare", problem, "the same cases and references")
    values = {name: _values(record, protocol) for name, record in records.items()}
    tests = []
    for first, second in combinations(records, 2):
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
    return tests, sorted(Rank(int(rank), name, float(s)) for rank, name, s in zip(ranks, records, scores, strict=True))


def cumulative_ranks(systems: Sequence[Values], protocol: Protocol) -> NDArray[np.float64]:
    """Return cumulative ranks [systems, cases]: mean ranks over regions and ranked metrics (Bakas et al. 2018).

    Rank 1 is best, and ties share their mean rank.
    """
    ranks = []
    for region, metric in systems[0]:
        if (definition := protocol.metric(metric)).ranks:
            values = np.round([system[region, metric] for system in systems], DIGITS)
            ranks.append(rankdata(-values if definition.more_is_better else values, method="average", axis=0))
    return np.mean(ranks, axis=0)


def _values(record: Record, protocol: Protocol) -> Values:
    entries = [entry["regions"] for entry in record["cases"].values()]
    return {
        (region, metric): np.array([regions[region]["values"][metric] for regions in entries], dtype=float)
        for region in entries[0]
        for metric in protocol.units
    }


def _references(record: Record) -> dict[tuple[str, str], str]:
    """Return the volume of the reference of each case and region."""
    return {
        (case, region): f"{scores['volumes_mm3'][1]:.5g} mm3"
        for case, entry in record["cases"].items()
        for region, scores in entry["regions"].items()
    }


def lines(tests: Sequence[PairedTest], ranking: Sequence[Rank]) -> list[str]:
    """Return a comparison as lines for the terminal: the rows of comparison.csv and ranking.csv."""
    tables = (PairedTest._fields, tests), (Rank._fields, ranking)
    return [
        line
        for fields, rows in tables
        for line in [
            *aligned([fields, *([f"{x:.4g}" if isinstance(x, float) else x for x in row] for row in rows)]),
            "",
        ]
    ]
