"""A study in YAML: the training runs, their data, and the tables of the paper that they fill.

Entries of `datalists` and `runs` may start from earlier entries. `for` gives an entry axes, such as `fold: [0, 1]`; an
entry inherits the axes of its sources and has one job for each combination of values. `"{fold}"` in an entry is
replaced with the job's value.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

from common.configs import BUNDLES, STUDIES, bundles_with, warn_of_program
from common.data.cohorts import COHORTS
from common.errors import ArgumentError, InputError, did_you_mean, within
from common.files import read_yaml, valid_yaml, why_no_file
from common.metrics.cards import DICE, PRESENT
from common.schemas import array, check_schema, mapping, only
from scripts.experiments.jobs import derivation_of

SCORED_TABLES = (4, 5, 6, 8, 9)  # tables of scores; 2 needs no run
ROW_KEYS = ("run", "baseline", "new")  # all other keys of a row are axes


NAME = {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"}
TEXT = {"type": "string", "minLength": 1, "maxLength": 200}
VALUE = {"type": ["string", "number", "boolean", "null", "array", "object"]}
LAYOUT = {"enum": [*COHORTS]}
# Options that the study sets itself
TAKEN = "bundle_root|ckpt_dir|checkpoint|datalist|dataset_dir|layout|output|output_dir|resume|root|split"
OPTION = {"pattern": rf"^(?!({TAKEN})$)[a-z]\w*(::\w+)*$", "description": "options that the study does not set itself"}
OPTION_VALUES = mapping(VALUE, OPTION)
COHORT = {**OPTION_VALUES, "properties": {"subjects": {"type": "integer", "minimum": 1}}}
OVERLAYS = array({"type": "string", "pattern": r"^[\w-]+\.yaml$"})
AXES = mapping(array({"type": ["string", "number"], "pattern": r"^\w[\w.-]*$"}, minItems=1, uniqueItems=True), NAME)
DATALIST = only(
    **{
        "layout": LAYOUT,
        "data": {"type": "string", "pattern": r"^\w[\w.-]*$"},  # name of a folder, not a path
        "from": NAME,
        "files": array(NAME),
        "for": AXES,
        "options": OPTION_VALUES,
    }
) | {"oneOf": [{"required": ["layout"]}, {"required": ["data"]}, {"required": ["from"]}]}
RUN = only(
    **{
        "bundle": NAME,
        "command": {"type": "string", "pattern": r"\S", "description": "a program and its arguments"},
        "target": {"type": "string", "pattern": r"^\w[\w.-]*(/\w[\w.-]*)*$"},
        "files": array(NAME),
        "datalist": NAME,
        "pretrained": NAME,
        "for": AXES,
        "overlays": OVERLAYS,
        "options": OPTION_VALUES,
        "evaluate": {"enum": [True, False, "validation", "testing"]},  # true: testing
        "evaluation": OPTION_VALUES,
        "pool": NAME,
    }
) | {
    "oneOf": [{"required": ["bundle", "datalist"]}, {"required": ["command"]}],
    "dependentRequired": {"evaluate": ["datalist"]},
}
UNUSED = {"bundle": ("command", "target"), "command": ("overlays", "options", "evaluation")}  # keys by kind of run
BASELINES = TEXT | array(TEXT, minItems=1) | {"type": ["string", "array"]}
# A row: a run, and fixed values of axes; `new` marks a row that the paper lacks
ROW = mapping(
    {"type": ["string", "number"]},
    NAME,
    required=["run"],
    properties={"run": NAME, "baseline": BASELINES, "new": {"const": True}},
)
ROWS = mapping(ROW, TEXT, minProperties=1)
TABLE = only(
    {"table": {"enum": [2, *SCORED_TABLES]}},
    note=TEXT,
    metric={"enum": [DICE.name, PRESENT]},  # variant of Dice; DIFF-23
    columns=NAME,
    rows=ROWS,
    baseline=BASELINES,
) | {
    "if": {"properties": {"table": {"enum": list(SCORED_TABLES)}}},
    "then": {"required": ["rows"]},
    "else": only(table=True, note=True),
}
STUDY_SCHEMA = only(
    {
        "title": {"type": "string"},
        "datalists": mapping(DATALIST, NAME),
        "runs": mapping(RUN, NAME, minProperties=1),
    },
    cohorts=mapping(COHORT, LAYOUT),
    settings=only(overlays=OVERLAYS, options=OPTION_VALUES),
    tables=array(TABLE),
    figures=array(only({"figure": {"const": 4}, "rows": ROWS})),
)


@cache
def paper() -> dict[int, dict[str, Any]]:
    """Return the paper's tables by number, from paper.yaml."""
    return {int(number): table for number, table in read_yaml(Path(__file__).with_name("paper.yaml")).items()}


