"""A plan in YAML, with the options of each command from scans to scores; the jobs that run these commands."""

import json
import os
import sys
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from common import ROOT
from common.cli import command_line
from common.configs import check_values
from common.data.cohorts import COHORTS, LIKE
from common.data.layouts.names import naming
from common.data.layouts.people import person_of
from common.data.regions import declaration
from common.errors import InputError, choice, did_you_mean, show, within
from common.files import atomic_write, expand_home, valid_yaml
from common.literals import names_of
from common.metrics.protocols import protocol
from common.options import OPTIONS
from scripts.datalists.scan import scan_any
from scripts.datalists.splits import RandomSplits, person_finder
from scripts.steps import run_step

HEADER = """\
# Options of the commands that python -m scripts.mine runs. Edit them, and repeat the command; options that are not here
# keep the commands' defaults. `prepare: null` uses the scans as they are. `about` and `seconds` are for information,
# and so are `options`, which made this plan.
"""
EXPECTED = "a plan as python -m scripts.mine writes it"
OPTIONS_SCHEMA = {"type": "object", "propertyNames": {"pattern": r"^[a-z]\w*$"}}
LISTING_OPTION = {
    "pattern": r"^(?!(validation|testing|seed)$)[a-z]\w*$",
    "description": "an option of scripts.datalists generic; validation, testing and seed are options of split",
}
LEARNT = 60  # steps of the shortest training that learnt: Dice 0.88, docs/real.md; 12 steps gave at most 0.47
STEPS = ("prepare", "datalist", "check", "split", "train", "evaluate")
SCHEMA = {
    "type": "object",
    "required": ["root", "bundle", "regions", *STEPS],
    "additionalProperties": False,
    "properties": {
        "root": {"type": "string", "minLength": 1},
        "bundle": {"enum": [*LIKE]},
        "regions": {"type": "object", "minProperties": 1},
        **dict.fromkeys(STEPS, OPTIONS_SCHEMA),
        "datalist": OPTIONS_SCHEMA | {"propertyNames": LISTING_OPTION},
        "prepare": OPTIONS_SCHEMA | {"type": ["object", "null"], "required": ["like", "modalities"]},
        "options": {"type": "object"},
        "about": {"type": "object", "additionalProperties": {"type": "string"}},
        "seconds": {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
    },
}
Plan = Mapping[str, Any]  # as in SCHEMA


def read_plan(path: Path) -> dict[str, Any]:
    """Read a plan; raise an InputError if it does not match `SCHEMA` or has an invalid value (`check_plan`)."""
    plan: dict[str, Any] = valid_yaml(path, EXPECTED, SCHEMA)
    plan["root"] = str(expand_home(plan["root"], f"{path}: root").resolve())
    check_plan(plan, path)
    return plan


def check_plan(plan: Plan, path: Path) -> None:
    """Raise an InputError for an invalid value in a plan that matches `SCHEMA`."""
    from scripts.run import check_early  # late import: slow

    with within(path):
        if not Path(plan["root"]).is_dir():
            raise InputError("root", "no such folder", "the folder of the scans", value=plan["root"])
        declaration(plan["regions"])
        for step, extra in {"train": {"recipe"}, "evaluate": set[str]()}.items():
            if foreign := next((name for name in plan[step] if name not in OPTIONS.keys() | extra), None):
                hint = did_you_mean(foreign, OPTIONS, otherwise=f"see python -m scripts.options {plan['bundle']}")
                raise InputError(f"{step}.{foreign}: no option{hint}")  # such as `loss`, which could name any function
            check_early(*run_of(plan, step))
        steps_of(plan, path.parent)  # checks the names of the other steps' options
        if plan["prepare"] is not None:
            choice("like", plan["prepare"]["like"], COHORTS)
        RandomSplits(**plan["split"]).draw(people_of(plan))


def people_of(plan: Plan) -> list[str]:
    """Return the people whose scans a plan splits; only names of files are read."""
    from scripts.prepare.scans import find_subjects  # late import: slow

    root, listed, raw = Path(plan["root"]), plan["datalist"], plan["prepare"]
    person = person_finder(listed["person"]) if listed.get("person") else None
    keeps = "keep" in (listed.get("missing"), raw and raw.get("missing"))
    if raw is not None:
        masks = raw["brain"] if "*" in str(raw.get("brain")) else None
        options = {"labels": raw.get("labels"), "keeps_missing": keeps, "masks": masks}
        subjects = find_subjects(root, names_of(raw["modalities"]), raw.get("patterns") or {}, **options)
        return sorted({(person or person_of)(subject.name) for subject in subjects if subject.labels})
    names, regions = naming(listed.get("modalities"), listed.get("label")), declaration(plan["regions"])
    scan = scan_any(root, naming=names, layout=listed.get("layout"), regions=regions, person=person, keep_missing=keeps)
    return scan.people(scan.labelled(keeps))


def run_of(plan: Plan, step: str) -> tuple[list[str], dict[str, Any]]:
    """Return the config files and options with which `scripts.run` runs the step train or evaluate."""
    from scripts.run import read_command_line  # late import: slow

    words = [f"--{name}={text}" for name, text in texts_in(plan[step]).items()]
    return read_command_line([plan["bundle"], step, *words])


def texts_in(options: Mapping[str, Any]) -> dict[str, str]:
    """Return options as command-line text, sorted, because their order in the plan has no meaning."""
    return {name: value if isinstance(value, str) else text_of(value) for name, value in sorted(options.items())}


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan, unless the file has the same plan already, perhaps with the user's comments."""
    if path.exists() and valid_yaml(path, EXPECTED) == plan:
        return
    with atomic_write(path) as file:
        text = yaml.safe_dump(plan, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
        file.write_text(HEADER + text, encoding="utf-8")


class Step(NamedTuple):
    """A command of a plan, as words after `python -m`, the file that it makes, and the files that it reads."""

    command: list[str]
    target: Path
    inputs: list[Path]

    def __str__(self) -> str:
        return command_line(["python", "-m", *self.command])


def text_of(value: Any) -> str:
    """Return a value as options are typed."""
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value).replace(" ", "")


def shown(path: Any) -> str:
    """Return a path relative to the repository if inside it; return other values as text."""
    return str(path.relative_to(ROOT) if isinstance(path, Path) and path.is_relative_to(ROOT) else path)


def steps_of(plan: Plan, output: Path) -> dict[str, Step]:
    """Return the steps of a plan by name, in their order; raise an InputError for a wrong option."""
    from scripts.datalists.__main__ import check, generic, split  # late imports: slow
    from scripts.prepare.__main__ import prepare

    root, is_raw = Path(plan["root"]), plan["prepare"] is not None
    data = output / "prepared" if is_raw else root
    listed, checked, datalist = (output / f"{name}.json" for name in ("all", "checked", "datalist"))
    regions = output / "regions.yaml"
    training, evaluation = output / "training", output / "evaluation"
    model = training / "models" / "model.pt"
    of_data = {"dataset_dir": data, "datalist": datalist}
    commands: dict[str, Callable[..., None]] = {"prepare": prepare, "datalist": generic, "check": check, "split": split}
    steps: dict[str, Step] = {}

    def add(name: str, program: str, fixed: Mapping[str, Any], target: Path, inputs: Sequence[Path] = ()) -> None:
        if conflict := next((option for option in plan[name] if option in fixed), None):
            raise InputError(f"{name}.{conflict}", "set by --output", "a plan without it", plan[name][conflict])
        if name in commands:
            known = signature(commands[name]).parameters
            for option in plan[name].keys() - known.keys():
                raise InputError(f"{name}.{option}: no such option{did_you_mean(option, known)}")
        options = {option: shown(value) for option, value in fixed.items()} | texts_in(plan[name])
        words = [*program.split(), *(f"--{option}={text}" for option, text in options.items())]
        steps[name] = Step(words, target, [*inputs])

    if is_raw:
        fixed: dict[str, Any] = {"root": root, "output": data}
        add("prepare", "scripts.prepare", fixed, data / "datalist.json")
    fixed = {"root": data, "output": listed, "regions": regions}
    add("datalist", "scripts.datalists generic", fixed, listed)
    fixed = {"datalist": listed, "root": data, "output": output / "check", "fixed": checked}
    add("check", "scripts.datalists check", fixed, checked)
    add("split", "scripts.datalists split", {"datalist": checked, "output": datalist}, datalist)
    fixed = of_data | {"output_dir": training, "ckpt_dir": model.parent, "resume": "auto"}
    add("train", f"scripts.run {plan['bundle']} train", fixed, model, [datalist])
    fixed = of_data | {"checkpoint": model, "output_dir": evaluation}
    page = evaluation / "evaluation.html"
    add("evaluate", f"scripts.run {plan['bundle']} evaluate", fixed, page, [datalist, model])
    return steps


def screen(plan: Plan, output: Path) -> list[str]:
    """Return a summary of a plan, as lines: findings, choices, time and commands."""
    values, prepare, about = check_values(*run_of(plan, "train")), plan["prepare"], plan.get("about", {})
    rows = {"scans": plan["root"]} | about | {"regions": declaration(plan["regions"]).replace(",", ", ")}
    rows["prepare"] = "no, as they are"
    if prepare is not None:
        size = "keep their size" if COHORTS[prepare["like"]].space.dof == 6 else "get the template's size"
        brain = "keep the skull" if prepare.get("brain") == "none" else "extract the brain"
        target = f"the template of {prepare['like']} (heads {size})"
        rows["prepare"] = f"register to {target}, {brain}, voxels of {prepare.get('spacing', 1)} mm"
    rows["network"] = f"SwinUNETR {values.model_size} from scratch, recipe {plan['train'].get('recipe', 'text')}"
    patch, voxel = (" x ".join(f"{edge:g}" for edge in edges or []) for edges in (values.patch_size, values.spacing))
    size = f"of {voxel} mm" if voxel else "as in the files" if prepare is None else "as prepared"
    rows["crops"] = f"{patch} voxels {size}, {values.batch_size} a step"
    rows["steps"] = f"{values.iterations}, with a validation every {values.val_interval}"
    if isinstance(values.iterations, int) and values.iterations < LEARNT:
        rows["steps"] += f"; a trial of the commands only: the shortest training that learnt here had {LEARNT}"
    rules = plan["evaluate"].get("protocol"), plan["evaluate"].get("challenge")
    rows["scores"] = protocol(*rules, declaration(plan["regions"])).title
    rows["time"] = time_of(plan)
    width = max(map(len, rows)) + 2
    commands = [f"$ {step}" for step in steps_of(plan, output).values()]
    return ["", *(f"{name:<{width}}{text}" for name, text in rows.items()), "", *commands]


def time_of(plan: Plan) -> str:
    """Describe the estimated times of the steps; "unknown" if the plan has none.

    The training time is the time of an optimiser step times the number of iterations.
    """
    iterations = plan["train"].get("iterations")
    counts = {"step": iterations if isinstance(iterations, int) else 0}
    seconds = {name: value * counts.get(name, 1) for name, value in plan.get("seconds", {}).items()}
    parts = {name: timedelta(seconds=round(value)) for name, value in seconds.items() if value}
    total = timedelta(seconds=round(sum(seconds.values())))
    names = {"prepare": "prepare (not measured)", "step": "training steps"}
    words = ", ".join(f"{names.get(name, name)} {value}" for name, value in parts.items())
    return f"about {total}: {words}" if parts else "unknown"


def carry_out(plan: Plan, output: Path) -> None:
    """Run the unfinished commands of a plan; print the path of the evaluation page, and a command for new scans.

    On a desktop, open the page. Raise SystemExit with status 1 if a command fails.
    """
    regions, content = output / "regions.yaml", yaml.safe_dump(plan["regions"], sort_keys=False)
    if not regions.is_file() or regions.read_text(encoding="utf-8") != content:
        with atomic_write(regions) as file:
            file.write_text(content, encoding="utf-8")
    steps = steps_of(plan, output)
    for name, step in steps.items():
        before = step.target.stat().st_mtime_ns if step.target.exists() else 0
        try:
            if name in ("train", "evaluate"):
                run_step(step.command, step.target, step.inputs, step.target.parents[1] if name == "train" else None)
            else:  # seconds, or leaves finished subjects by itself
                run_step(step.command)
        except SystemExit as error:  # status 1 of prepare and check: some subjects are left out
            is_made = step.target.exists() and step.target.stat().st_mtime_ns > before
            if name not in ("prepare", "check") or error.code != 1 or not is_made:
                raise
    page, model = steps["evaluate"].target, steps["train"].target
    new, places_of_new = ["scripts.run", plan["bundle"], "inference", "--dataset_dir=NEW"], f"={shown(output / 'new')}"
    if plan["prepare"] is not None:
        new = ["scripts.segment", "NEW", f"--bundle={plan['bundle']}", f"--like={plan['prepare']['like']}"]
    new += [f"--checkpoint={shown(model)}", ("--output" if plan["prepare"] else "--output_dir") + places_of_new]
    show("", f"scores: {page}", "to segment new scans in a folder NEW:", f"$ {command_line(['python', '-m', *new])}")
    if sys.stdout.isatty() and {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        webbrowser.open(page.as_uri())
