"""Run a study's jobs in the order of their dependencies, on this machine or by SLURM.

OUTPUT/jobs/JOB holds a job's log, a lock while the job runs, and record.json: the outcome, and the digests of the
inputs at the start. If an input's digest has changed since, the result is stale.
"""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from common import ROOT
from common.bars import tqdm
from common.errors import ArgumentError, InputError, ending_of, one_line, shortened, show
from common.files import digest, move_aside, size_and_time, valid_json, write_json
from common.locks import lock
from common.options import OPTIONS
from common.training.signals import PREEMPTED, interrupt_on_signals
from scripts.experiments.gpus import GpuPool, visible_gpus
from scripts.experiments.jobs import CommandLine, Places, StudyJob, jobs_of, shown

Slurm = Mapping[str, Any] | None  # settings of SLURM jobs by submitit's names; None: run on this machine
LAST_LINE = 300  # characters
RECORD = {
    "type": "object",
    "properties": {"state": {"type": "string"}, "last_line": {"type": "string"}, "inputs": {"type": "object"}},
}
CODE_USERS = {"monai.bundle", "scripts.run", "scripts.prepare", "scripts.evaluate"}  # datalists keep their splits
CODE = "the code in common/ or its requirements.txt"  # an input of their jobs
RESUMABLE = {option.name for option in OPTIONS.values() if option.resumable}
POLL_INTERVAL = 1.0  # seconds
PROGRESS = {"TQDM_BAR_FORMAT": "{n_fmt}/{total_fmt} {unit}, {remaining} left{postfix}"}  # bars in logs
SHOWN = 60  # characters of a job's progress
RUNNING: set[subprocess.Popen[bytes]] = set()  # running commands of this process


@dataclass(frozen=True)
class State:
    """A job's state (done, running, stale, failed, interrupted, missing, or absent: cannot run) and the reason.

    `changed` names the changed inputs of a stale job.
    """

    name: str
    reason: str = ""
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class OpenStudy:
    """An experimental study: content of its YAML file, locations of data and results, jobs and states by job name."""

    content: Mapping[str, Any]
    places: Places
    jobs: Mapping[str, StudyJob]
    states: Mapping[str, State]

    def __str__(self) -> str:
        return f"{self.content['title']}: {len(self.jobs)} jobs, {counted(self.states)}"


# States


def log_of(job: StudyJob, output: Path) -> Path:
    """Return the path of a job's log."""
    return _folder_of(job, output) / "run.log"


def _folder_of(job: StudyJob, output: Path) -> Path:
    return output / "jobs" / job.name


def open_study(content: Mapping[str, Any], places: Places) -> OpenStudy:
    """Open a study: list its jobs and read their current states."""
    jobs = jobs_of(content, places)
    return OpenStudy(content, places, jobs, states_of(jobs, places.output))


def counted(states: Mapping[str, State]) -> str:
    """Return the number of jobs in each state, as text; "none" without jobs."""
    counts = Counter(state.name for state in states.values())
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def state_of(job: StudyJob, output: Path) -> State:
    """Return a job's state from its lock, inputs and record, whatever the states of the jobs that it needs."""
    folder = _folder_of(job, output)
    if (folder / "lock").exists():
        with lock(folder) as held:
            if held is None:
                return State("running")
    return _judge(job, output)


def states_of(
    jobs: Mapping[str, StudyJob], output: Path, judge: Callable[[StudyJob, Path], State] = state_of
) -> dict[str, State]:
    """Return the state of each job, found by `judge`; a finished job that needs a stale job is stale."""
    states: dict[str, State] = {}
    for name, job in jobs.items():
        states[name] = state = judge(job, output)
        stale = [need for need in job.needs if states[need].name == "stale"]
        if state.name == "done" and stale:
            states[name] = State("stale", f"{stale[0]} is stale")
    return states


def _judge(job: StudyJob, output: Path) -> State:
    """Return the state of a job that is not running."""
    if job.absent:
        return State("absent", job.absent)
    record = _read_record(_folder_of(job, output))
    if record.get("state") == "failed":
        return State("failed", record.get("last_line", ""))
    if record.get("state") != "done":
        return State("interrupted" if record else "missing")
    if not job.target.exists():
        return State("stale", f"{shown(job.target)} is missing")
    recorded = record.get("inputs", {})
    current = inputs_of(job, recorded)
    changed = [name for name in {**current, **recorded} if recorded.get(name) != current.get(name)]
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return State("stale", f"{changed[0]}{more} changed", tuple(changed)) if changed else State("done")


