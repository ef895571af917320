"""What is done, stale or missing: doit's judgement of each job, kept with the job's own records.

doit remembers the commands and the digest of each input of a job that succeeded. The memory of a job is a file of its
own, written when the job ends, so an interrupted study loses nothing and several processes can work on one study.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doit.dependency import DatabaseException, Dependency, JsonDB
from doit.task import Task
from doit.tools import config_changed

from common.files import atomic_write, read_json, write_json
from common.locks import lock
from scripts.experiments.instances import ROOT, Job

__all__ = [
    "STATES",
    "State",
    "begin",
    "folder_of",
    "judge",
    "log_of",
    "read_record",
    "remember",
    "state_of",
    "states_of",
    "write_record",
]

MEMORY, BEGUN = "memory.json", "begun.json"
STATES = ("done", "running", "stale", "failed", "interrupted", "missing", "absent")


@dataclass(frozen=True)
class State:
    """Where a job stands: one of `STATES`, and why."""

    name: str
    reason: str = ""


def folder_of(job: Job, output: Path) -> Path:
    """The folder of a job's log, record and memory."""
    return output / "jobs" / job.name


def log_of(job: Job, output: Path) -> Path:
    """The output of a job's commands."""
    return folder_of(job, output) / "run.log"


def states_of(jobs: Mapping[str, Job], output: Path) -> dict[str, State]:
    """The state of each job; one that starts from a stale one is stale."""
    states: dict[str, State] = {}
    for name, job in jobs.items():
        states[name] = state = state_of(job, output)
        stale = [need for need in job.needs if states[need].name == "stale"]
        if state.name == "done" and stale:
            states[name] = State("stale", f"{stale[0]} is stale")
    return states


def state_of(job: Job, output: Path) -> State:
    """The state of a job by its own inputs and records."""
    return State("running") if is_running(folder_of(job, output)) else judge(job, output)


def judge(job: Job, output: Path) -> State:
    """The state of a job that no process works on."""
    if job.absent:
        return State("absent", job.absent)
    folder = folder_of(job, output)
    try:
        memory = Dependency(JsonDB, str(folder / MEMORY))
    except DatabaseException:
        return State("stale", f"{folder / MEMORY} cannot be read")
    found = memory.get_status(_task(job, output), {}, get_log=True)
    is_known = memory._in(job.name)
    if found.status == "up-to-date":
        return State("done")
    if is_known:
        return State("stale", _reason(found.reasons))
    record = read_record(folder)
    if record.get("state") == "failed":
        return State("failed", record.get("last_line", ""))
    return State("interrupted" if record else "missing")


def begin(job: Job, output: Path) -> None:
    """Forget the last success of a job, and note what it starts from, before it runs."""
    folder, task = folder_of(job, output), _task(job, output)
    (folder / MEMORY).unlink(missing_ok=True)
    memory = Dependency(JsonDB, str(folder / BEGUN))
    memory.get_status(task, {})
    task.save_extra_values()
    memory.save_success(task)
    with atomic_write(folder / BEGUN) as file:
        memory.backend.name = str(file)
        memory.close()


def remember(job: Job, output: Path) -> None:
    """Remember a job that has succeeded, with the digests that its inputs had when it began."""
    folder = folder_of(job, output)
    (folder / BEGUN).replace(folder / MEMORY)


def code_files() -> list[Path]:
    """The code that results depend on: the module that the configs name, and the versions of the libraries."""
    return [*sorted((ROOT / "common").rglob("*.py")), ROOT / "requirements.txt"]


def _task(job: Job, output: Path) -> Task:
    """A job as doit sees it."""
    code = code_files() if {"monai.bundle", "scripts.evaluate"} & set(job.commands[0].words) else []
    commands = {"commands": [[word.replace(str(output), "") for word in command.words] for command in job.commands]}
    files = [str(file) for path in (*job.inputs, *code) for file in _files(path)]
    return Task(job.name, None, file_dep=files, targets=[str(job.target)], uptodate=[config_changed(commands)])


def _files(path: Path) -> list[Path]:
    """A file, or all files of a folder, as doit compares files only."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _reason(reasons: Mapping[str, Any]) -> str:
    """Why doit would run a job again, in words."""
    if "missing_target" in reasons:
        return f"{_shown(reasons['missing_target'][0])} is missing"
    if "missing_file_dep" in reasons:
        return f"{_shown(reasons['missing_file_dep'][0])} is missing"
    changed = sorted([*reasons.get("changed_file_dep", []), *reasons.get("added_file_dep", [])])
    changed += reasons.get("removed_file_dep", [])
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        return f"{_shown(changed[0])}{more} changed"
    return "its commands changed"


def _shown(path: str) -> str:
    file = Path(path)
    return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else str(file)


# Records


def read_record(folder: Path) -> dict[str, Any]:
    """What a job wrote about its last attempt; empty if there was none."""
    try:
        found = read_json(folder / "record.json")
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write what a job says about its attempt."""
    write_json(folder / "record.json", record)


def is_running(folder: Path) -> bool:
    """Whether a process works on a job."""
    if not (folder / "lock").exists():
        return False
    with lock(folder) as held:
        return held is None
