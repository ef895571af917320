"""Read and validate the files of an evaluation, which `common.inference.results` writes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.datalists import UNPRINTABLE
from ..data.regions import display_order, regions_of
from ..errors import InputError
from ..files import reporting_path_errors, valid_json
from ..metrics.protocols import Lesion, Protocol, Scores
from ..metrics.protocols import protocol as protocol_of
from .results import LESIONS, METRICS, CaseFiles, Details
from .tables import read_table

Values = Mapping[tuple[str, str], NDArray[np.float64]]  # by region and metric, [cases]

WRITER = "scripts.evaluate or evaluate.yaml"
COUNT = {"type": "integer", "minimum": 0}
TEXT = {"type": "string", "pattern": rf"\A[^{UNPRINTABLE.pattern[1:]}+\Z"}
PATH = {"type": "string", "pattern": r"\A(/|(?!([^\0]*/)?\.\.(/|\Z)))[^\0]+\Z"}  # absolute, or inside the folder
PATH_OR_NULL = PATH | {"type": ["string", "null"]}
VOLUMES_SCHEMA = {"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 2, "maxItems": 2}
SUMMARY_SCHEMA = {
    "type": "object",
    "required": ["protocol", "cases", "missing", "lesions"],
    "properties": {
        "protocol": {"type": "string"},
        "cases": {"type": "integer", "minimum": 1},
        "missing": {"type": "array", "items": {"type": "string"}},
        "lesions": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "type": "object",
                "required": ["reference", "scored"],
                "properties": {"reference": COUNT, "scored": COUNT},
            },
        },
    },
}
CASES_SCHEMA = {
    "type": "object",
    "required": ["name", "label_convention", "cases"],
    "properties": {
        "name": {"type": "string"},
        "label_convention": {"type": "string"},
        "cases": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["prediction", "reference", "image", "volumes_mm3"],
                "properties": {
                    "prediction": PATH_OR_NULL,
                    "reference": PATH,
                    "image": PATH_OR_NULL,
                    "volumes_mm3": {"type": "object", "additionalProperties": VOLUMES_SCHEMA},
                    "part": TEXT,
                    "missing_modalities": {"type": "array", "items": TEXT},
                    "modalities": {"type": "object", "propertyNames": TEXT, "additionalProperties": PATH},
                },
            },
        },
    },
}


class Evaluation(NamedTuple):
    """The scores of an evaluation: `values` by region and metric, with one entry for each of the sorted `cases`.

    `lesions` counts all lesions and scored lesions of the references by region; `missing` cases had no prediction and
    were scored as empty.
    """

    folder: str
    protocol: Protocol
    cases: tuple[str, ...]
    values: Values
    lesions: Mapping[str, tuple[int, int]]
    missing: tuple[str, ...] = ()


def read(folder: str | Path) -> Evaluation:
    """Read and check metrics.csv and summary.json of an evaluation.

    Invalid, missing or duplicate values, and a protocol with changed settings, raise `InputError`.
    """
    folder = Path(folder)
    with reporting_path_errors(str(folder)):
        is_folder = folder.is_dir()
    if not is_folder:
        raise InputError(f"{folder}: no such folder; expected one that {WRITER} wrote")
    path = folder / "summary.json"
    summary = valid_json(path, f"a summary by {WRITER}", SUMMARY_SCHEMA)
    try:
        protocol = protocol_of(summary["protocol"], summary.get("challenge"), summary.get("tolerance_mm"))
    except InputError as error:
        raise InputError(f"{path}: {error}; expected a summary by {WRITER}") from error
    for key, value in protocol.settings.items():
        if summary.get(key) != value:
            raise InputError(f"{path}: {key} {summary.get(key)}; expected {value}, as {protocol.name} has")
    counts, missing = summary["lesions"], tuple(summary["missing"])
    lesions = {region: (counts[region]["reference"], counts[region]["scored"]) for region in display_order(counts)}
    cases, values = _read_values(folder / "metrics.csv", protocol, lesions)
    if len(cases) != summary["cases"]:
        raise InputError(f"{path}: {summary['cases']} cases; expected {len(cases)}, as in metrics.csv")
    if unknown := sorted(set(missing) - set(cases)):
        raise InputError(f"{path}: {unknown[0]} is missing; expected a case of metrics.csv")
    measured = {metric for _, metric in values}
    units = {metric: unit for metric, unit in protocol.units.items() if metric in measured}
    return Evaluation(str(folder), replace(protocol, units=units), cases, values, lesions, missing)


def read_details(folder: str | Path) -> Details:
    """Read the tables and cases.json of an evaluation, and check that they agree."""
    folder = Path(folder)
    evaluation = read(folder)
    path = folder / "cases.json"
    content = valid_json(path, f"the cases of {WRITER}", CASES_SCHEMA)
    cases, convention, regions = content["cases"], content["label_convention"], list(evaluation.lesions)
    try:
        found = display_order(regions_of(convention))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if found != regions:
        expected = f"expected one with the regions {', '.join(regions)}"
        raise InputError(f"{path}: label_convention {convention}; {expected}")
    if cases.keys() != set(evaluation.cases):
        raise InputError(f"{path}: {len(cases)} cases; expected the {len(evaluation.cases)} cases of metrics.csv")
    for case, entry in cases.items():
        if (entry["prediction"] is None) != (case in evaluation.missing):
            raise InputError(f"{path}: prediction of {case}: null if, and only if, summary.json says it is missing")
        volumes = entry["volumes_mm3"]
        if volumes.keys() != set(regions) or not np.isfinite(list(volumes.values())).all():
            raise InputError(f"{path}: volumes_mm3 of {case}: expected those of {', '.join(regions)}")
    lesions = _read_lesions(folder / "lesions.csv", {(case, region): [] for case in cases for region in regions})
    scores = {
        case: {
            region: Scores(
                {metric: float(evaluation.values[region, metric][place]) for metric in evaluation.protocol.units},
                tuple(lesions[case, region]),
                (float(cases[case]["volumes_mm3"][region][0]), float(cases[case]["volumes_mm3"][region][1])),
            )
            for region in regions
        }
        for place, case in enumerate(evaluation.cases)
    }
    files = tuple(_files(folder, case, cases[case]) for case in evaluation.cases)
    return Details(content["name"], convention, evaluation.protocol, files, scores)


def _read_values(
    path: Path, protocol: Protocol, regions: Mapping[str, Any]
) -> tuple[tuple[str, ...], dict[tuple[str, str], NDArray[np.float64]]]:
    """The cases and their values; each metric of the table must occur once for each case and region."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for where, (case, region, metric, value, unit) in read_table(path, METRICS, f"a table by {WRITER}"):
        if region not in regions or unit != protocol.units.get(metric):
            raise InputError(f"{where}: {metric} of {region} in {unit}; expected what {protocol.name} measures")
        if case in found.setdefault((region, metric), {}):
            raise InputError(f"{where}: {metric} of {region} for the case {case} again; expected it once")
        found[region, metric][case] = value
    metrics = {metric for _, metric in found}
    cases = sorted(set().union(*found.values()))
    values = {}
    for region in regions:
        for metric in protocol.units:
            if metric in metrics or metric in protocol.ranked:  # older evaluations may lack a figure
                measured = found.get((region, metric), {})
                if lacking := next((case for case in cases if case not in measured), None if cases else "any"):
                    raise InputError(f"{path}: no {metric} of {region} for the case {lacking}; expected one")
                values[region, metric] = np.array([measured[case] for case in cases])
    return tuple(cases), values