def inputs_of(job: StudyJob, recorded: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a job's inputs by name: its command, and digests of the files that its result depends on.

    The code has a digest, too, if the job runs one of `CODE_USERS`. `recorded` is an earlier return value; a file whose
    size and modification time match it is not read again.
    """
    inputs: dict[str, Any] = {"its command": job.command.words}
    inputs |= {shown(path): _stamp(path, (recorded or {}).get(shown(path))) for path in job.inputs}
    if CODE_USERS & set(job.command.program):
        digests = "".join(_digest(file, *size_and_time(file)) for file in code_files())
        inputs[CODE] = hashlib.sha256(digests.encode()).hexdigest()
    return inputs


def code_files() -> list[Path]:
    """Return the code that results depend on: the package `common` and the library versions."""
    return [*sorted((ROOT / "common").rglob("*.py")), ROOT / "common/requirements.txt"]


def _stamp(path: Path, recorded: Any) -> Any:
    """Return a file's size, modification time and SHA-256, or a digest for a folder; None if absent.

    A folder's digest covers names, sizes and modification times. `recorded` is an earlier stamp of the file; it is
    returned if the content is still the same, even if the modification time differs.
    """
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file()]
        content = repr([(str(file.relative_to(path)), size_and_time(file)) for file in files])
        return hashlib.sha256(content.encode()).hexdigest()
    if not path.is_file():
        return None
    size, time = size_and_time(path)
    earlier = recorded if isinstance(recorded, list) else []
    if earlier[:2] == [size, time]:
        return earlier
    sha256 = _digest(path, size, time)
    return earlier if earlier[2:] == [sha256] else [size, time, sha256]


@cache
def _digest(path: Path, size: int, time: int) -> str:
    return digest(path)


def _read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a job's last attempt; empty if it is missing or invalid."""
    try:
        record: dict[str, Any] = valid_json(folder / "record.json", "the record of a job", RECORD)
    except InputError:
        return {}
    return record


# A single job


def execute(job: StudyJob, output: Path, environment: Mapping[str, str] = os.environ, is_shown: bool = False) -> State:
    """Run a job's command, unless the job is done or runs in another process; return the state.

    Output goes to `run.log` in the job's folder or, if `is_shown`, to the output of this process. Stale results, and
    results of a different command, are moved aside unless `job.selects`. Interrupted training continues, also if only
    options have changed that it can resume with, such as more iterations.
    """
    folder = _folder_of(job, output)
    with lock(folder, patience=1.0) as held:
        if held is None:
            return State("running")
        state, start = _judge(job, output), time.monotonic()
        if state.name in ("absent", "done"):
            return state
        changed = {*job.command.words} ^ {*_read_record(folder).get("command", [])}
        if "resume" in job.command.options:
            changed -= {word for word in changed if word[2:].partition("=")[0] in RESUMABLE}
        if (changed or state.name == "stale") and not job.selects and job.results.exists():
            reason = state.reason or f"its command has changed: {shortened(sorted(changed), 2)}"
            show(f"moved aside  {job.results}: {reason}")
            move_aside(job.results)
        record: dict[str, Any] = {
            "job": job.name,
            "command": job.command.words,
            "inputs": inputs_of(job),
            "state": "running",
            "host": socket.gethostname(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(folder / "record.json", record)
        job.target.parent.mkdir(parents=True, exist_ok=True)
        log, begun = None if is_shown else log_of(job, output), time.time_ns()
        status = _call(job.command, log, held, environment)
        is_made = job.target.exists()
        if status == 0 or (status == 1 and job.selects and is_made and size_and_time(job.target)[1] >= begun):
            state = State("done") if is_made else State("failed", f"{job.target}: not written")
        elif status in (PREEMPTED, -signal.SIGINT, 128 + signal.SIGINT):
            state = State("interrupted")
        else:
            last = _last_line(log) if log and status > 0 else ""  # a killed command prints no reason
            state = State("failed", last or ending_of(status))
        end = {"state": state.name, "last_line": state.reason, "status": status}
        write_json(folder / "record.json", record | end | {"seconds": round(time.monotonic() - start, 1)})
        return state


def _call(command: CommandLine, log: Path | None, held: int, environment: Mapping[str, str]) -> int:
    """Run a command and return its status. The command inherits the lock, and keeps it if this process is killed.

    Without a log, output goes to the output of this process.
    """
    with log.open("ab") if log else os.fdopen(os.dup(1), "wb") as file:
        file.write(f"$ {command}\n".encode(errors="backslashreplace"))
        file.flush()
        try:
            process = subprocess.Popen(
                command.arguments,
                cwd=command.folder,
                env={**(PROGRESS if log else {}), **environment},  # the user's format wins
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT if log else None,
                pass_fds=[held],
                start_new_session=True,  # Ctrl-C reaches the command only once, through `run_jobs`
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL byte or a lone surrogate
            file.write(f"{command.arguments[0]}: {getattr(error, 'strerror', None) or error}\n".encode())
            return 127
    RUNNING.add(process)
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # not reaped yet: the process group keeps its id
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # leftover workers hold memory and the lock
        return process.wait()
    finally:
        RUNNING.discard(process)


def progress_of(name: str, log: Path) -> str:
    """Return a job's name and the last line of its log, such as its progress bar (`PROGRESS`).

    Example:
        tumour 100/240 step, 01:20 left, loss=0.512, dice=0.430
    """
    return f"{name} {_last_line(log)[:SHOWN] if log.is_file() else ''}".strip()


def _last_line(log: Path) -> str:
    """Return the last line of a command's output, shortened, or ""; carriage returns (progress bars) also end lines."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
    text = [line.strip() for line in lines if line.strip()]
    return text[-1][:LAST_LINE] if text and not text[-1].startswith("$ ") else ""


# All jobs


def select(study: OpenStudy, only: str = "*", redo: bool = False) -> list[str]:
    """Return the names of the jobs to run: unfinished jobs that match the pattern `only`, and the jobs that they need.

    `redo` includes stale jobs. Raise an ArgumentError if no job has a matching name.
    """
    to_do = ("missing", "interrupted", "failed", "running", *(["stale"] if redo else []))
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


def run_jobs(
    study: OpenStudy,
    selected: Sequence[str],
    at_once: int,
    slurm: Slurm = None,
    is_shown: bool = False,
    retries: int = 0,
) -> dict[str, State]:
    """Run the selected jobs, each after the jobs that it needs; print starts and ends, and return the final states.

    `at_once` jobs run at once: by SLURM with the settings `slurm`, or else on this machine, where they share the cores
    and GPUs and, with `is_shown`, show their output instead of writing logs.

    A failed job starts again, at most `retries` times; then it stops only the jobs that depend on it. If a different
    process runs a job, this process waits, and continues the job if it is left unfinished. On Ctrl-C, a scheduler's
    signal or a closed terminal, running jobs are interrupted, so that training saves its state, and KeyboardInterrupt
    is raised.
    """
    jobs, output, processes = study.jobs, study.places.output, study.places.gpus
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // (at_once * processes)))}
    gpus = GpuPool(visible_gpus() if at_once > 1 and slurm is None else [], processes)
    if slurm is not None:
        from scripts.arrays import array_of  # late import: `--help` stays fast

        array_of(slurm, output, "study", 1)  # reject bad settings before the first job
    order = TopologicalSorter({name: [need for need in jobs[name].needs if need in selected] for name in selected})
    order.prepare()
    results: dict[str, State] = {}
    waiting: list[str] = []
    watched: set[str] = set()  # jobs of `waiting` that depend on a job in a different process
    at_work: dict[Future[State], str] = {}
    failures: Counter[str] = Counter()

    def launch(name: str) -> Any:
        """Run a job and return its state. A SLURM job that is preempted or out of time is requeued and continues."""
        try:
            if slurm is not None:
                array = array_of(slurm, _folder_of(jobs[name], output), name.replace("/", "-"), 1)
                return array.call(execute, jobs[name], output)
            with gpus.lend() as lent:
                environment = {**threads, **os.environ, **lent}  # the user's number of threads wins
                return execute(jobs[name], output, environment, is_shown)
        except (InputError, OSError) as error:  # such as a removed folder
            return State("failed", one_line(error))

    def log_suffix(name: str) -> str:
        return "" if is_shown else f"; {log_of(jobs[name], output)}"

    def end(name: str, state: State) -> None:
        results[name] = state
        show(f"{state.name:<12} {name}" + (f": {state.reason}" if state.reason else ""))
        order.done(name)

    interrupt_on_signals()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a script's background job; commands would inherit it
        signal.signal(signal.SIGINT, lambda *_: None)
    line = tqdm(bar_format="{desc}", leave=False, disable=is_shown or not sys.stderr.isatty())
    with ThreadPoolExecutor(at_once) as pool, line:
        while order.is_active():
            waiting += order.get_ready()
            for name in [*waiting]:
                if len(at_work) == at_once:
                    break
                states = {key: results.get(key) or state_of(jobs[key], output) for key in (*jobs[name].needs, name)}
                if running := next((key for key in states if states[key].name == "running"), None):
                    if name not in watched:
                        show(f"waits        {name}: another process runs {running}{log_suffix(running)}")
                    watched.add(name)
                    continue
                waiting.remove(name)
                state = states.pop(name)
                if unmet := next((key for key in states if states[key].name not in ("done", "stale")), None):
                    end(name, State("missing", f"needs {unmet}, which is {states[unmet].name}"))
                elif state.name == "done" or (state.name == "failed" and name in watched):
                    end(name, state)
                else:
                    watched.discard(name)
                    show(f"starts       {name}{log_suffix(name)}")
                    at_work[pool.submit(launch, name)] = name
            try:
                finished, _ = wait(at_work, POLL_INTERVAL, FIRST_COMPLETED)
                progress = [progress_of(name, log_of(jobs[name], output)) for name in at_work.values()]
                line.set_description_str(" | ".join(progress)[: shutil.get_terminal_size().columns - 1])
                if waiting and not at_work:
                    time.sleep(POLL_INTERVAL)
            except KeyboardInterrupt:
                for process in list(RUNNING):
                    process.send_signal(signal.SIGINT)  # training saves its state
                raise
            for future in finished:
                name, state = at_work.pop(future), future.result()
                failures[name] += state.name == "failed"
                if state.name == "running":  # a different process was faster
                    waiting.append(name)
                elif state.name == "failed" and failures[name] <= retries:
                    show(f"failed       {name}: {state.reason}; retry {failures[name]} of {retries}")
                    waiting.append(name)
                else:
                    end(name, state)
    return results
