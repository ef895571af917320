"""Run the jobs of a study: each once, after those that it needs, on this machine or by SLURM.

OUTPUT/jobs/JOB holds the job's log, the lock of the process that works on it, and record.json: how it went, and the
digests that its inputs had when it began. A result whose inputs have others now is stale.
"""

import hashlib
import os
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from functools import cache, partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from common.errors import ArgumentError, InputError, show
from common.files import digest, move_aside, read_json, write_json
from common.locks import lock
from common.training.signals import PREEMPTED
from scripts.experiments.jobs import ROOT, CommandLine, Places, StudyJob, jobs_of

Launcher = Callable[[StudyJob, Path, bool], "State"]  # (job, output, whether a stale result is redone) -> its state
LAST_LINE = 300  # characters
AT_WORK: set[subprocess.Popen[bytes]] = set()  # commands of this process that have not ended


@dataclass(frozen=True)
class State:
    """Where a job stands, and why: done, running, stale, failed, interrupted, missing or absent (cannot run)."""

    name: str
    reason: str = ""


@dataclass(frozen=True)
class OpenStudy:
    """The content of a study, its places, its jobs by name, and where these stand."""

    content: Mapping[str, Any]
    places: Places
    jobs: Mapping[str, StudyJob]
    states: Mapping[str, State]

    def __str__(self) -> str:
        return f"{self.content['title']}: {len(self.jobs)} jobs, {counted(self.states)}"


# What is done, and what is stale


def log_of(job: StudyJob, output: Path) -> Path:
    """The output of a job's command."""
    return _folder_of(job, output) / "run.log"


def _folder_of(job: StudyJob, output: Path) -> Path:
    return output / "jobs" / job.name


def open_study(content: Mapping[str, Any], places: Places) -> OpenStudy:
    """The study of some content in its places, as it stands now."""
    jobs = jobs_of(content, places)
    return OpenStudy(content, places, jobs, states_of(jobs, places.output))


def states_of(jobs: Mapping[str, StudyJob], output: Path) -> dict[str, State]:
    """The state of each job; one that starts from a stale one is stale."""
    states: dict[str, State] = {}
    for name, job in jobs.items():
        states[name] = state = state_of(job, output)
        stale = [need for need in job.needs if states[need].name == "stale"]
        if state.name == "done" and stale:
            states[name] = State("stale", f"{stale[0]} is stale")
    return states


def counted(states: Mapping[str, State]) -> str:
    """How many jobs are in each state, in words."""
    counts = Counter(state.name for state in states.values())
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def state_of(job: StudyJob, output: Path) -> State:
    """The state of a job by its own inputs and record."""
    folder = _folder_of(job, output)
    if (folder / "lock").exists():
        with lock(folder) as held:
            if held is None:
                return State("running")
    return _judge(job, output)


def _judge(job: StudyJob, output: Path) -> State:
    """The state of a job that no process works on."""
    if job.absent:
        return State("absent", job.absent)
    record = _read_record(_folder_of(job, output))
    if record.get("state") == "failed":
        return State("failed", record.get("last_line", ""))
    if record.get("state") != "done":
        return State("interrupted" if record else "missing")
    if not job.target.exists():
        return State("stale", f"{_shown(job.target)} is missing")
    then = record.get("inputs", {})
    now = inputs_of(job, then)
    changed = [name for name in {**now, **then} if then.get(name) != now.get(name)]
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return State("stale", f"{changed[0]}{more} changed") if changed else State("done")


