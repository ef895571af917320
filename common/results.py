"""What an evaluation leaves, in a bundle and at the command line: metrics.csv, lesions.csv and summary.json."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.files import whole
from common.metrics import Protocol, Scores

__all__ = ["METRICS", "REGIONS", "RESAMPLES", "Cases", "mean_interval", "statistics", "summarise", "write"]

Cases = Mapping[str, Mapping[str, Scores]]  # by case and region

REGIONS = ("WT", "TC", "ET", "lesion")  # in the order that the field reads them

METRICS = ("case", "region", "metric", "value", "unit")
LESIONS = (
    *("case", "region", "lesion", "kind", "volume_mm3", "scored", "found", "dice", "hd95_mm"),
    *("x", "y", "z"),  # voxel at the centre of mass, from 0
)
RESAMPLES = 9999  # of the cases, for an interval


def write(folder: str | Path, cases: Cases, protocol: Protocol, missing: Sequence[str] = ()) -> dict[str, Any]:
    """Write metrics.csv, lesions.csv and summary.json; returns what summary.json holds.

    Args:
        folder: made where it is missing; files of these names are replaced.
        cases: what the protocol measured.
        protocol: that measured it.
        missing: cases without prediction, which were scored as empty.

    Raises:
        InputError: a file cannot be written.
    """
    folder = Path(folder)
    summary = summarise(cases, protocol, missing)
    _write_table(folder / "metrics.csv", METRICS, _metrics(cases, protocol))
    _write_table(folder / "lesions.csv", LESIONS, _lesions(cases))
    with whole(folder / "summary.json") as file:
        file.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    return summary


def summarise(cases: Cases, protocol: Protocol, missing: Sequence[str] = ()) -> dict[str, Any]:
    """The content of summary.json: the protocol and its settings, and by region what became of figures and lesions."""
    regions = _regions(cases)
    return {
        "protocol": protocol.name,
        **protocol.settings,
        "cases": len(cases),
        "missing": list(missing),
        "interval": f"ci95: percentile bootstrap of the mean, {RESAMPLES} resamples of the cases",
        "regions": {
            region: {
                metric: {**statistics([scores[region].values[metric] for scores in cases.values()]), "unit": unit}
                for metric, unit in protocol.units.items()
            }
            for region in regions
        },
        "lesions": {region: _detection(scores[region] for scores in cases.values()) for region in regions},
    }


def statistics(values: Sequence[float]) -> dict[str, Any]:
    """Mean, sample standard deviation, median, 95 % bootstrap interval of the mean, and number of values.

    Deviation and interval of a single value are None.
    """
    single = len(values) == 1
    return {
        "mean": float(np.mean(values)),
        "sd": None if single else float(np.std(values, ddof=1)),
        "median": float(np.median(values)),
        "ci95": None if single else list(mean_interval(values)),
        "n": len(values),
    }


def mean_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the mean: percentiles of the means of `RESAMPLES` resamples (Efron, 1979), from a seed.

    Args:
        values: two at least.
        seed: of the resamples; the same values and seed give the same interval.
    """
    from scipy.stats import bootstrap  # here, as it takes half a second to import

    interval = bootstrap(
        (np.asarray(values),), np.mean, n_resamples=RESAMPLES, method="percentile", batch=100, rng=seed
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _regions(cases: Cases) -> list[str]:
    measured = next(iter(cases.values()))
    return [region for region in REGIONS if region in measured]


def _detection(scores: Iterable[Scores]) -> dict[str, int]:
    """How many lesions the references have, how many count and are found, and how many false ones there are."""
    lesions = [lesion for each in scores for lesion in each.lesions]
    scored = [lesion for lesion in lesions if lesion.is_reference and lesion.is_scored]
    return {
        "reference": sum(lesion.is_reference for lesion in lesions),
        "scored": len(scored),
        "found": sum(lesion.is_found for lesion in scored),
        "false": sum(not lesion.is_reference for lesion in lesions),
    }


def _metrics(cases: Cases, protocol: Protocol) -> Iterable[Sequence[Any]]:
    for case, scores in cases.items():
        for region in _regions(cases):
            for metric, unit in protocol.units.items():
                yield case, region, metric, repr(scores[region].values[metric]), unit


def _lesions(cases: Cases) -> Iterable[Sequence[Any]]:
    for case, scores in cases.items():
        for region in _regions(cases):
            for number, lesion in enumerate(scores[region].lesions, 1):
                kind = "reference" if lesion.is_reference else "false"
                figures = (repr(value) if math.isfinite(value) else "" for value in (lesion.dice, lesion.hd95))
                flags = (int(lesion.is_scored), int(lesion.is_found))
                yield case, region, number, kind, repr(lesion.volume), *flags, *figures, *lesion.centre


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with whole(path) as file, file.open("w", newline="", encoding="utf-8") as content:
        table = csv.writer(content, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)
