"""From your scans and label maps to a model and its evaluation: `python -m scripts.mine RAW --output=DIR`."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from common.data.regions import declaration
from common.errors import ArgumentError, show, within
from common.files import existing_folder
from common.values import names_of
from scripts import cli
from scripts.datalists.splits import numbers_of
from scripts.steps import run_step, words_of
from scripts.yaml_files import read_yaml

BUNDLE = "brats_finetune"
SECTIONS = ("root", "regions", "prepare", "datalist", "check", "split", "train", "evaluate")
SCHEMA = {"type": "object", "required": [*SECTIONS], "propertyNames": {"enum": [*SECTIONS, "about"]}}


class Step(NamedTuple):
    """A command, as words after `python -m`, the file that it makes, and the files that it reads."""

    command: list[str]
    target: Path
    inputs: list[Path]
    results: Path | None = None  # folder to move aside if the command or an input has changed


def mine(root: str | None = None, *, output: str, yes: bool = False, folds: str | int = 1, **options: str) -> None:
    """Plan the steps from your scans to a model and its scores, show them and, with --yes, run them.

    The plan is OUTPUT/plan.yaml. Its steps are commands that you can run yourself; those whose command and input have
    not changed are skipped. You may edit the plan, and run this command with --output and --yes alone.

    Args:
        root: folder of the scans, each subject with a label map; without it, OUTPUT/plan.yaml is used as it is.
        output: folder of the plan and all results.
        yes: run the plan.
        folds: number of folds, each with a model; their ensemble is then evaluated. 1 trains a single model.
        options: options of the plan, such as --hours=0.2, --modalities=T1,FLAIR or --person='(.+)_v[0-9]+'; python -m
            scripts.planning --help lists them. If they change, the earlier plan is moved aside.
    """
    folder = Path(output).expanduser().resolve()
    file = folder / "plan.yaml"
    if root is not None:
        scans = existing_folder(root, f"--root={root}", "a folder of scans").resolve()
        run_step(["scripts.planning", str(scans), f"--output={file}", *words_of(options)], file)
    elif options or not file.exists():
        raise ArgumentError("root", problem="missing", expected="the folder of your scans")
    plan: dict[str, Any] = read_yaml(file, "a plan as python -m scripts.mine writes it", SCHEMA)
    with within(file):
        declaration(plan["regions"])
    steps = steps_of(plan, folder, folds)
    show("", *(f"{name:<10}{text}" for name, text in plan.get("about", {}).items()))
    if not yes:
        show("", *(f"$ {shlex.join(['python', '-m', *step.command])}" for step in steps.values()))
        again = ["python", "-m", "scripts.mine", f"--output={output}", f"--folds={folds}", "--yes"]
        show("", f"you may edit {file}; to run it: {shlex.join(again)}")
        return
    (folder / "regions.yaml").write_text(yaml.safe_dump(plan["regions"], sort_keys=False), encoding="utf-8")
    for name, step in steps.items():
        run_step(*step, leaves_out=name in ("prepare", "check"))
    new = ["scripts.run", BUNDLE, "inference", "--dataset_dir=NEW", f"--output_dir={folder / 'new'}"]
    if plan["prepare"] and folds == 1:
        fixed = {"bundle": BUNDLE, "like": plan["prepare"]["like"], "output": folder / "new"}
        new = ["scripts.segment", "NEW", *words_of(fixed)]
    new += [word for word in steps["evaluate"].command if word.startswith("--checkpoint=")]
    show("", f"scores: {steps['evaluate'].target}; all runs: {steps['page'].target}")
    show("to segment scans in a folder NEW:", f"$ {shlex.join(['python', '-m', *new])}")


def words_of_run(config: str, section: Mapping[str, Any], fixed: Mapping[str, Any]) -> list[str]:
    """Return the words after `python -m` that run a config of the bundle with a section of the plan."""
    options = {name: value for name, value in section.items() if name != "overlays"}
    return ["scripts.run", BUNDLE, config, *names_of(section.get("overlays", [])), *words_of({**fixed, **options})]


def steps_of(plan: Mapping[str, Any], folder: Path, folds: str | int) -> dict[str, Step]:
    """Return the steps of a plan by name; of several folds, the ensemble is evaluated."""
    root, data = Path(plan["root"]), folder / "prepared" if plan["prepare"] else Path(plan["root"])
    listed, checked, datalist = folder / "all.json", folder / "checked.json", folder / "datalist.json"
    regions, steps = folder / "regions.yaml", {}
    if plan["prepare"]:
        words = words_of({"root": root, "output": data} | plan["prepare"])
        steps["prepare"] = Step(["scripts.prepare", *words], data / "datalist.json", [])
    words = words_of({"root": data, "output": listed, "regions": regions} | plan["datalist"])
    read = [regions, *(step.target for step in steps.values())]
    steps["datalist"] = Step(["scripts.datalists", "generic", *words], listed, read)
    words = words_of({"datalist": listed, "root": data, "output": folder / "check", "fixed": checked} | plan["check"])
    steps["check"] = Step(["scripts.datalists", "check", *words], checked, [listed])
    words = words_of({"datalist": checked, "output": datalist} | plan["split"])
    steps["split"] = Step(["scripts.datalists", "split", *words], datalist, [checked])
    of_data = {"dataset_dir": data, "datalist": datalist}
    overlays = names_of(plan["train"].get("overlays", []))
    read = [datalist, *(Path(name) for name in overlays if Path(name).is_file())]
    if folds == 1:
        results, evaluation = folder / "training", folder / "evaluation"
        models = [results / "models/model.pt"]
        fixed = of_data | {"output_dir": results, "ckpt_dir": models[0].parent, "resume": "auto"}
        steps["train"] = Step(words_of_run("train", plan["train"], fixed), models[0], read, results)
    else:
        results, evaluation = folder / "folds", folder / "folds/ensemble"
        models = [results / f"fold{number}/models/model.pt" for number in numbers_of(folds)]
        fixed = of_data | {"output": results, "folds": folds}
        words = words_of(fixed | plan["evaluate"] | plan["train"])
        steps["train"] = Step(["scripts.folds", BUNDLE, *words], results / "pooled/evaluation.html", read)
    fixed = of_data | {"checkpoint": models[0] if folds == 1 else [*map(str, models)], "output_dir": evaluation}
    words = words_of_run("evaluate", plan["evaluate"], fixed)
    steps["evaluate"] = Step(words, evaluation / "evaluation.html", [datalist, *models])
    steps["page"] = Step(["scripts.report", str(folder)], folder / "report.html", [steps["evaluate"].target])
    return steps


if __name__ == "__main__":
    cli.run(mine, "mine")
