"""Studies of many runs: `python -m scripts.experiments plan|run|report STUDY`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import ROOT, cli
from common.errors import ArgumentError, InputError, check_number, choice, show, within
from common.files import check_writable_file, check_writable_folder, expand_home, valid_json, write_json
from common.values import flag
from scripts.experiments.engine import OpenStudy, counted, open_study, run_jobs, select
from scripts.experiments.jobs import OWN, Places
from scripts.experiments.steps import steps_of
from scripts.experiments.study import read


def experiments(
    action: str,
    study: str,
    *,
    output: str | None = None,
    ukb: str | None = None,
    brats: str | None = None,
    atlas: str | None = None,
    dataset_dir: str | None = None,
    files: Mapping[str, str] | None = None,
    gpus: int = 1,
    jobs: int = 1,
    only: str = "*",
    stale: str = "keep",
    retries: int = 0,
    slurm: Mapping[str, Any] | None = None,
    commands: bool = False,
    json: str | None = None,
) -> None:
    """Plan, run or report a study of many training runs.

    plan lists the jobs, their states, and the optimiser steps of each training run. run starts missing, interrupted and
    failed jobs; repeat it to continue a stopped study. report writes OUTPUT/report/report.html and
    OUTPUT/report/tables: the paper's tables and figures beside the study's results, complete or not. All three take the
    same folders and files.

    A failed job is shown with the last line of its log, dependent jobs are skipped, and the exit status is 1.
    Several processes, also on machines that share the folder, can run the same study: no job starts twice, and each
    process ends when all of its jobs have ended.

    Args:
        action: plan, run or report.
        study: name of a file in the folder `studies`, or path of a YAML file.
        output: folder of the results; runs/STUDY by default.
        ukb: folder of the UK Biobank cohort.
        brats: folder of the BraTS cohort.
        atlas: folder of the ATLAS cohort. A cohort without a folder consists of phantoms, if the study defines them.
        dataset_dir: folder of your own data sets; paths in the study and its datalists start here.
        files: paths of the files that the study names, such as "{'ct': 'model_swinvit.pt'}".
        gpus: processes per training run, started by torchrun.
        jobs: number of jobs that run at once; on this machine they share its cores and GPUs.
        only: pattern of the names of jobs to run, such as "two_stage/*"; the jobs that they need run, too.
        stale: keep (the default) or redo results whose commands, inputs or code have changed; redo moves the old
            results aside.
        retries: number of times that a failed job starts again by itself.
        slurm: settings of SLURM jobs, named as in submitit, such as "{'slurm_partition': 'gpu', 'gpus_per_node': 1}";
            by default jobs run on this machine.
        commands: also print the command of each job in the plan.
        json: file for the plan's list of jobs, with states and steps.
    """
    choice("action", action, dict.fromkeys(("plan", "run", "report")))
    check_number("gpus", gpus, int, 1, 1024)
    check_number("jobs", jobs, int, 1, 1024)
    check_number("retries", retries, int, 0, 100)
    redo = choice("stale", stale, {"keep": False, "redo": True})
    roots = {"ukb": ukb, "brats": brats, "atlas": atlas, OWN: dataset_dir}
    if not isinstance(only, str):
        raise ArgumentError(f'only={only}: expected a pattern of names, such as "two_stage/*"')
    table = None if json is None else _plan_file(json)
    opened = _opened(str(study), output, roots, files, gpus)
    if action == "plan":
        _plan(opened, flag("commands", commands), table)
    elif action == "run":
        _run(opened, jobs, only, redo, retries, slurm)
    else:
        from scripts.experiments.report import write_report  # late import: `--help` stays fast

        show(str(opened), write_report(opened))


def _plan_file(json: Any) -> Path:
    """Return the path of `--json`; raise InputError if it cannot be written, or is a file other than a plan."""
    file = expand_home(json, f"--json={json}")
    check_writable_file(file, f"--json={json}")
    if file.exists():
        valid_json(file, "a new file, or an earlier plan", {"type": "object", "required": ["study", "jobs"]})
    return file


def _plan(study: OpenStudy, commands: bool, json: Path | None) -> None:
    show(str(study))
    rows: list[dict[str, Any]] = []
    for job in study.jobs.values():
        state = study.states[job.name]
        rows.append({"job": job.name, "state": state.name, "reason": state.reason})
        line = f"{state.name:<12} {job.name}" + (f": {state.reason}" if state.reason else "")
        if job.is_training:
            steps = rows[-1]["steps"] = steps_of(job, study.places.gpus)
            line += "; steps unknown yet" if steps is None else f"; {steps:,} steps"
        show(line, *([f"    {job.command}"] if commands else []))
    to_do = [row["steps"] for row in rows if "steps" in row and row["state"] not in ("done", "absent")]
    unknown = f"; the steps of {to_do.count(None)} are unknown until their datalists exist" if None in to_do else ""
    show(f"training runs to do: {len(to_do)}, with {sum(steps or 0 for steps in to_do):,} optimiser steps{unknown}")
    if json is not None:
        write_json(json, {"study": study.content["title"], "jobs": rows})


def _run(study: OpenStudy, jobs: int, only: str, redo: bool, retries: int, slurm: Mapping[str, Any] | None) -> None:
    selected = select(study, only, redo)
    show(f"{study}; {len(selected)} to do")
    if absent := [state.reason for state in study.states.values() if state.name == "absent"]:
        show(f"jobs that cannot run: {len(absent)}; the first: {absent[0]}")
    if not selected and len(absent) == len(study.states):
        raise InputError(f"no job can run; {absent[0]}")
    if stale := {name: state for name, state in study.states.items() if state.name == "stale" and name not in selected}:
        show(*(f"stale        {name}: {state.reason}" for name, state in stale.items()))
        show("stale results are kept, and used by jobs that need them; --stale=redo makes them again")
    results = run_jobs(study, selected, jobs, slurm, retries=retries)
    if selected:
        show(counted(results))
    if any(state.name != "done" for state in results.values()):
        raise SystemExit(1)


def _opened(
    study: str, output: str | None, roots: Mapping[str, str | None], files: Mapping[str, str] | None, gpus: int
) -> OpenStudy:
    """Check all folders and files, and return the study with its jobs and their states."""
    name, content = read(study)
    folder = expand_home(output or ROOT / "runs" / name, f"--output={output}").resolve()
    check_writable_folder(folder, f"--output={output or folder}")
    folders = {layout: _existing(layout, root) for layout, root in roots.items() if root is not None}
    if files is not None and not isinstance(files, Mapping):
        raise ArgumentError(f"files={files}: expected names and paths, such as \"{{'ct': 'model_swinvit.pt'}}\"")
    names = {
        file: file
        for part in ("datalists", "runs")
        for entry in content[part].values()
        for file in entry.get("files", [])
    }
    extra_files = {
        choice("files", name, names, "the study names no files"): _existing("files", path)
        for name, path in (files or {}).items()
    }
    with within(f"study {study}"):
        return open_study(content, Places(folder, folders, extra_files, gpus))


def _existing(name: str, path: Any) -> Path:
    resolved = expand_home(path, f"--{name}={path}").resolve()
    if not resolved.exists():
        raise ArgumentError(f"{name}={path}: no such file or folder")
    return resolved


if __name__ == "__main__":
    cli.run(experiments, "experiments")
