"""Read the files of an evaluation and validate them; `common.inference.results` writes them."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.datalists import UNPRINTABLE
from ..data.regions import display_order, regions_of
from ..errors import InputError
from ..files import cell_text, check_regular, reporting_path_errors, valid_json
from ..metrics.protocols import PRESENT, Lesion, Protocol, Scores, figures
from ..metrics.protocols import protocol as protocol_of
from .publishing import check_finished, place_of
from .results import LESIONS, METRICS, CaseFiles, Cases, count_lesions, statistics

__all__ = ["Details", "Evaluation", "Values", "read", "read_details"]

Values = Mapping[tuple[str, str], NDArray[np.float64]]  # by region and metric, [cases]
Volumes = Mapping[str, Mapping[str, tuple[float, float]]]  # by case and region: prediction and reference, mm3
Found = dict[tuple[str, str], dict[str, float]]  # by region and metric, then by case

WRITER = "scripts.evaluate or evaluate.yaml"
FILES = ("prediction", "reference", "image")
LONGEST = 2**20  # characters of a line that are read at once; the csv module refuses a field of 131,072
OPTIONAL = {"part", "missing_modalities", "modalities"}


class Evaluation(NamedTuple):
    """The scores of an evaluation.

    Attributes:
        folder: that it was read from.
        protocol: that measured it.
        cases: names in sorted order.
        values: by region and metric, one for each case.
        lesions: lesions of the references by region: all of them, and those that are scored.
        missing: cases without prediction, which were scored as empty.
    """

    folder: str
    protocol: Protocol
    cases: tuple[str, ...]
    values: Values
    lesions: Mapping[str, tuple[int, int]]
    missing: tuple[str, ...] = ()


class Details(NamedTuple):
    """Everything that the page of an evaluation shows, except the voxels.

    Attributes:
        name: of what was evaluated.
        convention: label convention of the label maps.
        protocol: that measured the scores.
        files: of the cases, sorted by name.
        scores: of each case, in the same order, and each region, in the order of `common.data.display_order`.
        summary: content of summary.json.
    """

    name: str
    convention: str
    protocol: Protocol
    files: tuple[CaseFiles, ...]
    scores: Cases
    summary: Mapping[str, Any]


class _Row(NamedTuple):
    """A row of a table, by column, and how a message names it."""

    where: str
    cells: dict[str, str]


def read(folder: str | Path) -> Evaluation:
    """Read metrics.csv and summary.json of an evaluation.

    Raises:
        InputError: a file cannot be read; it has another column, metric or unit than `common.inference.write` writes; a
            value is out of range, not finite, missing or there twice; the protocol has other settings today.
    """
    return _read(Path(folder))[0]


def read_details(folder: str | Path) -> Details:
    """Read all files of an evaluation.

    Raises:
        InputError: as `read`; or a file contradicts another one, or has other content than `common.inference.write`
            writes.
    """
    folder = Path(folder)
    evaluation, summary = _read(folder)
    regions = list(evaluation.lesions)
    name, convention, files, volumes = _read_cases(folder, evaluation)
    lesions = _read_lesions(folder / "lesions.csv", evaluation.cases, regions)
    scores = {
        case: {
            region: Scores(
                {metric: float(evaluation.values[region, metric][place]) for metric in evaluation.protocol.units},
                tuple(lesions[case, region]),
                volumes[case][region],
            )
            for region in regions
        }
        for place, case in enumerate(evaluation.cases)
    }
    _check_summary(folder / "summary.json", summary, evaluation, scores)
    return Details(name, convention, evaluation.protocol, files, scores, summary)


def _read(folder: Path) -> tuple[Evaluation, dict[str, Any]]:
    with reporting_path_errors(str(folder)):
        is_folder = folder.is_dir()
    if not is_folder:
        raise InputError(f"{folder}: no such folder; expected one that {WRITER} wrote")
    check_finished(folder)
    path = folder / "summary.json"
    summary = valid_json(path, f"a summary by {WRITER}")
    try:
        settings = {key: summary.get(key) for key in ("challenge", "tolerance_mm")}
        protocol = protocol_of(summary["protocol"], settings["challenge"], settings["tolerance_mm"])
        counts = summary["lesions"]
        regions = display_order(counts)
        lesions = {region: (counts[region]["reference"], counts[region]["scored"]) for region in regions}
        missing = tuple(map(str, summary["missing"]))
        differing = [key for key, value in protocol.settings.items() if summary.get(key) != value]
        is_sound = not differing and bool(regions) and len(regions) == len(counts) and summary["cases"] >= 1
    except InputError as error:
        raise InputError(f"{path}: {error}; expected a summary by {WRITER}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problem = f"no {error.args[0]}" if isinstance(error, KeyError) else "other content"
        raise InputError(f"{path}: {problem}; expected a summary by {WRITER}") from error
    if not is_sound:
        key = differing[0] if differing else ""
        problem = f"{key} {summary.get(key)}" if differing else f"regions {', '.join(counts) or 'none'}"
        raise InputError(f"{path}: {problem}; expected what this version of the protocol {protocol.name} writes")
    cases, values = _read_values(folder / "metrics.csv", protocol, regions)
    if len(cases) != summary["cases"]:
        raise InputError(
            f"{folder}: {len(cases)} cases in metrics.csv; expected {summary['cases']}, as in summary.json"
        )
    if unknown := sorted(set(missing) - set(cases)):
        raise InputError(f"{path}: {unknown[0]} is missing; expected a case of metrics.csv")
    return Evaluation(str(folder), protocol, cases, values, lesions, missing), summary


def _read_rows(path: Path, columns: Sequence[str]) -> Iterator[_Row]:
    expected = f"expected the columns {', '.join(columns)}"
    try:
        check_regular(path)
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(iter(partial(file.readline, LONGEST), ""), strict=True)
            if tuple(next(rows, ())) != tuple(columns):
                raise InputError(f"{path}: unexpected header row; {expected}")
            for row in rows:
                where = f"{path}: line {rows.line_num}"
                if len(row) != len(columns):
                    raise InputError(f"{where}: {len(row)} columns; expected {', '.join(columns)}")
                yield _Row(where, dict(zip(columns, map(cell_text, row), strict=True)))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected the file of an evaluation") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}; {expected}") from error


# metrics.csv


def _read_values(path: Path, protocol: Protocol, regions: Sequence[str]) -> tuple[tuple[str, ...], Values]:
    """The cases, and their values, each of which the table must have once."""
    found: Found = {(region, metric): {} for region in regions for metric in protocol.units}
    for row in _read_rows(path, METRICS):
        _add_value(found, row, protocol)
    cases = sorted(set().union(*found.values()))
    for (region, metric), values in found.items():
        for case in cases:
            if case not in values:
                raise InputError(f"{path}: no {metric} of {region} for the case {case}; expected one")
    return tuple(cases), {key: np.array([values[case] for case in cases]) for key, values in found.items()}


def _add_value(found: Found, row: _Row, protocol: Protocol) -> None:
    case, region, metric, unit = (row.cells[column] for column in ("case", "region", "metric", "unit"))
    if UNPRINTABLE.search(case) or case != Path(case).name:
        raise InputError(f"{row.where}: case {json.dumps(case)}; expected a file name of one line in Unicode")
    if (region, metric) not in found or unit != protocol.units[metric]:
        raise InputError(f"{row.where}: {metric} of {region} in {unit}; expected what {protocol.name} measures")
    if case in found[region, metric]:
        raise InputError(f"{row.where}: {metric} of {region} for the case {case} again; expected it once")
    found[region, metric][case] = _number(row, "value", 1 if unit == "1" else math.inf)


def _number(row: _Row, column: str, highest: float = math.inf) -> float:
    """A finite number from 0 on."""
    value = row.cells[column]
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or not 0 <= number <= highest:
        limits = "of at least 0" if highest == math.inf else f"from 0 to {highest:g}"
        raise InputError(f"{row.where}: {column} {value}; expected a finite number {limits}")
    return number


# lesions.csv


def _read_lesions(path: Path, cases: Sequence[str], regions: Sequence[str]) -> dict[tuple[str, str], list[Lesion]]:
    """The lesions by case and region, in the order of their numbers."""
    found: dict[tuple[str, str], list[Lesion]] = {(case, region): [] for case in cases for region in regions}
    for row in _read_rows(path, LESIONS):
        case, region, number = (row.cells[column] for column in ("case", "region", "lesion"))
        if (case, region) not in found:
            raise InputError(f"{row.where}: region {region} of case {case!a}; expected a case of metrics.csv")
        lesions = found[case, region]
        if number != str(len(lesions) + 1):
            raise InputError(f"{row.where}: lesion {number}; expected {len(lesions) + 1}, the next of this region")
        lesions.append(_lesion(row))
    return found


def _lesion(row: _Row) -> Lesion:
    kind = row.cells["kind"]
    if kind not in ("reference", "false"):
        raise InputError(f"{row.where}: kind {kind}; expected reference or false")
    centre = [_index(row, axis) for axis in "xyz"]
    return Lesion(
        is_reference=kind == "reference",
        volume=_number(row, "volume_mm3"),
        centre=(centre[0], centre[1], centre[2]),
        is_scored=_flag(row, "scored"),
        is_found=_flag(row, "found"),
        dice=_number(row, "dice", 1),
        hd95=_number(row, "hd95_mm") if row.cells["hd95_mm"] else math.inf,
    )


def _flag(row: _Row, column: str) -> bool:
    if row.cells[column] not in ("0", "1"):
        raise InputError(f"{row.where}: {column} {row.cells[column]}; expected 0 or 1")
    return row.cells[column] == "1"


def _index(row: _Row, column: str) -> int:
    value = row.cells[column]
    if not (value.isascii() and value.isdecimal()):
        raise InputError(f"{row.where}: {column} {value}; expected the number of a voxel, counted from 0")
    return int(value)


# cases.json


def _read_cases(folder: Path, evaluation: Evaluation) -> tuple[str, str, tuple[CaseFiles, ...], Volumes]:
    path = folder / "cases.json"
    content = valid_json(path, f"the cases of an evaluation by {WRITER}")
    expected = "expected an object of name, label_convention and cases"
    if not isinstance(content, dict) or content.keys() != {"name", "label_convention", "cases"}:
        keys = ", ".join(map(ascii, content)) if isinstance(content, dict) else type(content).__name__
        raise InputError(f"{path}: {keys or 'empty'}; {expected}")
    name, convention, cases = content["name"], content["label_convention"], content["cases"]
    if not isinstance(name, str):
        raise InputError(f"{path}: name {json.dumps(name)}; expected text")
    regions = set(evaluation.lesions)
    try:
        is_known = isinstance(convention, str) and set(regions_of(convention)) == regions
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not is_known:
        raise InputError(
            f"{path}: label_convention {json.dumps(convention)}; expected one with the regions {', '.join(regions)}"
        )
    if not isinstance(cases, dict) or cases.keys() != set(evaluation.cases):
        count = f"{len(cases)} cases" if isinstance(cases, dict) else type(cases).__name__
        raise InputError(f"{path}: {count}; expected the {len(evaluation.cases)} cases of metrics.csv")
    files, volumes = [], {}
    for case in evaluation.cases:
        files.append(_files(path, case, cases[case], case in evaluation.missing))
        volumes[case] = _volumes(path, case, cases[case]["volumes_mm3"], list(evaluation.lesions))
    return name, convention, tuple(files), volumes


def _files(path: Path, case: str, content: Any, is_missing: bool) -> CaseFiles:
    if not isinstance(content, dict) or content.keys() - OPTIONAL != {*FILES, "volumes_mm3"}:
        raise InputError(f"{path}: case {case}: other keys; expected {', '.join(FILES)} and volumes_mm3")
    for key in FILES:
        value = content[key]
        if key == "prediction" and (value is None) != is_missing:
            expected = "null, as it is missing in summary.json" if is_missing else "a path"
            raise InputError(f"{path}: case {case}: prediction {json.dumps(value)}; expected {expected}")
        if not (value is None and key != "reference") and not _is_path(value):
            expected = "an absolute path, or one inside the folder"
            raise InputError(f"{path}: case {case}: {key} {json.dumps(value)}; expected {expected}")
    prediction, reference, image = (None if content[key] is None else _place(path, content[key]) for key in FILES)
    part = content.get("part")
    if "part" in content and (not isinstance(part, str) or not part.strip() or UNPRINTABLE.search(part)):
        raise InputError(f"{path}: case {case}: part {json.dumps(part)}; expected text of one line")
    missing = content.get("missing_modalities", [])
    if not isinstance(missing, list) or not all(isinstance(name, str) and name.isprintable() for name in missing):
        raise InputError(f"{path}: case {case}: missing_modalities {json.dumps(missing)}; expected a list of names")
    images = content.get("modalities", {})
    if not isinstance(images, dict) or not all(name.isprintable() and _is_path(file) for name, file in images.items()):
        raise InputError(f"{path}: case {case}: modalities {json.dumps(images)}; expected an image's path by name")
    modalities = tuple((name, _place(path, file)) for name, file in images.items())
    return CaseFiles(case, prediction, reference or Path(), image, part, tuple(missing), modalities)


def _place(path: Path, name: str) -> Path:
    """A file that cases.json names; results that are yet to appear name files of the folder that they are to be in."""
    file = path.parent / name
    return file if file.exists() else place_of(path.parent) / name


def _is_path(value: Any) -> bool:
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    return Path(value).is_absolute() or ".." not in PurePosixPath(value).parts


def _volumes(path: Path, case: str, content: Any, regions: Sequence[str]) -> dict[str, tuple[float, float]]:
    if not isinstance(content, dict) or content.keys() != set(regions):
        raise InputError(f"{path}: case {case}: other volumes_mm3; expected the regions {', '.join(regions)}")
    for region, pair in content.items():
        if not isinstance(pair, list) or len(pair) != 2 or not all(_is_number(value) and value >= 0 for value in pair):
            expected = "two numbers of at least 0, of prediction and reference"
            raise InputError(f"{path}: case {case}: volumes_mm3 of {region} {json.dumps(pair)}; expected {expected}")
    return {region: (float(content[region][0]), float(content[region][1])) for region in regions}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# summary.json


def _check_summary(path: Path, summary: Mapping[str, Any], evaluation: Evaluation, scores: Cases) -> None:
    """Check that the summary is that of the tables; of the bootstrap intervals, that they are intervals."""
    for region, counts in summary["lesions"].items():
        found = count_lesions(measured[region] for measured in scores.values())
        if counts != found:
            raise InputError(f"{path}: lesions of {region} {json.dumps(counts)}; expected {found}, as in lesions.csv")
    for region in evaluation.lesions:
        for metric, values in figures([measured[region] for measured in scores.values()], evaluation.protocol).items():
            try:
                of_region = summary["regions"][region]
                if metric == PRESENT:  # an older evaluation lacks it
                    of_region.setdefault(metric, {**statistics(values), "unit": "1"})
                stated = of_region[metric]
                agrees = _agrees(stated, values) and stated["unit"] == evaluation.protocol.units.get(metric, "1")
            except (IndexError, KeyError, TypeError):
                agrees = False
            if not agrees:
                raise InputError(f"{path}: {metric} of {region}: other figures; expected those of metrics.csv")


def _agrees(stated: Mapping[str, Any], values: Sequence[float]) -> bool:
    expected: dict[str, float | None] = dict.fromkeys(("mean", "median", "sd"))
    if values:
        expected |= {"mean": float(np.mean(values)), "median": float(np.median(values))}
    interval = stated["ci95"]
    is_interval = interval is None
    if len(values) > 1:
        expected["sd"] = float(np.std(values, ddof=1))
        is_interval = len(interval) == 2 and all(map(_is_number, interval)) and interval[0] <= interval[1]
    return (
        stated["n"] == len(values) and is_interval and all(_equals(stated[name], expected[name]) for name in expected)
    )


def _equals(stated: Any, value: float | None) -> bool:
    if value is None:
        return stated is None
    return _is_number(stated) and math.isclose(stated, value, rel_tol=1e-9, abs_tol=1e-12)
