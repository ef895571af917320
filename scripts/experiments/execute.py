"""Run jobs: one in its own process, and all of a study in the order of what they need."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

from common.files import move_aside
from common.locks import lock
from common.training.signals import PREEMPTED
from scripts.experiments.instances import Command, Job
from scripts.experiments.status import (
    State,
    begin,
    folder_of,
    judge,
    log_of,
    read_record,
    remember,
    state_of,
    write_record,
)

__all__ = ["Launcher", "execute", "run_all"]

Launcher = Callable[[Job, Path, bool], State]  # (job, output folder, whether a stale result is redone) -> its state
LAST_LINE = 300  # characters
AT_WORK: set[subprocess.Popen[bytes]] = set()  # commands of this process that have not ended


def execute(job: Job, output: Path, redo: bool = False, threads: int | None = None) -> State:
    """Run a job in this process, unless another process works on it or has done it.

    Output goes to `run.log` in the job's folder. Stale results, and those that other commands began, are moved aside. A
    training that was stopped continues.

    Args:
        job: of a study.
        output: folder of the study.
        redo: whether a result is made again that is stale only because of a job that this one needs.
        threads: of each process, unless OMP_NUM_THREADS is set; None for PyTorch's choice.

    Returns:
        done, failed with the last line of the log, interrupted, or running where another process is at it.
    """
    folder = folder_of(job, output)
    with lock(folder, patience=1.0) as held:
        if held is None:
            return State("running")
        state = judge(job, output)
        if state.name == "absent" or (state.name == "done" and not redo):
            return state
        commands = [list(command.words) for command in job.commands]
        if state.name in ("done", "stale") or read_record(folder).get("commands") != commands:
            move_aside(job.results)
        return _run(job, output, commands, held, threads)


def _run(job: Job, output: Path, commands: list[list[str]], held: int, threads: int | None) -> State:
    folder, start = folder_of(job, output), time.monotonic()
    record: dict[str, Any] = {
        "job": job.name,
        "commands": commands,
        "state": "running",
        "host": socket.gethostname(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    begin(job, output)
    write_record(folder, record)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    status = 0
    with log_of(job, output).open("ab") as log:
        for command in job.commands:
            log.write(f"$ {' '.join(command.words)}\n".encode())
            log.flush()
            status = _call(command, log, held, threads)
            if status:
                break
    record |= {"seconds": round(time.monotonic() - start, 1), "status": status}
    if status == 0 and not job.target.exists():
        status, line = 1, f"{job.target}: not written"
    else:
        line = _last_line(log_of(job, output)) if status else ""
    if status == PREEMPTED or status in (-signal.SIGINT, 128 + signal.SIGINT):
        state = State("interrupted")
    elif status:
        state = State("failed", line)
    else:
        remember(job, output)
        state = State("done")
    write_record(folder, record | {"state": state.name} | ({"last_line": state.reason} if state.reason else {}))
    return state


def _call(command: Command, log: Any, held: int, threads: int | None) -> int:
    """Run a command, which inherits the lock: it stays locked if this process is killed and the command is not."""
    shared = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    try:
        process = subprocess.Popen(
            command.arguments,
            cwd=command.folder,
            env=shared | os.environ,  # the user's own number comes first
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[held],
            start_new_session=True,  # a terminal's Ctrl-C reaches it once, by way of `run_all`
        )
    except OSError as error:
        log.write(f"{command.arguments[0]}: {error.strerror}\n".encode())
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


def run_all(
    jobs: Mapping[str, Job],
    selected: Mapping[str, State],
    output: Path,
    launch: Launcher,
    at_once: int,
    tell: Callable[[str, State | None], None],
) -> dict[str, State]:
    """Run the selected jobs, each after those that it needs, some at a time; a failure stops only what depends on it.

    Args:
        jobs: of the study.
        selected: jobs to run, with their states.
        output: folder of the study.
        launch: runs a job.
        at_once: how many.
        tell: is called with a job's name when it starts, and again with its state in the end.

    Raises:
        KeyboardInterrupt: on Ctrl-C and SIGTERM, which trainings get, too, so that they save their state.
    """
    order = TopologicalSorter({name: [need for need in jobs[name].needs if need in selected] for name in selected})
    order.prepare()
    results: dict[str, State] = {}
    waiting: list[str] = []
    at_work: dict[Future[State], str] = {}
    with _sigterm_interrupts(), ThreadPoolExecutor(at_once) as pool:
        while order.is_active():
            waiting += order.get_ready()
            while waiting and len(at_work) < at_once:
                name = waiting.pop(0)
                if (blocked := _blocked(jobs[name], jobs, output, results)) is not None:
                    results[name] = blocked
                    tell(name, blocked)
                    order.done(name)
                    continue
                tell(name, None)
                at_work[pool.submit(launch, jobs[name], output, selected[name].name == "stale")] = name
            if not at_work:
                continue
            try:
                finished, _ = wait(at_work, return_when=FIRST_COMPLETED)
            except KeyboardInterrupt:
                for process in list(AT_WORK):
                    process.send_signal(signal.SIGINT)  # trainings save their state
                raise
            for future in finished:
                name = at_work.pop(future)
                results[name] = future.result()
                tell(name, results[name])
                order.done(name)
    return results


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt in the block, as Ctrl-C does."""
    if current_thread() is not main_thread():  # only that one can
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _blocked(job: Job, jobs: Mapping[str, Job], output: Path, results: Mapping[str, State]) -> State | None:
    """The state of a job that needs one which is not done; another process may be at that one."""
    for need in job.needs:
        state = results.get(need) or state_of(jobs[need], output)
        if state.name not in ("done", "stale"):
            name = "running" if state.name == "running" else "missing"
            return State(name, f"needs {need}, which is {state.name}")
    return None
