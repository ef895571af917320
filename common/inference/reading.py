"""Read the files of an evaluation, which `common.inference.results` writes, and tables in CSV."""

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile, zip_longest
from pathlib import Path
from statistics import fmean
from typing import Any

from ..data.datalists import UNPRINTABLE
from ..data.regions import display_order, regions_of
from ..errors import InputError, within
from ..files import cell_text, check_regular, expand_home, valid_json, why_no_folder
from ..metrics.cards import Protocol, Scores
from ..metrics.lesions import Lesion
from ..metrics.protocols import protocol as protocol_of
from .publishing import SUMMARY
from .results import LESIONS, METRICS, CaseFiles, Details, rows_of_lesions, rows_of_metrics

EVALUATION = "an evaluation by scripts.evaluate or evaluate.yaml"
Row = tuple[str, list[str]]  # position, for messages, and cells
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
    with within(path):
        regions = display_order(regions_of(convention))
    values: dict[tuple[str, str, str], float] = {}
    lesions = defaultdict(list)
    metric_rows, lesion_rows = (
        [*read_table(folder / name, columns, EVALUATION)]
        for name, columns in (("metrics.csv", METRICS), ("lesions.csv", LESIONS))
    )
    for where, (case, region, name, value, unit) in metric_rows:
        values.setdefault((case, region, name), _number(f"{where}: {name}", value, 1 if unit == "1" else math.inf))
    for where, (case, region, _, *cells) in lesion_rows:
        lesions[case, region].append(_lesion(where, *cells))

    def scores(case: str, region: str, volumes: Sequence[float]) -> Scores:
        figures = {name: values.get((case, region, name), math.nan) for name in protocol.units}
        return Scores(figures, tuple(lesions[case, region]), (float(volumes[0]), float(volumes[1])))

    for case, entry in cases.items():
        if entry["volumes_mm3"].keys() != set(regions):
            raise InputError(f"{path}: volumes_mm3 of {case}: expected a volume for each of {', '.join(regions)}")
    of_cases = {
        case: {region: scores(case, region, entry["volumes_mm3"][region]) for region in regions}
        for case, entry in cases.items()
    }
    details = Details(content["name"], convention, protocol, [], of_cases, content.get("made", {}))
    _check_rows(folder / "metrics.csv", metric_rows, rows_of_metrics(details))
    _check_rows(folder / "lesions.csv", lesion_rows, rows_of_lesions(details))
    for (region, name), figures in details.values.items():
        mean = fmean(figures)
        stated = summary.get("regions", {}).get(region, {}).get(name, {}).get("mean", mean)
        if stated is None or not math.isclose(mean, stated, rel_tol=1e-6, abs_tol=1e-9):
            raise InputError(f"{folder}/metrics.csv: mean {name} of {region} {mean:g}; {SUMMARY} says {stated}")
    files = [_files(folder, case, cases[case]) for case in sorted(cases)]
    return details._replace(files=files, scores={case: of_cases[case] for case in sorted(cases)})


def _check_rows(path: Path, rows: Sequence[Row], written: Iterable[Sequence[Any]]) -> None:
    """Refuse a table that differs from the one that its own content would be written to."""
    for row, expected in zip_longest(rows, written):
        where, cells = row or (f"{path}: end", ["no row"])
        wanted = ["no row"] if expected is None else [*map(str, expected)]
        if cells != wanted:
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(cells, wanted, strict=False)))
            text = ",".join(wanted[: max(3, same + 1)])
            raise InputError(f"{where}: {','.join(cells)!a}; expected {text!a}, by {SUMMARY} and cases.json")


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
    with within(path):
        protocol = protocol_of(summary["protocol"], summary.get("challenge"))
    for key, value in protocol.settings.items():
        if summary.get(key) != value:
            raise InputError(f"{path}: {key} {summary.get(key)}; expected {value}, the setting of {protocol.name}")
    return protocol, summary


def _lesion(where: str, kind: str, volume: str, scored: str, found: str, dice: str, hd95: str, *centre: str) -> Lesion:
    """A lesion of a row; `_check_rows` finds words and flags that it does not know."""
    x, y, z = (int(_number(where, place, fits=str.isdecimal)) for place in centre)
    distance = _number(where, hd95) if hd95 else math.inf
    share = _number(f"{where}: dice", dice, 1)
    return Lesion(kind == "reference", _number(where, volume), (x, y, z), scored == "1", found == "1", share, distance)


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


def read_table(path: Path, columns: tuple[str, ...], expected: str) -> Iterator[Row]:
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