def inputs_of(job: StudyJob, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the result of a job depends on, by name: its command, its files and the code of the bundles.

    Args:
        job: of a study.
        known: what this returned earlier; files whose size and time are as then are not read again.
    """
    inputs: dict[str, Any] = {"its command": list(job.command.words)}
    inputs |= {_shown(path): _stamp(path, (known or {}).get(_shown(path))) for path in job.inputs}
    if {"monai.bundle", "scripts.evaluate"} & set(job.command.words):
        digests = "".join(_digest(file, *_size_and_time(file)) for file in code_files())
        inputs["the code in common/ or requirements.txt"] = hashlib.sha256(digests.encode()).hexdigest()
    return inputs


def code_files() -> list[Path]:
    """The code that results depend on: the module that the configs name, and the versions of the libraries."""
    return [*sorted((ROOT / "common").rglob("*.py")), ROOT / "requirements.txt"]


def _stamp(path: Path, known: Any) -> Any:
    """Size, time and SHA-256 of a file, or names, sizes and times of a folder's files; None if there is nothing.

    `known` is returned for a file of the same content.
    """
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file()]
        content = repr([(str(file.relative_to(path)), _size_and_time(file)) for file in files])
        return hashlib.sha256(content.encode()).hexdigest()
    if not path.is_file():
        return None
    size, time = _size_and_time(path)
    earlier = known if isinstance(known, list) else []
    if earlier[:2] == [size, time]:
        return earlier
    found = _digest(path, size, time)
    return earlier if earlier[2:] == [found] else [size, time, found]


def _size_and_time(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


@cache
def _digest(path: Path, size: int, time: int) -> str:
    return digest(path)


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _read_record(folder: Path) -> dict[str, Any]:
    """What a job wrote about its last attempt; empty if there was none."""
    try:
        found = read_json(folder / "record.json")
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


# One job


def execute(job: StudyJob, output: Path, redo: bool = False, threads: int | None = None) -> State:
    """Run a job in this process, unless another process works on it or has done it.

    Output goes to `run.log` in the job's folder. Stale results, and those that another command began, are moved aside.
    A training that was stopped continues.

    Args:
        job: of a study.
        output: folder of the study.
        redo: whether a result is made again that is stale only because of a job that this one needs.
        threads: of each process, unless OMP_NUM_THREADS is set; None for PyTorch's choice.

    Returns:
        done, failed with the last line of the log, interrupted, or running where another process is at it.
    """
    folder = _folder_of(job, output)
    with lock(folder, patience=1.0) as held:
        if held is None:
            return State("running")
        state, start = _judge(job, output), time.monotonic()
        if state.name == "absent" or (state.name == "done" and not redo):
            return state
        if state.name in ("done", "stale") or _read_record(folder).get("command") != list(job.command.words):
            move_aside(job.results)
        record: dict[str, Any] = {
            "job": job.name,
            "command": list(job.command.words),
            "inputs": inputs_of(job),
            "state": "running",
            "host": socket.gethostname(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(folder / "record.json", record)
        job.target.parent.mkdir(parents=True, exist_ok=True)
        status = _call(job.command, log_of(job, output), held, threads)
        if status == 0:
            state = State("done") if job.target.exists() else State("failed", f"{job.target}: not written")
        elif status in (PREEMPTED, -signal.SIGINT, 128 + signal.SIGINT):
            state = State("interrupted")
        else:
            state = State("failed", _last_line(log_of(job, output)))
        end = {"state": state.name, "last_line": state.reason, "status": status}
        write_json(folder / "record.json", record | end | {"seconds": round(time.monotonic() - start, 1)})
        return state


def _call(command: CommandLine, log: Path, held: int, threads: int | None) -> int:
    """Run a command, which inherits the lock: it stays locked if this process is killed and the command is not."""
    shared = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    with log.open("ab") as file:
        file.write(f"$ {command}\n".encode())
        file.flush()
        try:
            process = subprocess.Popen(
                command.arguments,
                cwd=command.folder,
                env=shared | os.environ,  # the user's own number comes first
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                pass_fds=[held],
                start_new_session=True,  # a terminal's Ctrl-C reaches it once, by way of `run_jobs`
            )
        except OSError as error:
            file.write(f"{command.arguments[0]}: {error.strerror}\n".encode())
            return 127
    AT_WORK.add(process)
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # not reaped yet: its group keeps its number
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # workers of a killed command, which hold memory and the lock
        return process.wait()
    finally:
        AT_WORK.discard(process)


def _last_line(log: Path) -> str:
    """The last line of a log that is not empty; a progress bar's returns end lines, too."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
    text = [line.strip() for line in lines if line.strip()]
    return text[-1][:LAST_LINE] if text else ""


# All jobs


def select(study: OpenStudy, only: str = "*", redo: bool = False) -> list[str]:
    """The names of the jobs to run: those of a pattern that are to do, and what they need.

    Args:
        study: as it stands.
        only: pattern of the names.
        redo: whether those that are stale are to do.

    Raises:
        ArgumentError: no job has such a name.
    """
    to_do = ("missing", "interrupted", "failed", *(["stale"] if redo else []))
    asked = [name for name in study.jobs if fnmatch(name, only)]
    if not asked:
        raise ArgumentError(f"only={only}: no such job; the first is {next(iter(study.jobs))}")
    wanted = set()
    while asked:
        name = asked.pop()
        if name not in wanted and study.states[name].name in to_do:
            wanted.add(name)
            asked += study.jobs[name].needs
    return [name for name in study.jobs if name in wanted]


def launcher(places: Places, at_once: int, slurm: Mapping[str, Any] | None = None) -> Launcher:
    """What runs a job: this machine, whose cores the jobs share, or SLURM.

    A SLURM job takes the lock of its job and keeps its record, so that another process sees it at work. SLURM requeues
    it when it is preempted or out of time, and the training continues.

    Args:
        places: of the study.
        at_once: how many jobs run at a time.
        slurm: settings of SLURM jobs by submitit's names; None for this machine.

    Raises:
        ArgumentError: there is no SLURM here, or it has no such setting.
    """
    if slurm is None:
        return partial(execute, threads=max(1, (os.cpu_count() or 1) // (at_once * places.gpus)))
    from scripts.arrays import array_of  # here, as `--help` need not wait for submitit

    array_of(slurm, places.output, "study", 1)  # refuses bad settings before the first job

    def launch(job: StudyJob, output: Path, redo: bool) -> State:
        array = array_of(slurm, _folder_of(job, output), job.name.replace("/", "-"), 1)
        try:
            found: State = array.call(execute, job, output, redo)
        except InputError as error:
            return State("failed", str(error))
        return found

    return launch


def run_jobs(study: OpenStudy, selected: Sequence[str], launch: Launcher, at_once: int) -> dict[str, State]:
    """Run the selected jobs, each after those that it needs, and print when each starts and how it ends.

    A failure stops only what depends on it.

    Args:
        study: as it stood when the jobs were selected.
        selected: names of jobs.
        launch: runs a job.
        at_once: how many.

    Returns:
        The states that the jobs end in.

    Raises:
        KeyboardInterrupt: on Ctrl-C and SIGTERM, which trainings get, too, so that they save their state.
    """
    jobs, output = study.jobs, study.places.output
    order = TopologicalSorter({name: [need for need in jobs[name].needs if need in selected] for name in selected})
    order.prepare()
    results: dict[str, State] = {}
    waiting: list[str] = []
    at_work: dict[Future[State], str] = {}

    def end(name: str, state: State) -> None:
        results[name] = state
        show(f"{state.name:<12} {name}" + (f": {state.reason}" if state.reason else ""))
        order.done(name)

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    with ThreadPoolExecutor(at_once) as pool:
        while order.is_active():
            waiting += order.get_ready()
            while waiting and len(at_work) < at_once:
                name = waiting.pop(0)
                if blocked := _blocked(jobs[name], study, results):
                    end(name, blocked)
                    continue
                show(f"starts       {name}; {log_of(jobs[name], output)}")
                at_work[pool.submit(launch, jobs[name], output, study.states[name].name == "stale")] = name
            try:
                finished, _ = wait(at_work, return_when=FIRST_COMPLETED)
            except KeyboardInterrupt:
                for process in list(AT_WORK):
                    process.send_signal(signal.SIGINT)  # trainings save their state
                raise
            for future in finished:
                end(at_work.pop(future), future.result())
    return results


def _blocked(job: StudyJob, study: OpenStudy, results: Mapping[str, State]) -> State | None:
    """The state of a job that needs one which is not done; another process may be at that one."""
    for need in job.needs:
        state = results.get(need) or state_of(study.jobs[need], study.places.output)
        if state.name not in ("done", "stale"):
            name = "running" if state.name == "running" else "missing"
            return State(name, f"needs {need}, which is {state.name}")
    return None
