"""Write the files of an evaluation: cases.json for programs; metrics.csv, lesions.csv and summary.json for people.

docs/reference/evaluation.md defines each column and key.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.regions import display_order
from ..errors import aligned
from ..files import write_csv, write_json
from ..metrics.cards import PRESENT, Protocol, Scores, by_metric
from ..metrics.lesions import Lesion
from ..metrics.statistics import FEWEST, RESAMPLES, describe
from .publishing import SUMMARY, final_folder

Cases = Mapping[str, Mapping[str, Scores]]  # by case and region

CASES = "cases.json"
METRICS = ("case", "region", "metric", "value", "unit")
# x, y, z: voxel at the centre of mass, from 0
LESIONS = ("case", "region", "lesion", "kind", "volume_mm3", "scored", "found", "dice", "hd95_mm", "x", "y", "z")


class CaseFiles(NamedTuple):
    """The files of a case in an evaluation.

    Attributes:
        name: Name of the case.
        prediction: Predicted label map; None if it is missing, which counts as empty.
        reference: Reference label map.
        images: Modality and file of each image.
        missing: Modalities missing from the network's input.
        part: Part of a pooled evaluation that contains the case, such as a fold.
    """

    name: str
    prediction: Path | None
    reference: Path
    images: tuple[tuple[str, Path], ...] = ()
    missing: tuple[str, ...] = ()
    part: str | None = None


class Details(NamedTuple):
    """The content of an evaluation page, except the voxels of the files.

    Attributes:
        name: Title of the page.
        convention: Label convention of the masks.
        protocol: Scoring protocol.
        files: Files of each case, in the order of `scores`.
        scores: Scores by case and region.
        made: Provenance record from `common.made.origin_of`.
        background: Modality of the pictures; None: the modality in which the labels have the highest contrast.
    """

    name: str
    convention: str
    protocol: Protocol
    files: Sequence[CaseFiles]
    scores: Cases
    made: Mapping[str, Any] = {}
    background: str | None = None

    @property
    def missing(self) -> list[str]:
        """Names of cases without a prediction, scored as empty."""
        return [case.name for case in self.files if case.prediction is None]

    @property
    def without(self) -> Counter[str]:
        """Number of cases by missing modalities, such as "T2, FLAIR"; complete cases are left out."""
        return Counter(", ".join(case.missing) for case in self.files if case.missing)

    @property
    def regions(self) -> list[str]:
        """Names of the regions, in display order."""
        return display_order(next(iter(self.scores.values())))

    @property
    def values(self) -> dict[tuple[str, str], NDArray[np.float64]]:
        """Values of all cases, by region and metric."""
        return {
            (region, metric): np.array([scores[region].values[metric] for scores in self.scores.values()], dtype=float)
            for region in self.regions
            for metric in self.protocol.units
        }


def write(folder: str | Path, details: Details) -> dict[str, Any]:
    """Write cases.json, metrics.csv, lesions.csv and summary.json; return the content of summary.json.

    Existing files are replaced one by one; to publish all together, use a folder from `begin`.
    """
    folder = Path(folder)
    summary = summarise(details)
    write_csv(folder / "metrics.csv", [METRICS, *_rows_of_metrics(details)])
    write_csv(folder / "lesions.csv", [LESIONS, *_rows_of_lesions(details)])
    write_json(folder / CASES, _cases(folder, details))
    write_json(folder / SUMMARY, summary)
    return summary


def summarise(details: Details) -> dict[str, Any]:
    """Return the content of summary.json: protocol, number of cases, missing predictions, and statistics by region."""
    protocol, scores = details.protocol, details.scores
    return {
        "protocol": protocol.name,
        **protocol.settings,
        "cases": len(scores),
        "missing": details.missing,
        "interval": f"ci95: percentile bootstrap of the mean, {RESAMPLES} resamples; null below {FEWEST} cases",
        "regions": {
            region: {
                name: {**describe(values), "unit": protocol.units.get(name, "1")}
                for name, values in by_metric([measured[region] for measured in scores.values()], protocol).items()
            }
            for region in details.regions
        },
        "lesions": {
            region: count_lesions([lesion for measured in scores.values() for lesion in measured[region].lesions])
            for region in details.regions
        },
    }


def lines(details: Details, summary: Mapping[str, Any]) -> list[str]:
    """Return the terminal output of an evaluation: means by region and metric."""
    count, absent = summary["cases"], details.missing
    cases = "case" if count == 1 else "cases"
    counted = f", {len(absent)} without prediction counted as empty" if absent else ""
    text = [f"{count} {cases} by {details.protocol.name}{counted}"]
    text += [f"without {names}: {number} of {count} {cases}" for names, number in details.without.items()]
    rows = [("region", "metric", "mean", "unit", "cases", "95 % interval")]
    for region, means in summary["regions"].items():
        for name, statistics in means.items():
            unit = "" if statistics["unit"] == "1" else statistics["unit"]
            mean = "-" if statistics["mean"] is None else f"{statistics['mean']:.4g}"
            interval = "" if statistics["ci95"] is None else "[{:.4g}, {:.4g}]".format(*statistics["ci95"])
            rows.append((region, name, mean, unit, statistics["n"], interval))
    text += [
        "",
        *aligned(rows, right=(2, 4)),
        "",
        "dice: all cases; a case without the region scores 1 if nothing is predicted, else 0",
    ]
    return [*text, f"{PRESENT}: only cases with the region in the reference, as in the paper's code"]


def count_lesions(lesions: Sequence[Lesion]) -> dict[str, int]:
    """Count the reference lesions, those large enough to be scored, those of them that are found, and false lesions."""
    scored = [lesion for lesion in lesions if lesion.is_reference and lesion.is_scored]
    return {
        "reference": sum(lesion.is_reference for lesion in lesions),
        "scored": len(scored),
        "found": sum(lesion.is_found for lesion in scored),
        "false": sum(not lesion.is_reference for lesion in lesions),
    }


def _rows_of_metrics(details: Details) -> Iterable[Sequence[Any]]:
    for case, scores in details.scores.items():
        for region in details.regions:
            for metric, unit in details.protocol.units.items():
                yield case, region, metric, scores[region].values[metric], unit


def _rows_of_lesions(details: Details) -> Iterable[Sequence[Any]]:
    for case, scores in details.scores.items():
        for region in details.regions:
            for count, lesion in enumerate(scores[region].lesions, 1):
                kind = "reference" if lesion.is_reference else "false"
                flags = (int(lesion.is_scored), int(lesion.is_found))
                measures = (lesion.volume, *flags, lesion.dice, _finite(lesion.hd95))
                yield case, region, count, kind, *measures, *lesion.centre


def _cases(folder: Path, details: Details) -> dict[str, Any]:
    """Return the content of cases.json."""
    cases = {}
    for case in details.files:
        optional = {
            "part": case.part,
            "missing_modalities": list(case.missing),
            "modalities": {name: _path(folder, file) for name, file in case.images},
        }
        cases[case.name] = {
            "prediction": _path(folder, case.prediction),
            "reference": _path(folder, case.reference),
            "regions": {region: _scores(details.scores[case.name][region]) for region in details.regions},
            **{key: value for key, value in optional.items() if value},
        }
    made = {"made": dict(details.made)} if details.made else {}
    rules = {"protocol": details.protocol.name, "settings": dict(details.protocol.settings)}
    return {"name": details.name, "label_convention": details.convention, **rules, **made, "cases": cases}


def _scores(scores: Scores) -> dict[str, Any]:
    """Return the scores of a region for cases.json; an infinite HD95 becomes null."""
    lesions = [asdict(lesion) | {"hd95": _finite(lesion.hd95)} for lesion in scores.lesions]
    return {"values": dict(scores.values), "volumes_mm3": scores.volumes, "lesions": lesions}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _path(folder: Path, file: Path | None) -> str | None:
    """Return a file's path: relative if the file is in the folder, which may be moved, else absolute."""
    if file is None:
        return None
    path = file.parent.resolve() / file.name
    for root in (folder.resolve(), final_folder(folder.resolve())):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return str(path)
