"""Run the jobs of a study, each once and after the jobs that it needs, on this machine or by SLURM.

OUTPUT/jobs/JOB holds the job's log, the lock of the process that runs it, and record.json: the outcome, and the digests
of the inputs at the start. If an input's digest has changed, the result is stale.
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

from common.errors import ArgumentError, InputError, ending_of, one_line, show
from common.files import digest, move_aside, open_to_append, size_and_time, valid_json, write_json
from common.locks import lock
from common.training.signals import PREEMPTED, interrupt_on_signals
from scripts.experiments.jobs import ROOT, CommandLine, Places, StudyJob, jobs_of

Launcher = Callable[[StudyJob, Path], "State"]
LAST_LINE = 300  # characters
RECORD = {
    "type": "object",
    "properties": {"state": {"type": "string"}, "last_line": {"type": "string"}, "inputs": {"type": "object"}},
}
EVERY = 1.0  # seconds between looks at the jobs of other processes
AT_WORK: set[subprocess.Popen[bytes]] = set()  # running commands of this process


@dataclass(frozen=True)
class State:
    """A job's state and the reason: done, running, stale, failed, interrupted, missing or absent (cannot run)."""

    name: str
    reason: str = ""


@dataclass(frozen=True)
class OpenStudy:
    """A study's content, places, jobs by name, and their states."""

    content: Mapping[str, Any]
    places: Places
    jobs: Mapping[str, StudyJob]
    states: Mapping[str, State]

    def __str__(self) -> str:
        return f"{self.content['title']}: {len(self.jobs)} jobs, {counted(self.states)}"


# States


def log_of(job: StudyJob, output: Path) -> Path:
    """The log of a job's command."""
    return _folder_of(job, output) / "run.log"


def _folder_of(job: StudyJob, output: Path) -> Path:
    return output / "jobs" / job.name


def open_study(content: Mapping[str, Any], places: Places) -> OpenStudy:
    """Open a study in its places, with the current states of its jobs."""
    jobs = jobs_of(content, places)
    return OpenStudy(content, places, jobs, states_of(jobs, places.output))


def states_of(jobs: Mapping[str, StudyJob], output: Path) -> dict[str, State]:
    """The state of each job; a job that needs a stale job is stale."""
    states: dict[str, State] = {}
    for name, job in jobs.items():
        states[name] = state = state_of(job, output)
        stale = [need for need in job.needs if states[need].name == "stale"]
        if state.name == "done" and stale:
            states[name] = State("stale", f"{stale[0]} is stale")
    return states


def counted(states: Mapping[str, State]) -> str:
    """The number of jobs in each state, as text."""
    counts = Counter(state.name for state in states.values())
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def state_of(job: StudyJob, output: Path) -> State:
    """The state of a job by its inputs and record, regardless of the jobs that it needs."""
    folder = _folder_of(job, output)
    if (folder / "lock").exists():
        with lock(folder) as held:
            if held is None:
                return State("running")
    return _judge(job, output)


def _judge(job: StudyJob, output: Path) -> State:
    """The state of a job that is not running."""
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
    """Digests of the command, the files and the code that a job's result depends on, by name.

    `known` is an earlier return value; files with the same size and time are not read again.
    """
    inputs: dict[str, Any] = {"its command": job.command.words}
    inputs |= {_shown(path): _stamp(path, (known or {}).get(_shown(path))) for path in job.inputs}
    if {"monai.bundle", "scripts.evaluate"} & set(job.command.program):
        digests = "".join(_digest(file, *size_and_time(file)) for file in code_files())
        inputs["the code in common/ or its requirements.txt"] = hashlib.sha256(digests.encode()).hexdigest()
    return inputs


def code_files() -> list[Path]:
    """The code that results depend on: the module that the configs name, and the library versions."""
    return [*sorted((ROOT / "common").rglob("*.py")), ROOT / "common/requirements.txt"]


def _stamp(path: Path, known: Any) -> Any:
    """Size, time and SHA-256 of a file, or names, sizes and times of a folder's files; None if it does not exist.

    Returns `known` if the content is the same.
    """
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file()]
        content = repr([(str(file.relative_to(path)), size_and_time(file)) for file in files])
        return hashlib.sha256(content.encode()).hexdigest()
    if not path.is_file():
        return None
    size, time = size_and_time(path)
    earlier = known if isinstance(known, list) else []
    if earlier[:2] == [size, time]:
        return earlier
    found = _digest(path, size, time)
    return earlier if earlier[2:] == [found] else [size, time, found]


@cache
def _digest(path: Path, size: int, time: int) -> str:
    return digest(path)


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _read_record(folder: Path) -> dict[str, Any]:
    """The record of a job's last attempt; empty if there was none."""
    try:
        found: dict[str, Any] = valid_json(folder / "record.json", "the record of a job", RECORD)
    except InputError:
        return {}
    return found


# A single job


def execute(job: StudyJob, output: Path, threads: int | None = None) -> State:
    """Run a job in this process, unless it is done or another process runs it.

    Output goes to `run.log` in the job's folder. Stale results, and results of a different command, are moved aside; a
    stopped training continues.
    """
    folder = _folder_of(job, output)
    with lock(folder, patience=1.0) as held:
        if held is None:
            return State("running")
        state, start = _judge(job, output), time.monotonic()
        if state.name in ("absent", "done"):
            return state
        if state.name == "stale" or _read_record(folder).get("command") != job.command.words:
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
        status = _call(job.command, log_of(job, output), held, threads)
        if status == 0:
            state = State("done") if job.target.exists() else State("failed", f"{job.target}: not written")
        elif status in (PREEMPTED, -signal.SIGINT, 128 + signal.SIGINT):
            state = State("interrupted")
        else:
            last = _last_line(log_of(job, output)) if status > 0 else ""  # a killed command has not said why
            state = State("failed", last or ending_of(status))
        end = {"state": state.name, "last_line": state.reason, "status": status}
        write_json(folder / "record.json", record | end | {"seconds": round(time.monotonic() - start, 1)})
        return state