def read(study: str) -> tuple[str, dict[str, Any]]:
    """Read and check a study by its name in `studies` or its YAML file; return (name, content)."""
    names = sorted(path.stem for path in STUDIES.glob("*.yaml"))
    path = STUDIES / f"{study}.yaml" if study in names else Path(study)
    if not path.is_file():
        raise InputError(f"study {study}: {why_no_file(path)}; expected one of {', '.join(names)}, or a YAML file")
    content = valid_yaml(path, "a study", name=f"study {path}")
    check(content, f"study {path}")
    warn_of_program(path, "commands")
    return path.stem, content


def check(content: Any, name: str) -> None:
    """Check the keys and values of a study, and its references to bundles, options, entries and axes."""
    check_schema(content, STUDY_SCHEMA, name, "a study")
    with within(name):
        _check_sources(content)
        for index, table in enumerate(content.get("tables", [])):
            _check_table(content, table, f"tables.{index}")
        for index, figure in enumerate(content.get("figures", [])):
            for label, row in figure["rows"].items():
                if "bundle" not in content["runs"].get(row["run"], {}):
                    raise InputError(f"figures.{index}: run={row['run']}: expected a run of a bundle")
                _check_values(content, row, f"figures.{index}.rows.{label!a}")


def _check_sources(content: Mapping[str, Any]) -> None:
    """Raise InputError if an entry starts from an unknown or later entry, or has an unknown option."""
    from scripts.datalists import __main__ as commands  # late imports: `--help` stays fast
    from scripts.phantoms.cohort import make

    def check_reference(key: str, value: str | None, names: Sequence[str]) -> None:
        if value is not None and value not in names:
            expected = f"one of {', '.join(names)}" if names else "an entry, but no entry comes before it"
            raise InputError(f"{key}={value}: expected {expected}")

    for layout, options in content.get("cohorts", {}).items():
        check_arguments(make, options, f"cohorts.{layout}", TAKEN)
    datalists: list[str] = []
    for label, entry in content["datalists"].items():
        check_reference(f"datalists.{label}.from", entry.get("from"), [*datalists, *entry.get("files", [])])
        command = derivation_of(entry) if "from" in entry else entry.get("layout", "generic")
        options = entry.get("options", {})
        check_arguments(commands.COMMANDS[command], options, f"datalists.{label}.options", TAKEN)
        datalists.append(label)
    runs: list[str] = []
    bundles = bundles_with("train.yaml")
    for label, entry in content["runs"].items():
        if label in datalists:
            raise InputError(f"runs.{label}: a datalist has the same name")
        for key, names in (("bundle", bundles), ("datalist", datalists), ("pretrained", runs)):
            check_reference(f"runs.{label}.{key}", entry.get(key), names)
        kind = "bundle" if "bundle" in entry else "command"
        if unused := [key for key in UNUSED[kind] if key in entry]:
            raise InputError(f"runs.{label}.{unused[0]}: has no effect on a {kind}; leave it out")
        if "bundle" in entry:
            settings, configs = content.get("settings", {}), BUNDLES / entry["bundle"] / "configs"
            overlays = [*settings.get("overlays", []), *entry.get("overlays", [])]
            with within(f"runs.{label}"):
                check_overlays(entry["bundle"], overlays)
            files = [configs / file for file in ("train.yaml", *overlays)]
            options = settings.get("options", {}) | entry.get("options", {})
            axes = {f"{{{axis}}}": values for axis, values in axes_of(content, label).items()}
            varied = [{key: value} for key, text in options.items() for value in axes.get(str(text), [])]
            for variant in [options, *varied]:
                _check_options(variant, files, f"runs.{label}.options")
            if entry.get("evaluate") or "evaluation" in entry:
                if entry["bundle"] not in bundles_with("evaluate.yaml"):
                    raise InputError(f"runs.{label}.evaluate: {entry['bundle']} has no evaluate.yaml; leave it out")
                _check_options(entry.get("evaluation", {}), [configs / "evaluate.yaml"], f"runs.{label}.evaluation")
        runs.append(label)


