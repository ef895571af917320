"""Read the files of an evaluation, which `common.inference.results` writes, and tables in CSV."""

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from ..data.datalists import UNPRINTABLE
from ..data.regions import display_order, regions_of
from ..errors import InputError
from ..files import cell_text, check_regular, expand_home, valid_json, why_no_folder
from ..metrics.cards import Protocol, Scores
from ..metrics.lesions import Lesion
from ..metrics.protocols import protocol as protocol_of
from .publishing import SUMMARY
from .results import LESIONS, METRICS, CaseFiles, Details

EVALUATION = "an evaluation by scripts.evaluate or evaluate.yaml"
FLAGS = {"0": False, "1": True}
LONGEST = 2**20  # characters of a line that are read at once; the csv module refuses fields of 131,072
TEXT = {"type": "string", "pattern": rf"\A[^{UNPRINTABLE.pattern[1:]}+\Z"}
PATH = {"type": "string", "pattern": r"\A(?!([^\0]*/)?\.\.(/|\Z))[^\0]+\Z"}  # no part is ..; see `check_images`
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
KNOWN = {"type": ["string", "null"]}
MADE = {  # see `common.made.made_by`
    "type": "object",
    "required": ["command", "started", "versions", "git_commit", "cohort", "made_up", "checkpoints"],
    "properties": {
        **{"command": {"type": "string"}, "started": {"type": "string"}, "git_commit": KNOWN, "cohort": KNOWN},
        **{"versions": TEXTS, "made_up": {"type": "boolean"}, "checkpoints": TEXTS},
    },
}
OBJECT = {"type": "object"}
MEANS = OBJECT | {"additionalProperties": OBJECT | {"properties": {"mean": {"type": ["number", "null"]}}}}
SUMMARY_SCHEMA = OBJECT | {
    "required": ["protocol", "cases"],
    "properties": {"regions": OBJECT | {"additionalProperties": MEANS}},
}
CASES_SCHEMA = {
    "type": "object",
    "required": ["name", "label_convention", "cases"],
    "properties": {
        "name": {"type": "string"},
        "label_convention": {"type": "string"},
        "made": MADE,
        "cases": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": r"\A(?!\.\.?\Z)[^/\x00-\x1f]+\Z"},  # a page of slices has the case's name
            "additionalProperties": {
                "type": "object",
                "required": ["prediction", "reference", "volumes_mm3"],
                "properties": {
                    "prediction": PATH | {"type": ["string", "null"]},
                    "reference": PATH,
                    "volumes_mm3": {
                        "type": "object",
                        "additionalProperties": {
                            **{"type": "array", "minItems": 2, "maxItems": 2},
                            "items": {"type": "number", "minimum": 0},
                        },
                    },
                    "part": TEXT,
                    "missing_modalities": {"type": "array", "items": TEXT},
                    "modalities": {"type": "object", "propertyNames": TEXT, "additionalProperties": PATH},
                },
            },
        },
    },
}


def read(folder: str | Path) -> Details:
    """Read an evaluation; its cases are sorted.

    Raises an InputError that names a file that is missing or damaged, or contradicts the other files.
    """
    folder = expand_home(folder, str(folder))
    if not folder.is_dir():
        raise InputError(f"{folder}: {why_no_folder(folder)}; expected {EVALUATION}")
    protocol, summary = _protocol(folder / SUMMARY)
    path = folder / "cases.json"
    content = valid_json(path, EVALUATION, CASES_SCHEMA)
    cases, convention = content["cases"], content["label_convention"]
    if len(cases) != summary["cases"]:
        raise InputError(f"{path}: {len(cases)} cases; expected {summary['cases']}, as in {SUMMARY}")
    try:
        regions = display_order(regions_of(convention))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    values: dict[tuple[str, str], dict[str, float]] = {(case, region): {} for case in cases for region in regions}
    lesions: dict[tuple[str, str], list[Lesion]] = {key: [] for key in values}
    for where, (case, region, metric, value, unit) in read_table(folder / "metrics.csv", METRICS, EVALUATION):
        measured = _of(values, where, case, region)
        if metric in measured or unit != protocol.units.get(metric):
            wrong = "given twice" if metric in measured else f"no metric in {unit} of the protocol {protocol.name}"
            raise InputError(f"{where}: {metric} of {region} in {case}: {wrong}")
        measured[metric] = _number(f"{where}: {metric}", value, 1 if unit == "1" else math.inf)
    for where, (case, region, number, kind, *figures) in read_table(folder / "lesions.csv", LESIONS, EVALUATION):
        of_region = _of(lesions, where, case, region)
        if number != str(len(of_region) + 1):
            raise InputError(f"{where}: lesion {number}; expected {len(of_region) + 1}, the next of this region")
        of_region.append(_lesion(where, kind, *figures))
    for (case, region), measured in values.items():
        if measured.keys() != protocol.units.keys():
            found = ", ".join(measured) or "no figure"
            expected = ", ".join(protocol.units)
            raise InputError(f"{folder}/metrics.csv: {found} of {region} in {case}; expected {expected}")
    for region, metric in product(regions, protocol.units):
        mean = fmean(values[case, region][metric] for case in cases)
        stated = summary.get("regions", {}).get(region, {}).get(metric, {}).get("mean", mean)
        if stated is None or not math.isclose(mean, stated, rel_tol=1e-6, abs_tol=1e-9):
            raise InputError(f"{folder}/metrics.csv: mean {metric} of {region} {mean:g}; {SUMMARY} says {stated}")
    scores = {}
    for case in sorted(cases):
        volumes = cases[case]["volumes_mm3"]
        if volumes.keys() != set(regions):
            raise InputError(f"{path}: volumes_mm3 of {case}: expected a volume for each of {', '.join(regions)}")
        scores[case] = {
            region: Scores(
                {metric: values[case, region][metric] for metric in protocol.units},
                tuple(lesions[case, region]),
                (float(volumes[region][0]), float(volumes[region][1])),
            )
            for region in regions
        }
    files = [_files(folder, case, cases[case]) for case in scores]
    return Details(content["name"], convention, protocol, files, scores, content.get("made", {}))