def _call(command: CommandLine, log: Path, held: int, threads: int | None) -> int:
    """Run a command that inherits the lock, so that the lock lasts as long as the command, even if this process is
    killed.
    """
    shared = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    with open_to_append(log) as file:
        file.write(f"$ {command}\n".encode(errors="backslashreplace"))
        file.flush()
        try:
            process = subprocess.Popen(
                command.arguments,
                cwd=command.folder,
                env=shared | os.environ,  # the user's environment wins
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                pass_fds=[held],
                start_new_session=True,  # Ctrl-C reaches it only once, through `run_jobs`
            )
        except (OSError, ValueError) as error:  # ValueError: a zero byte, or half of a character
            file.write(f"{command.arguments[0]}: {getattr(error, 'strerror', None) or error}\n".encode())
            return 127
    AT_WORK.add(process)
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # not reaped yet: its process group keeps its id
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # leftover workers hold memory and the lock
        return process.wait()
    finally:
        AT_WORK.discard(process)


def _last_line(log: Path) -> str:
    """The last line of a command in its log, "" without any; carriage returns of a progress bar also end lines."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
    text = [line.strip() for line in lines if line.strip()]
    return text[-1][:LAST_LINE] if text and not text[-1].startswith("$ ") else ""


# All jobs


def select(study: OpenStudy, only: str = "*", redo: bool = False) -> list[str]:
    """The names of the jobs to run: unfinished jobs that match the pattern `only`, and the jobs that they need.

    `redo` includes stale jobs.
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


def launcher(places: Places, at_once: int, slurm: Mapping[str, Any] | None = None) -> Launcher:
    """A function that runs a job on this machine, whose cores the `at_once` jobs share, or by SLURM.

    A SLURM job takes the job's lock and writes its record, so that other processes see it as running. If it is
    preempted or out of time, SLURM requeues it and the training continues.
    """
    if slurm is None:
        return partial(execute, threads=max(1, (os.cpu_count() or 1) // (at_once * places.gpus)))
    from scripts.arrays import array_of  # late import: `--help` stays fast

    array_of(slurm, places.output, "study", 1)  # reject bad settings before the first job

    def launch(job: StudyJob, output: Path) -> State:
        array = array_of(slurm, _folder_of(job, output), job.name.replace("/", "-"), 1)
        found: State = array.call(execute, job, output)
        return found

    return launch


def run_jobs(study: OpenStudy, selected: Sequence[str], launch: Launcher, at_once: int) -> dict[str, State]:
    """Run the selected jobs, each after the jobs that it needs, print their starts and ends, and return their final
    states.

    A failure stops only the jobs that depend on it. A job of another process is waited for, and continued if that
    process leaves it unfinished. Ctrl-C and the signals of a scheduler or a closed terminal raise KeyboardInterrupt
    after the trainings have been interrupted, so that they save their state.
    """
    jobs, output = study.jobs, study.places.output
    order = TopologicalSorter({name: [need for need in jobs[name].needs if need in selected] for name in selected})
    order.prepare()
    results: dict[str, State] = {}
    waiting: list[str] = []
    watched: set[str] = set()  # of `waiting`, for another process
    at_work: dict[Future[State], str] = {}

    def end(name: str, state: State) -> None:
        results[name] = state
        show(f"{state.name:<12} {name}" + (f": {state.reason}" if state.reason else ""))
        order.done(name)

    interrupt_on_signals()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of a script's background jobs: commands would inherit it
        signal.signal(signal.SIGINT, lambda *_: None)
    with ThreadPoolExecutor(at_once) as pool:
        while order.is_active():
            waiting += order.get_ready()
            for name in [*waiting]:
                if len(at_work) == at_once:
                    break
                states = {each: results.get(each) or state_of(jobs[each], output) for each in (*jobs[name].needs, name)}
                if running := next((each for each in states if states[each].name == "running"), None):
                    if name not in watched:
                        log = log_of(jobs[running], output)
                        show(f"waits        {name}: another process runs {running}; {log}")
                    watched.add(name)
                    continue
                waiting.remove(name)
                state = states.pop(name)
                if unmet := next((each for each in states if states[each].name not in ("done", "stale")), None):
                    end(name, State("missing", f"needs {unmet}, which is {states[unmet].name}"))
                elif state.name == "done" or (state.name == "failed" and name in watched):
                    end(name, state)
                else:
                    show(f"starts       {name}; {log_of(jobs[name], output)}")
                    at_work[pool.submit(launch, jobs[name], output)] = name
            try:
                finished, _ = wait(at_work, EVERY if waiting else None, FIRST_COMPLETED)
                if waiting and not at_work:
                    time.sleep(EVERY)
            except KeyboardInterrupt:
                for process in list(AT_WORK):
                    process.send_signal(signal.SIGINT)  # trainings save their state
                raise
            for future in finished:
                name = at_work.pop(future)
                try:
                    state = future.result()
                except (InputError, OSError) as error:  # such as a folder that has been removed
                    state = State("failed", one_line(error))
                if state.name == "running":  # another process was faster
                    waiting.append(name)
                else:
                    end(name, state)
    return results
