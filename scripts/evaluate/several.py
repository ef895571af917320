"""Read, pool and compare evaluations: paired differences, Wilcoxon's signed-rank test, and Holm's correction."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError, within
from common.files import existing_folder, read_json
from common.inference.evaluation import CASES, FEWEST, Record, mean_interval, region_names
from common.made import origin_of
from common.metrics.protocols import Protocol
from common.metrics.protocols import protocol as protocol_of
from common.values import names_of

EVALUATION = "an evaluation by scripts.evaluate or evaluate.yaml"
SCHEMA = {"type": "object", "required": ["name", "label_convention", "protocol", "settings", "made", "cases"]}
DIGITS = 12  # decimals of a difference; rounding errors count as ties


def read_record(folder: str | Path) -> tuple[Record, Protocol]:
    """Read an evaluation, its cases sorted by name, and its protocol; raise `InputError` if cases.json does not fit."""
    path = existing_folder(folder, str(folder), EVALUATION) / CASES
    record = read_json(path, EVALUATION, SCHEMA)
    with within(path):
        protocol = protocol_of(record["protocol"], record["settings"].get("challenge"))
    if record["settings"] != protocol.settings:
        raise InputError(path, f"settings {record['settings']}", f"{protocol.settings}, of {protocol.name}")
    return record | {"cases": dict(sorted(record["cases"].items()))}, protocol


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


def compare(records: Mapping[str, Record], protocol: Protocol) -> list[dict[str, Any]]:
    """Test all pairs of systems in every region and metric; return the rows of comparison.csv."""
    references = {name: _references(record) for name, record in records.items()}
    base, *others = records
    for name in others:
        if differing := sorted(references[base].items() ^ references[name].items()):
            (case, region), volume = differing[0]
            problem = f"the reference of {case}, {region}, has {volume} in one of {base} and {name}"
            raise InputError("compare", problem, "the same cases and references")
    tests, regions = [], region_names(records[base])
    for (first, second), region, (metric, unit) in product(combinations(records, 2), regions, protocol.units.items()):
        both = [records[name]["cases"].values() for name in (first, second)]
        ours, theirs = ([entry["regions"][region]["values"][metric] for entry in entries] for entries in both)
        differences = np.round(np.subtract(np.array(ours, float), np.array(theirs, float)), DIGITS)
        low, high = mean_interval(differences) if len(differences) >= FEWEST else (math.nan, math.nan)
        gains = differences if unit == "1" else -differences
        test: dict[str, Any] = {"first": first, "second": second, "region": region, "metric": metric}
        test |= {"unit": unit, "difference": float(differences.mean()), "low": low, "high": high}
        test |= {"p": signed_rank(differences), "p_holm": math.nan}
        signs = {"wins": 1, "ties": 0, "losses": -1}
        tests.append(test | {name: int(np.sum(np.sign(gains) == sign)) for name, sign in signs.items()})
    for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test["p_holm"] = p
    return tests


def _references(record: Record) -> dict[tuple[str, str], str]:
    """Return the volume of the reference of each case and region."""
    return {
        (case, region): f"{scores['volumes_mm3'][1]:.5g} mm3"
        for case, entry in record["cases"].items()
        for region, scores in entry["regions"].items()
    }


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
