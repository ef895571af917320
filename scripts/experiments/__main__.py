"""Studies of many runs: `python -m scripts.experiments plan|run|report STUDY`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import cli
from common.errors import ArgumentError, InputError, check_number, choice, show
from common.files import check_writable_folder, expand_home, write_json
from common.values import flag
from scripts.experiments.costs import costs_of, estimate, key_of
from scripts.experiments.engine import OpenStudy, counted, launcher, open_study, run_jobs, select
from scripts.experiments.jobs import OWN, ROOT, Places
from scripts.experiments.study import read


def plan(
    study: str,
    output: str | None = None,
    ukb: str | None = None,
    brats: str | None = None,
    atlas: str | None = None,
    dataset_dir: str | None = None,
    files: Mapping[str, str] | None = None,
    gpus: int = 1,
    measure: bool = False,
    commands: bool = False,
    json: str | None = None,
) -> None:
    """List the jobs of a study, where each stands, and what the rest will cost.

    Steps follow from the configs. Time, memory and disk are estimates from a measured step: `--measure=true` trains a
    few steps of each kind on made-up volumes on this machine. Reading of data, validation and evaluation are not in
    them.

    Args:
        study: name of a study in the folder `studies`, or a YAML file.
        output: folder of the results; runs/STUDY by default.
        ukb: folder of the UK Biobank cohort.
        brats: folder of the BraTS cohort.
        atlas: folder of the ATLAS cohort. A cohort that is not given is made of phantoms if the study says how.
        dataset_dir: folder of your own data sets: where `data` lies, and paths of a datalist in `files` start.
        files: further files by the names that the study gives them, such as "{'ct': 'model_swinvit.pt'}".
        gpus: processes of each training, by torchrun.
        measure: whether steps that were not measured yet are measured now.
        commands: print the commands of each job, to copy.
        json: a file that gets the list of jobs, with states and costs.
    """
    opened = _opened(study, output, ukb, brats, atlas, dataset_dir, files, gpus)
    costs = costs_of(opened.jobs, opened.places.output / "costs.json", flag("measure", measure))
    rows: list[dict[str, Any]] = []
    for job in opened.jobs.values():
        state = opened.states[job.name]
        rows.append({"job": job.name, "state": state.name, "reason": state.reason})
        if job.is_training:
            rows[-1] |= estimate(job, costs.get(key_of(job)), gpus)
    show(str(opened))
    for row in rows:
        show(_line(row))
        if flag("commands", commands):
            show(f"    {opened.jobs[row['job']].command}")
    show(_total(rows, gpus))
    if json is not None:
        write_json(json, {"study": Path(study).stem, "jobs": rows})


def run(
    study: str,
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
    slurm: Mapping[str, Any] | None = None,
) -> None:
    """Run the jobs of a study that are missing, interrupted or failed. Repeat the command to continue a stopped study.

    A job that fails is marked with its last line and stops only the jobs that need it; the exit status is then 1.
    Several processes, also of several machines that share the folder, can run one study: no job starts twice.

    Args:
        study: name of a study in the folder `studies`, or a YAML file.
        output: folder of the results; runs/STUDY by default.
        ukb: folder of the UK Biobank cohort.
        brats: folder of the BraTS cohort.
        atlas: folder of the ATLAS cohort.
        dataset_dir: folder of your own data sets: where `data` lies, and paths of a datalist in `files` start.
        files: further files by the names that the study gives them.
        gpus: processes of each training, by torchrun.
        jobs: number of jobs at once; on this machine they share its cores.
        only: pattern of the names of the jobs to run, such as "two_stage/*"; those that they need run, too.
        stale: keep results whose commands, inputs or code have changed (the default), or redo them; the old results are
            moved aside.
        slurm: settings of SLURM jobs by submitit's names, such as "{'slurm_partition': 'gpu', 'gpus_per_node': 1}";
            without, jobs run on this machine.
    """
    check_number("jobs", jobs, int, 1, 1024)
    redo = choice("stale", stale, {"keep": False, "redo": True})
    opened = _opened(study, output, ukb, brats, atlas, dataset_dir, files, gpus)
    selected = select(opened, only, redo)
    show(f"{opened}; {len(selected)} to run")
    if absent := [state.reason for state in opened.states.values() if state.name == "absent"]:
        show(f"{len(absent)} jobs cannot run; the first: {absent[0]}")
    if not selected and len(absent) == len(opened.states):
        raise InputError(f"study {study}: no job can run; {absent[0]}")
    if not selected:
        return
    results = run_jobs(opened, selected, launcher(opened.places, jobs, slurm), jobs)
    show(counted(results))
    if any(state.name not in ("done", "running") for state in results.values()):
        raise SystemExit(1)


def report(
    study: str,
    output: str | None = None,
    ukb: str | None = None,
    brats: str | None = None,
    atlas: str | None = None,
    dataset_dir: str | None = None,
    files: Mapping[str, str] | None = None,
    gpus: int = 1,
    participants: str | None = None,
    participant_columns: Mapping[str, str] | None = None,
    consort: str | None = None,
) -> None:
    """Put the results of a study beside the paper's tables and figures, finished or not.

    Writes OUTPUT/report/report.html, and each table to OUTPUT/report/tables as Markdown and CSV.

    Args:
        study: name of a study in the folder `studies`, or a YAML file.
        output: folder of the results; runs/STUDY by default.
        ukb: folder of the UK Biobank cohort, and so on: the same as for `plan` and `run`, or the results are stale.
        brats: folder of the BraTS cohort.
        atlas: folder of the ATLAS cohort.
        dataset_dir: folder of your own data sets: where `data` lies, and paths of a datalist in `files` start.
        files: further files by the names that the study gives them.
        gpus: processes of each training.
        participants: CSV or TSV file with a line for each person, for Table 7 and Figure 2.
        participant_columns: names of its columns, such as "{'age': 'AGE', 'sex': 'SEX', 'ethnicity': 'GROUP'}".
        consort: file of `scripts.datalists ukb ... --consort`, for Figure 3.
    """
    from scripts.experiments.report import write_report  # late import: `--help` stays fast

    opened = _opened(study, output, ukb, brats, atlas, dataset_dir, files, gpus)
    page = write_report(opened, participants, participant_columns, consort)
    show(str(opened), page)


def _opened(
    study: str,
    output: str | None,
    ukb: str | None,
    brats: str | None,
    atlas: str | None,
    dataset_dir: str | None,
    files: Mapping[str, str] | None,
    gpus: int,
) -> OpenStudy:
    """A study with its jobs and their states; all arguments are checked."""
    check_number("gpus", gpus, int, 1, 1024)
    name, content = read(str(study))
    folder = expand_home(output or ROOT / "runs" / name, f"output={output}").resolve()
    check_writable_folder(folder, f"output={folder}")
    given = {"ukb": ukb, "brats": brats, "atlas": atlas, "dataset_dir": dataset_dir}
    roots = {layout: _existing(layout, root) for layout, root in given.items() if root is not None}
    if "dataset_dir" in roots:
        roots[OWN] = roots.pop("dataset_dir")
    if files is not None and not isinstance(files, Mapping):
        raise ArgumentError(f"files={files}: expected names and paths, such as \"{{'ct': 'model_swinvit.pt'}}\"")
    others = {str(key): _existing("files", path) for key, path in (files or {}).items()}
    known = {
        file for part in ("datalists", "runs") for entry in content[part].values() for file in entry.get("files", [])
    }
    if unknown := sorted(set(others) - known):
        raise ArgumentError(
            f"files={unknown[0]}: the study has no such file; expected {', '.join(sorted(known)) or 'none'}"
        )
    return open_study(content, Places(folder, roots, others, gpus))


def _existing(name: str, path: Any) -> Path:
    found = expand_home(path, name).resolve()
    if not found.exists():
        raise ArgumentError(f"{name}={path}: no such file or folder")
    return found


def _line(row: Mapping[str, Any]) -> str:
    text = f"{row['state']:<12} {row['job']}"
    if row["reason"]:
        text += f": {row['reason']}"
    if "steps" in row:
        steps = f"{row['steps']:,} steps" if row["steps"] is not None else f"steps unknown: {row['steps_unknown']}"
        text += f"; {steps}"
    if "hours" in row:
        text += f", about {row['hours']:g} GPU-hours, {row['memory']}, {row['disk_gib']:g} GiB of disk"
    return text


def _total(rows: list[dict[str, Any]], gpus: int) -> str:
    open_rows = [row for row in rows if "steps" in row and row["state"] not in ("done", "absent")]
    known = [row for row in open_rows if "hours" in row]
    if not known:
        return f"{_trainings(open_rows)} to do; --measure=true estimates the cost on this machine"
    hours, disk = sum(row["hours"] for row in known), sum(row["disk_gib"] for row in known)
    without = f"; {len(open_rows) - len(known)} more are not measured" if len(known) < len(open_rows) else ""
    device = "GPU-hours" if gpus > 1 else "hours of one process"
    return (
        f"estimate for {_trainings(known)} to do: {hours:,.1f} {device} as measured on this machine, without "
        f"reading, validation and evaluation; {disk:,.1f} GiB of disk{without}"
    )


def _trainings(rows: Sequence[Any]) -> str:
    return f"{len(rows)} training{'' if len(rows) == 1 else 's'}"


if __name__ == "__main__":
    cli.run({"plan": plan, "run": run, "report": report}, "experiments")