def _read_lesions(path: Path, found: dict[tuple[str, str], list[Lesion]]) -> dict[tuple[str, str], list[Lesion]]:
    """Add lesions to `found` by case and region, in the order of their numbers."""
    for where, (case, region, count, *measured, x, y, z) in read_table(path, LESIONS, f"a table by {WRITER}"):
        if (case, region) not in found:
            raise InputError(f"{where}: region {region} of case {case!a}; expected a case of metrics.csv")
        lesions = found[case, region]
        if count != len(lesions) + 1:
            raise InputError(f"{where}: lesion {count}; expected {len(lesions) + 1}, the next of this region")
        is_reference, volume, is_scored, is_found, dice, hd95 = measured
        lesions.append(Lesion(is_reference, volume, (x, y, z), is_scored, is_found, dice, hd95))
    return found


def _files(folder: Path, case: str, entry: Mapping[str, Any]) -> CaseFiles:
    prediction, reference, image = (
        None if entry[key] is None else folder / entry[key] for key in ("prediction", "reference", "image")
    )
    modalities = tuple((name, folder / file) for name, file in entry.get("modalities", {}).items())
    missing = tuple(entry.get("missing_modalities", ()))
    return CaseFiles(case, prediction, reference or Path(), image, entry.get("part"), missing, modalities)
