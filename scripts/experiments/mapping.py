"""How a study's runs fill the paper's tables: the keys `tables` and `figures` of a study, and their checks."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from common.errors import InputError

__all__ = ["FIGURE", "NAME", "ROW", "SCORED", "TABLE", "axes_of", "check_mapping", "names_of", "paper"]

SCORED = (4, 5, 6, 8, 9)  # tables of scores; 2 and 7 need no run
TEXT = {"type": "string", "minLength": 1, "maxLength": 200}
NAME = {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"}
BASELINES = {"anyOf": [TEXT, {"type": "array", "items": TEXT, "minItems": 1}]}
# A row: a run, and a value for each of its axes that is not averaged over
ROW: dict[str, Any] = {
    "type": "object",
    "required": ["run"],
    "properties": {
        "run": NAME,
        "baseline": BASELINES,  # instead of those of the table
        "new": {"const": True},  # the paper has no such row
    },
    "propertyNames": NAME,
    "additionalProperties": {"type": ["string", "number"]},
}
ROWS = {"type": "object", "propertyNames": TEXT, "additionalProperties": ROW, "minProperties": 1}
TABLE = {
    "type": "object",
    "required": ["table"],
    "properties": {
        "table": {"enum": [2, 7, *SCORED]},
        "note": TEXT,
        "metric": {"enum": ["dice", "dice_present"]},  # what the table's Dice is; DIFF-23
        "regions": {"type": "array", "items": TEXT, "minItems": 1, "uniqueItems": True},
        "columns": NAME,
        "rows": ROWS,
        "baseline": BASELINES,
    },
    "if": {"properties": {"table": {"enum": list(SCORED)}}},
    "then": {"required": ["rows"]},
    "else": {"properties": {"table": True, "note": True}, "additionalProperties": False},
    "additionalProperties": False,
}
FIGURE = {
    "type": "object",
    "required": ["figure", "rows"],
    "properties": {"figure": {"const": 4}, "rows": ROWS},
    "additionalProperties": False,
}


@cache
def paper() -> dict[int, dict[str, Any]]:
    """The tables of the paper by number, from paper.yaml."""
    found: dict[int, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("paper.yaml").read_text("utf-8"))
    return found


def names_of(baseline: Any) -> list[str]:
    """The names of one baseline or several; none for None."""
    return [] if baseline is None else [baseline] if isinstance(baseline, str) else list(baseline)


def check_mapping(study: Mapping[str, Any], path: Path) -> None:
    """Refuse tables and figures that name unknown rows, runs, axes or values.

    Raises:
        InputError: names the key, what it has and what was expected.
    """
    for place, table in enumerate(study.get("tables", [])):
        if "rows" not in table:
            continue
        where = f"study {path}: tables.{place}"
        known = paper()[table["table"]]["systems"]
        for name, row in table["rows"].items():
            if name not in known and "new" not in row:
                raise InputError(f"{where}.rows: {name!a}: expected one of {', '.join(known)}, or new: true")
            if not study["runs"].get(row["run"], {}).get("evaluate"):
                raise InputError(f"{where}.rows.{name!a}: run={row['run']}: expected a run with evaluate")
            _check_values(study, row, f"{where}.rows.{name!a}")
            if "columns" in table and table["columns"] not in axes_of(study, row["run"]):
                raise InputError(f"{where}.columns={table['columns']}: expected an axis of {row['run']}")
            _check_baselines(row.get("baseline"), table, f"{where}.rows.{name!a}")
        _check_baselines(table.get("baseline"), table, where)
    for place, figure in enumerate(study.get("figures", [])):
        for name, row in figure["rows"].items():
            if "bundle" not in study["runs"].get(row["run"], {}):
                raise InputError(f"study {path}: figures.{place}: run={row['run']}: expected a run of a bundle")
            _check_values(study, row, f"study {path}: figures.{place}.rows.{name!a}")


def _check_baselines(baseline: Any, table: Mapping[str, Any], where: str) -> None:
    for name in names_of(baseline):
        if name not in table["rows"]:
            raise InputError(f"{where}: baseline={name!a}: expected a row of this table")


def _check_values(study: Mapping[str, Any], row: Mapping[str, Any], where: str) -> None:
    axes = axes_of(study, row["run"])
    for axis, value in row.items():
        if axis in ROW["properties"]:
            continue
        if value not in axes.get(axis, []):
            expected = ", ".join(map(str, axes.get(axis, []))) or f"one of the axes {', '.join(axes) or 'none'}"
            raise InputError(f"{where}: {axis}={value!a}: expected {expected}")


def axes_of(study: Mapping[str, Any], name: str) -> dict[str, list[Any]]:
    """The axes of an entry and their values: its own, and those of what it starts from."""
    entry = study["runs"].get(name) or study["datalists"].get(name, {})
    axes: dict[str, list[Any]] = {}
    for key in ("from", "datalist", "pretrained"):
        if key in entry:
            axes |= axes_of(study, entry[key])
    return axes | entry.get("for", {})