def check_overlays(bundle: str, overlays: Sequence[str]) -> None:
    """Raise ArgumentError unless each name is an overlay of the bundle: a config that only changes another config."""
    files = {file.name: file for file in sorted((BUNDLES / bundle / "configs").glob("*.yaml"))}
    for overlay in overlays:
        if overlay not in files or "run" in _keys(files[overlay]):
            available = ", ".join(name for name, file in files.items() if "run" not in _keys(file))
            raise ArgumentError("overlays", overlay, f"no overlay of {bundle}", f"some of {available}")


def check_arguments(command: Callable[..., Any], options: Mapping[str, Any], where: str, taken: str) -> None:
    """Raise InputError for options that a command lacks or the pattern `taken` reserves, and missing required ones."""
    parameters = {name: item for name, item in signature(command).parameters.items() if not re.fullmatch(taken, name)}
    for option in options:
        if option not in parameters:
            hint = did_you_mean(option, parameters, otherwise=f"expected one of {', '.join(parameters)}")
            raise InputError(f"{where}.{option}: no such option{hint}")
    if missing := [name for name, item in parameters.items() if item.default is item.empty and name not in options]:
        raise InputError(f"{where}.{missing[0]}: missing")


def _check_options(options: Mapping[str, Any], files: Sequence[Path], where: str) -> None:
    """Raise InputError for options that the config `files` lack, and for invalid values."""
    from common.configs import parsed  # late imports: `--help` stays fast
    from common.options import OPTIONS, TRAINING_DEFAULTS

    supported = {key for file in files for key in _keys(file)}
    supported |= TRAINING_DEFAULTS.keys() if files[0].name == "train.yaml" else set()
    for option, value in options.items():
        if option.partition("::")[0] not in supported:  # a nested key is checked when the job reads its config
            expected = f"expected a key of {', '.join(file.name for file in files)}"
            hint = did_you_mean(option, supported, otherwise=expected)
            raise InputError(f"{where}.{option}: no such option of {files[0].parents[1].name}{hint}")
        is_deferred = re.search(r"{[a-z]|^[$@]", str(value)) or option == "device"  # value known only in the job
        if option in OPTIONS and not is_deferred:
            with within(where):
                OPTIONS[option](parsed(option, value))


@cache
def _keys(file: Path) -> tuple[str, ...]:
    return tuple(valid_yaml(file, "a mapping of options", {"type": "object"}))


def _check_table(content: Mapping[str, Any], table: Mapping[str, Any], where: str) -> None:
    """Raise InputError if a table has an unknown row, run, axis, axis value or baseline."""
    for label, row in table.get("rows", {}).items():
        systems = paper()[table["table"]]["systems"]
        if label not in systems and "new" not in row:
            raise InputError(f"{where}.rows: {label!a}: expected one of {', '.join(systems)}, or a row with new: true")
        if not content["runs"].get(row["run"], {}).get("evaluate"):
            raise InputError(f"{where}.rows.{label!a}: run={row['run']}: expected a run with `evaluate: true`")
        _check_values(content, row, f"{where}.rows.{label!a}")
        if "columns" in table and table["columns"] not in axes_of(content, row["run"]):
            raise InputError(f"{where}.columns={table['columns']}: expected an axis of {row['run']}")
    for entry in (table, *table.get("rows", {}).values()):
        for name in names_of(entry.get("baseline")):
            if name not in table["rows"]:
                raise InputError(f"{where}: baseline={name!a}: expected a row of this table")


def _check_values(content: Mapping[str, Any], row: Mapping[str, Any], where: str) -> None:
    axes = axes_of(content, row["run"])
    for axis, value in row.items():
        if axis not in ROW_KEYS and value not in axes.get(axis, []):
            expected = ", ".join(map(str, axes.get(axis, []))) or f"one of the axes {', '.join(axes)}"
            problem = f"expected {expected}" if axes else f"`for` gives {row['run']} no axes; leave it out"
            raise InputError(f"{where}: {axis}={value!a}: {problem}")


def names_of(baseline: Any) -> list[str]:
    """Return the names of baselines as a list; empty for None."""
    return [] if baseline is None else [baseline] if isinstance(baseline, str) else list(baseline)


def axes_of(study: Mapping[str, Any], name: str) -> dict[str, list[Any]]:
    """Return the values of each axis of an entry and of its sources."""
    entry = study["runs"].get(name) or study["datalists"].get(name, {})
    axes: dict[str, list[Any]] = {}
    for key in ("from", "datalist", "pretrained"):
        if key in entry:
            axes |= axes_of(study, entry[key])
    return axes | entry.get("for", {})
