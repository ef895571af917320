"""The files of an evaluation: metrics.csv, lesions.csv, summary.json and cases.json.

`evaluate.yaml` and `python -m scripts.evaluate` both write them with `write`. Together they hold everything that the
page of an evaluation shows, except the voxels; docs/evaluation.md defines each column and key.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.regions import display_order
from ..files import write_csv, write_json
from ..metrics.protocols import Protocol, Scores, figures
from .publishing import PAGE, SUMMARY, place_of

__all__ = [
    "LESIONS",
    "METRICS",
    "PAGE",
    "RESAMPLES",
    "CaseFiles",
    "Cases",
    "count_lesions",
    "mean_interval",
    "statistics",
    "summarise",
    "write",
]

Cases = Mapping[str, Mapping[str, Scores]]  # by case and region

METRICS = ("case", "region", "metric", "value", "unit")
LESIONS = (
    *("case", "region", "lesion", "kind", "volume_mm3", "scored", "found", "dice", "hd95_mm"),
    *("x", "y", "z"),  # voxel at the centre of mass, counted from 0
)
RESAMPLES = 9999  # of the cases, for each bootstrap interval


class CaseFiles(NamedTuple):
    """The files of a case.

    Attributes:
        name: of the case.
        prediction: None if it is absent, which counts as empty.
        reference: its label map.
        image: None if it is unknown.
        part: of a pooled evaluation, such as a fold; None if it has no parts.
        missing: modalities that the prediction was made without.
        modalities: name and image of each modality, of which `image` is the first; empty if they are unknown.
    """

    name: str
    prediction: Path | None
    reference: Path
    image: Path | None
    part: str | None = None
    missing: tuple[str, ...] = ()
    modalities: tuple[tuple[str, Path], ...] = ()


def write(
    folder: str | Path, scores: Cases, protocol: Protocol, files: Sequence[CaseFiles], convention: str, name: str
) -> dict[str, Any]:
    """Write metrics.csv, lesions.csv, cases.json and summary.json.

    Args:
        folder: created if it does not exist; files of these names are replaced one by one. For results that appear
            together, the one that `common.inference.begin` or `publishing` gives.
        scores: of each case and region.
        protocol: that measured the scores.
        files: of the cases, in the same order.
        convention: label convention of the label maps.
        name: of what was evaluated; the title of the page.

    Returns:
        The content of summary.json.

    Raises:
        InputError: a file cannot be written.
    """
    folder = Path(folder)
    summary = summarise(scores, protocol, [case.name for case in files if case.prediction is None])
    write_csv(folder / "metrics.csv", [METRICS, *_metrics(scores, protocol)])
    write_csv(folder / "lesions.csv", [LESIONS, *_lesions(scores)])
    write_json(folder / "cases.json", _cases(folder, scores, files, convention, name))
    write_json(folder / SUMMARY, summary)
    return summary


def summarise(cases: Cases, protocol: Protocol, missing: Sequence[str] = ()) -> dict[str, Any]:
    """The content of summary.json: the protocol with its settings, and metrics and lesion counts by region.

    Args:
        cases: scores of each case and region.
        protocol: that measured the scores.
        missing: cases without prediction, which were scored as empty.
    """
    regions = _regions(cases)
    return {
        "protocol": protocol.name,
        **protocol.settings,
        "cases": len(cases),
        "missing": list(missing),
        "interval": f"ci95: percentile bootstrap of the mean, {RESAMPLES} resamples of the cases",
        "regions": {
            region: {
                name: {**statistics(values), "unit": protocol.units.get(name, "1")}
                for name, values in figures([scores[region] for scores in cases.values()], protocol).items()
            }
            for region in regions
        },
        "lesions": {region: count_lesions(scores[region] for scores in cases.values()) for region in regions},
    }


def statistics(values: Sequence[float]) -> dict[str, Any]:
    """Mean, sample standard deviation, median, 95 % bootstrap interval of the mean, and number of values.

    The standard deviation and the interval of a single value are None, and so is everything without a value.
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
    """The 95 % interval of the mean: percentiles of the means of `RESAMPLES` resamples (Efron, 1979).

    Args:
        values: at least two.
        seed: of the resamples; the same values and seed give the same interval.
    """
    from scipy.stats import bootstrap  # here: it takes half a second to import

    interval = bootstrap(
        (np.asarray(values),), np.mean, n_resamples=RESAMPLES, method="percentile", batch=100, rng=seed
    ).confidence_interval
    return float(interval.low), float(interval.high)


def count_lesions(scores: Iterable[Scores]) -> dict[str, int]:
    """Lesions of the references (all, scored, scored and found) and false lesions, over the cases of a region."""
    lesions = [lesion for measured in scores for lesion in measured.lesions]
    scored = [lesion for lesion in lesions if lesion.is_reference and lesion.is_scored]
    return {
        "reference": sum(lesion.is_reference for lesion in lesions),
        "scored": len(scored),
        "found": sum(lesion.is_found for lesion in scored),
        "false": sum(not lesion.is_reference for lesion in lesions),
    }


def _regions(cases: Cases) -> list[str]:
    measured = next(iter(cases.values()))
    return display_order(measured)


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


def _cases(folder: Path, scores: Cases, files: Sequence[CaseFiles], convention: str, name: str) -> dict[str, Any]:
    """The content of cases.json; volumes are pairs of prediction and reference."""
    regions = _regions(scores)
    return {
        "name": name,
        "label_convention": convention,
        "cases": {
            case.name: {
                "prediction": _path(folder, case.prediction),
                "reference": _path(folder, case.reference),
                "image": _path(folder, case.image),
                "volumes_mm3": {region: list(map(float, scores[case.name][region].volumes)) for region in regions},
                **({} if case.part is None else {"part": case.part}),
                **({"missing_modalities": list(case.missing)} if case.missing else {}),
                **(
                    {"modalities": {name: _path(folder, file) for name, file in case.modalities}}
                    if case.modalities
                    else {}
                ),
            }
            for case in files
        },
    }


def _path(folder: Path, file: Path | None) -> str | None:
    """The path of a file: relative if the file is inside the folder, which may be moved; else absolute."""
    if file is None:
        return None
    path = file.parent.resolve() / file.name
    for root in (folder.resolve(), place_of(folder.resolve())):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return str(path)
