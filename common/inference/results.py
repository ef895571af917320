"""Write the files of an evaluation: metrics.csv, lesions.csv, summary.json and cases.json.

They hold all data of the evaluation's page except the voxels; docs/evaluation.md defines each column and key.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.regions import display_order
from ..files import write_csv, write_json
from ..metrics.protocols import Protocol, Scores, figures
from .publishing import SUMMARY, place_of
from .tables import Columns, case_name, distance, index, number, one_of

Cases = Mapping[str, Mapping[str, Scores]]  # by case and region

FLAG = one_of({"0": False, "1": True})
METRICS: Columns = {"case": case_name, "region": str, "metric": str, "value": number, "unit": str}
LESIONS: Columns = {
    **{"case": case_name, "region": str, "lesion": index, "kind": one_of({"reference": True, "false": False})},
    **{"volume_mm3": number, "scored": FLAG, "found": FLAG, "dice": number, "hd95_mm": distance},
    **dict.fromkeys("xyz", index),  # voxel at the centre of mass, counted from 0
}
RESAMPLES = 9999  # bootstrap resamples of the cases


class CaseFiles(NamedTuple):
    """The files of a case; an absent prediction (None) counts as empty.

    `image` is the first of `modalities`, which have names and images. `part` is the case's part of a pooled evaluation,
    such as a fold; the prediction was made without the `missing` modalities.
    """

    name: str
    prediction: Path | None
    reference: Path
    image: Path | None
    part: str | None = None
    missing: tuple[str, ...] = ()
    modalities: tuple[tuple[str, Path], ...] = ()


class Details(NamedTuple):
    """All data of an evaluation's page except the voxels.

    `name` is the page's title; `files` are in the order of the scores.
    """

    name: str
    convention: str
    protocol: Protocol
    files: Sequence[CaseFiles]
    scores: Cases

    @property
    def missing(self) -> list[str]:
        """The cases without a prediction, which were scored as empty."""
        return [case.name for case in self.files if case.prediction is None]

    @property
    def regions(self) -> list[str]:
        """In display order."""
        return display_order(next(iter(self.scores.values())))


def write(folder: str | Path, details: Details) -> dict[str, Any]:
    """Write metrics.csv, lesions.csv, cases.json and summary.json, and return the content of the last.

    Existing files are replaced one by one; to publish all at once, use a folder from `begin` or `publishing`.
    """
    folder = Path(folder)
    summary = summarise(details)
    write_csv(folder / "metrics.csv", [tuple(METRICS), *_metrics(details)])
    write_csv(folder / "lesions.csv", [tuple(LESIONS), *_lesions(details)])
    write_json(folder / "cases.json", _cases(folder, details))
    write_json(folder / SUMMARY, summary)
    return summary


def summarise(details: Details) -> dict[str, Any]:
    """The content of summary.json: the protocol with its settings, and metrics and lesion counts by region."""
    protocol, scores = details.protocol, details.scores
    return {
        "protocol": protocol.name,
        **protocol.settings,
        "cases": len(scores),
        "missing": details.missing,
        "interval": f"ci95: percentile bootstrap of the mean, {RESAMPLES} resamples of the cases",
        "regions": {
            region: {
                name: {**statistics(values), "unit": protocol.units.get(name, "1")}
                for name, values in figures([measured[region] for measured in scores.values()], protocol).items()
            }
            for region in details.regions
        },
        "lesions": {
            region: count_lesions(measured[region] for measured in scores.values()) for region in details.regions
        },
    }


def statistics(values: Sequence[float]) -> dict[str, Any]:
    """Mean, sample standard deviation, median, 95 % bootstrap interval of the mean, and number of values.

    For a single value, standard deviation and interval are None; for none, all are.
    """
    spreads = len(values) > 1
    return {
        "mean": float(np.mean(values)) if len(values) else None,
        "sd": float(np.std(values, ddof=1)) if spreads else None,
        "median": float(np.median(values)) if len(values) else None,
        "ci95": list(mean_interval(values)) if spreads else None,
        "n": len(values),
    }


def mean_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the mean of at least two values: percentiles over `RESAMPLES` resamples (Efron, 1979)."""
    from scipy.stats import bootstrap  # imported here: it takes half a second

    interval = bootstrap(
        (np.asarray(values),), np.mean, n_resamples=RESAMPLES, method="percentile", batch=100, rng=seed
    ).confidence_interval
    return float(interval.low), float(interval.high)


def count_lesions(scores: Iterable[Scores]) -> dict[str, int]:
    """Lesions of the references (all, scored, scored and found), and false lesions, over a region's cases."""
    lesions = [lesion for measured in scores for lesion in measured.lesions]
    scored = [lesion for lesion in lesions if lesion.is_reference and lesion.is_scored]
    return {
        "reference": sum(lesion.is_reference for lesion in lesions),
        "scored": len(scored),
        "found": sum(lesion.is_found for lesion in scored),
        "false": sum(not lesion.is_reference for lesion in lesions),
    }


def _metrics(details: Details) -> Iterable[Sequence[Any]]:
    for case, scores in details.scores.items():
        for region in details.regions:
            for metric, unit in details.protocol.units.items():
                yield case, region, metric, repr(float(scores[region].values[metric])), unit


def _lesions(details: Details) -> Iterable[Sequence[Any]]:
    for case, scores in details.scores.items():
        for region in details.regions:
            for count, lesion in enumerate(scores[region].lesions, 1):
                kind = "reference" if lesion.is_reference else "false"
                figures = (repr(float(value)) if math.isfinite(value) else "" for value in (lesion.dice, lesion.hd95))
                flags = (int(lesion.is_scored), int(lesion.is_found))
                yield case, region, count, kind, repr(float(lesion.volume)), *flags, *figures, *lesion.centre


def _cases(folder: Path, details: Details) -> dict[str, Any]:
    """The content of cases.json; volumes are pairs of prediction and reference."""
    cases = {}
    for case in details.files:
        volumes = {region: details.scores[case.name][region].volumes for region in details.regions}
        optional = {
            "part": case.part,
            "missing_modalities": list(case.missing),
            "modalities": {name: _path(folder, file) for name, file in case.modalities},
        }
        cases[case.name] = {
            "prediction": _path(folder, case.prediction),
            "reference": _path(folder, case.reference),
            "image": _path(folder, case.image),
            "volumes_mm3": {region: list(map(float, pair)) for region, pair in volumes.items()},
            **{key: value for key, value in optional.items() if value},
        }
    return {"name": details.name, "label_convention": details.convention, "cases": cases}


def _path(folder: Path, file: Path | None) -> str | None:
    """A file's path: relative if it is inside the folder, which may be moved, else absolute."""
    if file is None:
        return None
    path = file.parent.resolve() / file.name
    for root in (folder.resolve(), place_of(folder.resolve())):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return str(path)
