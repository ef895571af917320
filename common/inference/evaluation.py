"""Write the scores of an evaluation: metrics.csv and summary.json for people, and cases.json, the record, for programs.

docs/reference/evaluation.md defines each column and key.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..data.regions import display_order
from ..errors import aligned, show
from ..files import move_aside, write_csv, write_json
from ..metrics.protocols import Protocol, Scores, by_metric

CASES, METRICS, SUMMARY, PAGE, SLICES = "cases.json", "metrics.csv", "summary.json", "evaluation.html", "slices"
RESULTS = (METRICS, CASES, PAGE, SLICES, SUMMARY)
PREDICTIONS, EARLIER = "predictions", "earlier"
RUN_FILES = ("run.json", PREDICTIONS, "pictures", "tensorboard")
COLUMNS = ("case", "region", "metric", "value", "unit")
RESAMPLES = 9999  # bootstrap resamples of the cases
FEWEST = 10  # values for an interval; with 5 normal values it covers the mean in 84 % of samples, with 2 in 50 %

Record = dict[str, Any]  # content of cases.json


def new_record(name: str, convention: str, protocol: Protocol, made: Mapping[str, Any]) -> Record:
    """Return the record of an evaluation without cases."""
    rules = {"protocol": protocol.name, "settings": dict(protocol.settings)}
    return {"name": name, "label_convention": convention, **rules, "made": dict(made), "cases": {}}


def entry_of(
    folder: Path,
    scores: Mapping[str, Scores],
    prediction: Path | None,
    reference: str | Path,
    images: Iterable[tuple[str, Path]] = (),
) -> dict[str, Any]:
    """Return a case's entry in the record of an evaluation in `folder`; an infinite HD95 becomes None."""
    entry: dict[str, Any] = {"prediction": prediction and _path(folder, prediction)}
    entry |= {"reference": _path(folder, Path(reference)), "regions": {}}
    for region in display_order(scores):
        values, volumes, lesions = scores[region].values, scores[region].volumes, []
        for lesion in scores[region].lesions:
            lesions.append(asdict(lesion) | {"hd95": lesion.hd95 if math.isfinite(lesion.hd95) else None})
        entry["regions"][region] = {"values": values, "volumes_mm3": volumes, "lesions": lesions}
    modalities = {name: _path(folder, file) for name, file in images}
    return entry | ({"modalities": modalities} if modalities else {})


def _path(folder: Path, file: Path) -> str:
    """Return a file's path: relative if the file is in the folder, which may be moved, else absolute."""
    path, root = file.parent.resolve() / file.name, folder.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def set_aside(folder: Path, *names: str) -> None:
    """Move files of an earlier run, `names` included, to FOLDER/earlier-TIME, so that the results of two never mix."""
    for file in (folder / name for name in (*names, *RESULTS)):
        if file.exists():
            (folder / EARLIER).mkdir(exist_ok=True)
            file.rename(folder / EARLIER / file.name)
    move_aside(folder / EARLIER)


def write(folder: Path, record: Record, protocol: Protocol) -> None:
    """Write metrics.csv, cases.json and, last, summary.json; print the means by region and metric."""
    rows = [
        (case, region, metric, scores["values"][metric], unit)
        for case, entry in record["cases"].items()
        for region, scores in entry["regions"].items()
        for metric, unit in protocol.units.items()
    ]
    write_csv(folder / METRICS, [COLUMNS, *rows])
    write_json(folder / CASES, record)
    summary = summarise(record, protocol)
    write_json(folder / SUMMARY, summary)
    missing = f", {len(summary['missing'])} without prediction counted as empty" if summary["missing"] else ""
    means = [("region", "metric", "mean", "unit", "cases")]
    for region, by_name in summary["regions"].items():
        for name, statistics in by_name.items():
            mean = "-" if statistics["mean"] is None else f"{statistics['mean']:.4g}"
            means.append((region, name, mean, statistics["unit"], statistics["n"]))
    show(f"cases scored by {protocol.name}: {summary['cases']}{missing}", "", *aligned(means, right=(2, 4)))
    show("", f"results: {folder.resolve()}")


def region_names(record: Record) -> list[str]:
    """Return the regions of an evaluation, in display order."""
    return list(next(iter(record["cases"].values()))["regions"])


def summarise(record: Record, protocol: Protocol) -> dict[str, Any]:
    """Return the content of summary.json: protocol, number of cases, missing predictions, and statistics by region."""
    cases, regions, lesions = record["cases"], {}, {}
    for region in region_names(record):
        entries = [entry["regions"][region] for entry in cases.values()]
        scores = [Scores(entry["values"], (), entry["volumes_mm3"]) for entry in entries]
        regions[region] = {
            name: {**describe(values), "unit": protocol.units.get(name, "1")}
            for name, values in by_metric(scores, protocol).items()
        }
        lesions[region] = count_lesions([lesion for entry in entries for lesion in entry["lesions"]])
    return {
        "protocol": protocol.name,
        **protocol.settings,
        "cases": len(cases),
        "missing": [name for name, entry in cases.items() if entry["prediction"] is None],
        "interval": f"ci95: percentile bootstrap of the mean, {RESAMPLES} resamples; null below {FEWEST} cases",
        "regions": regions,
        "lesions": lesions,
    }


def count_lesions(lesions: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count the reference lesions, those large enough to be scored, those of them that are found, and false lesions."""
    scored = [lesion for lesion in lesions if lesion["is_reference"] and lesion["is_scored"]]
    references = sum(lesion["is_reference"] for lesion in lesions)
    found = sum(lesion["is_found"] for lesion in scored)
    return {"reference": references, "scored": len(scored), "found": found, "false": len(lesions) - references}


def describe(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, sample standard deviation, median, 95 % bootstrap interval of the mean, and number of values.

    Unknown statistics are None: the interval of fewer than `FEWEST` values, the deviation of one, the mean of none.
    """
    return {
        "mean": float(np.mean(values)) if len(values) else None,
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "median": float(np.median(values)) if len(values) else None,
        "ci95": list(mean_interval(values)) if len(values) >= FEWEST else None,
        "n": len(values),
    }


def mean_interval(values: ArrayLike) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean of at least two values (Efron, 1979)."""
    from scipy.stats import bootstrap  # imported here, since it takes half a second

    interval = bootstrap(
        (np.asarray(values),), np.mean, n_resamples=RESAMPLES, method="percentile", batch=100, rng=0
    ).confidence_interval
    return float(interval.low), float(interval.high)
