"""Read, pool and compare several evaluations: paired differences and tests."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.inference.evaluation import FEWEST, Record, mean_interval
from common.made import origin_of
from common.metrics.protocols import Protocol
from common.values import names_of
from scripts.evaluate.records import read_record
from scripts.paired_tests import DIGITS, holm, signed_rank


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


def read_all(folders: Sequence[str], names: str | Sequence[str] | None) -> tuple[dict[str, Record], Protocol]:
    """Read two or more evaluations by the same protocol; return the records by name, and the protocol.

    The default names are the folders as given. In a record, paths of files become absolute.
    """
    paths = [Path(folder).expanduser().resolve() for folder in folders]
    words = names_of(names or folders)
    if len(paths) < 2 or len(set(paths)) < len(paths) or len(set(words)) != len(paths):
        raise InputError(", ".join(folders), f"names {', '.join(words)}", "two or more folders, all different")
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


def compare(records: Mapping[str, Record], protocol: Protocol) -> list[PairedTest]:
    """Test all pairs of systems in every region and metric."""
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
            wins, ties, losses = (int(np.sum(np.sign(gains) == sign)) for sign in (1, 0, -1))
            difference, p = float(differences.mean()), signed_rank(differences)
            names = first, second, region, metric, protocol.units[metric]
            tests.append(PairedTest(*names, difference, low, high, p, math.nan, wins, ties, losses))
    corrected = holm([test.p for test in tests])
    return [test._replace(p_holm=p) for test, p in zip(tests, corrected, strict=True)]


def _values(record: Record, protocol: Protocol) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Return the scores of all cases, by region and metric."""
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