def check_images(folder: str | Path, cases: Iterable[CaseFiles], data: Sequence[str | Path] = ()) -> None:
    """Refuse an evaluation of somebody else that would put private scans into a page.

    Args:
        folder: Folder of the evaluation; links out of it are not followed.
        cases: Its cases.
        data: Further folders whose files may be read; links in them are the user's own.

    Raises:
        InputError: a listed file lies elsewhere.
    """
    inside, own = Path(folder).resolve(), [Path(place).absolute() for place in data]
    for case in cases:
        for file in filter(None, (case.prediction, case.reference, *(file for _, file in case.images))):
            if not (
                file.resolve().is_relative_to(inside) or any(file.absolute().is_relative_to(place) for place in own)
            ):
                hint = f"expected --data={file.parent}, or a folder above, if you trust the evaluation"
                raise InputError(f"{file}: listed by {folder}, but outside of it; {hint}")


def _protocol(path: Path) -> tuple[Protocol, dict[str, Any]]:
    """The protocol of an evaluation, and its summary."""
    summary = valid_json(path, EVALUATION, SUMMARY_SCHEMA)
    try:
        protocol = protocol_of(summary["protocol"], summary.get("challenge"))
    except InputError as error:
        raise InputError(f"{path}: {error}; expected {EVALUATION}") from error
    for key, value in protocol.settings.items():
        if summary.get(key) != value:
            raise InputError(f"{path}: {key} {summary.get(key)}; expected {value}, the setting of {protocol.name}")
    return protocol, summary


def _lesion(where: str, kind: str, volume: str, scored: str, found: str, dice: str, hd95: str, *centre: str) -> Lesion:
    x, y, z = (int(_number(where, place, fits=str.isdecimal)) for place in centre)
    return Lesion(
        _word(f"{where}: kind", kind, {"reference": True, "false": False}),
        _number(where, volume),
        (x, y, z),
        _word(f"{where}: scored", scored, FLAGS),
        _word(f"{where}: found", found, FLAGS),
        _number(f"{where}: dice", dice, 1),
        _number(where, hd95) if hd95 else math.inf,
    )


def _word(where: str, cell: str, choices: Mapping[str, bool]) -> bool:
    if cell not in choices:
        raise InputError(f"{where}={cell}: expected one of {', '.join(choices)}")
    return choices[cell]


def _of(found: Mapping[tuple[str, str], Any], where: str, case: str, region: str) -> Any:
    if (case, region) not in found:
        raise InputError(f"{where}: region {region} of case {case!a}; expected one of cases.json")
    return found[case, region]


def _number(where: str, cell: str, highest: float = math.inf, fits: Callable[[str], bool] = bool) -> float:
    """A finite number from 0 on; its text may be held to a form."""
    try:
        value = float(cell) if cell.isascii() and "_" not in cell and fits(cell) else math.nan
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and 0 <= value <= highest):
        limit = f" to {highest}" if highest < math.inf else ""
        raise InputError(f"{where}: {cell!a}; expected a number from 0{limit}")
    return value


def _files(folder: Path, case: str, entry: Mapping[str, Any]) -> CaseFiles:
    prediction = None if entry["prediction"] is None else folder / entry["prediction"]
    images = tuple((name, folder / file) for name, file in entry.get("modalities", {}).items())
    missing = tuple(entry.get("missing_modalities", ()))
    return CaseFiles(case, prediction, folder / entry["reference"], images, missing, entry.get("part"))


def read_table(path: Path, columns: tuple[str, ...], expected: str) -> Iterator[tuple[str, list[str]]]:
    """Yield position (for messages) and cells of each row of a table from `common.files.write_csv`.

    Raises an InputError if the file cannot be read or has other columns; `expected` describes it.
    """
    expected = f"expected {expected}, with the columns {', '.join(columns)}"
    try:
        check_regular(path)
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.reader(iter(partial(file.readline, LONGEST), ""), strict=True)
            if tuple(next(lines, ())) != columns:
                raise InputError(f"{path}: unexpected header row; {expected}")
            for line in lines:
                if len(line) != len(columns):
                    raise InputError(f"{path}: line {lines.line_num}: {len(line)} columns; {expected}")
                yield f"{path}: line {lines.line_num}", [*map(cell_text, line)]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; {expected}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}; {expected}") from error
