"""What an evaluation leaves, in a bundle and at the command line: metrics.csv, lesions.csv and summary.json."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.files import looking_at, reading_json, remove, whole
from common.metrics import Protocol, Scores
from common.metrics import protocol as protocol_of
from common.preflight import InputError

__all__ = [
    "METRICS",
    "REGIONS",
    "RESAMPLES",
    "Cases",
    "Evaluation",
    "Values",
    "mean_interval",
    "read",
    "statistics",
    "summarise",
    "write",
]

Cases = Mapping[str, Mapping[str, Scores]]  # by case and region
Values = Mapping[tuple[str, str], NDArray[np.float64]]  # by region and metric, [cases]

REGIONS = ("WT", "TC", "ET", "lesion")  # in the order that the field reads them

METRICS = ("case", "region", "metric", "value", "unit")
LESIONS = (
    *("case", "region", "lesion", "kind", "volume_mm3", "scored", "found", "dice", "hd95_mm"),
    *("x", "y", "z"),  # voxel at the centre of mass, from 0
)
RESAMPLES = 9999  # of the cases, for an interval


class Evaluation(NamedTuple):
    """What an evaluation measured.

    Attributes:
        folder: that it was read from.
        protocol: that measured it.
        cases: names in sorted order.
        values: by region and metric, one for each case.
        lesions: of the references by region: all of them, and those that count.
        missing: cases without prediction, which were scored as empty.
    """

    folder: str
    protocol: Protocol
    cases: tuple[str, ...]
    values: Values
    lesions: Mapping[str, tuple[int, int]]
    missing: tuple[str, ...] = ()


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
    remove(folder / "summary.json")  # whoever is interrupted here leaves no summary of other figures
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


def read(folder: str | Path) -> Evaluation:
    """The metrics of an evaluation that `write` has written.

    Raises:
        InputError: a file cannot be read, or says what `write` does not: another column, metric or unit, a value that
            is not finite, one that is there twice or not at all, other settings than the protocol has now.
    """
    folder = Path(folder)
    with looking_at(str(folder)):
        is_folder = folder.is_dir()
    if not is_folder:
        raise InputError(f"{folder}: no such folder; expected one that python -m scripts.evaluate wrote")
    path = folder / "summary.json"
    with reading_json(str(path), "a summary of scripts.evaluate"):
        summary = json.loads(path.read_text(encoding="utf-8"))
    try:
        settings = {key: summary.get(key) for key in ("challenge", "tolerance_mm")}
        protocol = protocol_of(summary["protocol"], settings["challenge"], settings["tolerance_mm"])
        lesions = {region: (counts["reference"], counts["scored"]) for region, counts in summary["lesions"].items()}
        regions = [region for region in REGIONS if region in lesions]
        missing = tuple(map(str, summary["missing"]))
        differing = [key for key, value in protocol.settings.items() if summary.get(key) != value]
        is_sound = not differing and bool(regions) and len(regions) == len(lesions) and summary["cases"] >= 1
    except InputError as error:
        raise InputError(f"{path}: {error}; expected a summary of scripts.evaluate") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"no {error.args[0]}" if isinstance(error, KeyError) else "another content"
        raise InputError(f"{path}: {what}; expected a summary of scripts.evaluate") from error
    if not is_sound:
        what = f"{differing[0]} {summary.get(differing[0])}" if differing else f"regions {', '.join(lesions) or 'none'}"
        raise InputError(f"{path}: {what}; expected what this version of the protocol {protocol.name} writes")
    cases, values = _read_values(folder / "metrics.csv", protocol, regions)
    if len(cases) != summary["cases"]:
        raise InputError(
            f"{folder}: {len(cases)} cases in metrics.csv; expected {summary['cases']}, as in summary.json"
        )
    if odd := sorted(set(missing) - set(cases)):
        raise InputError(f"{path}: {odd[0]} is missing; expected a case of metrics.csv")
    return Evaluation(str(folder), protocol, cases, values, lesions, missing)


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
                yield case, region, metric, repr(float(scores[region].values[metric])), unit


def _lesions(cases: Cases) -> Iterable[Sequence[Any]]:
    for case, scores in cases.items():
        for region in _regions(cases):
            for number, lesion in enumerate(scores[region].lesions, 1):
                kind = "reference" if lesion.is_reference else "false"
                figures = (repr(float(value)) if math.isfinite(value) else "" for value in (lesion.dice, lesion.hd95))
                flags = (int(lesion.is_scored), int(lesion.is_found))
                yield case, region, number, kind, repr(float(lesion.volume)), *flags, *figures, *lesion.centre


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with whole(path) as file, file.open("w", newline="", encoding="utf-8") as content:
        table = csv.writer(content, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)


def _read_values(path: Path, protocol: Protocol, regions: Sequence[str]) -> tuple[tuple[str, ...], Values]:
    """Cases and their figures, each of which is there once."""
    expected = f"expected the columns {', '.join(METRICS)}"
    found: dict[tuple[str, str], dict[str, float]] = {
        (region, metric): {} for region in regions for metric in protocol.units
    }
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file, strict=True)
            if tuple(next(rows, ())) != METRICS:
                raise InputError(f"{path}: another first line; {expected}")
            for row in rows:
                _add(found, row, protocol, f"{path}: line {rows.line_num}")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected the file of an evaluation") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}; {expected}") from error
    cases = sorted(set().union(*found.values()))
    for (region, metric), values in found.items():
        for case in cases:
            if case not in values:
                raise InputError(f"{path}: no {metric} of {region} for the case {case}; expected one")
    return tuple(cases), {key: np.array([values[case] for case in cases]) for key, values in found.items()}


def _add(found: Mapping[tuple[str, str], dict[str, float]], row: Sequence[str], protocol: Protocol, where: str) -> None:
    if len(row) != len(METRICS):
        raise InputError(f"{where}: {len(row)} columns; expected {', '.join(METRICS)}")
    case, region, metric, value, unit = row
    if (region, metric) not in found or unit != protocol.units[metric]:
        raise InputError(f"{where}: {metric} of {region} in {unit}; expected what {protocol.name} measures")
    if case in found[region, metric]:
        raise InputError(f"{where}: {metric} of {region} for the case {case} again; expected it once")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    highest = 1 if unit == "1" else math.inf
    if not math.isfinite(number) or not 0 <= number <= highest:
        limits = "from 0 to 1" if unit == "1" else "from 0 on"
        raise InputError(f"{where}: value {value}; expected a finite number {limits}")
    found[region, metric][case] = number
