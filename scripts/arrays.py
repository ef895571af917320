"""Run functions in SLURM jobs through submitit: a single call, or many items as a job array."""

import os
import re
import subprocess
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from common.bars import tqdm

os.environ.setdefault("SUBMITIT_PREEMPT_SIGNAL", "USR1")  # on this signal, training saves its state and exits

import submitit

from common.errors import ArgumentError, InputError, show
from scripts.pools import map_in_processes

FOLDER = ".slurm"  # in the output folder: submitit's files and the logs
EVERY = 2.0  # seconds between two checks of the jobs
FILTERS = threading.Lock()
FAILURES = (OSError, submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError)


class _Call(submitit.helpers.Checkpointable):
    """A job's function call; it runs again if SLURM requeues the job after preemption or a timeout."""

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


@dataclass(frozen=True)
class JobArray:
    """SLURM jobs that continue if this process ends.

    Functions and results must be picklable. A requeued job calls its function again, so the function must skip finished
    work.
    """

    executor: submitit.AutoExecutor
    folder: Path
    jobs: int

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in a single job, wait, and return its result; raise an InputError if the job fails."""
        try:
            return self.executor.submit(_Call(), function, *arguments).result()
        except FAILURES as error:
            raise InputError(_failure_of(error)) from error

    def map(self, function: Callable[[Any], Any], items: Sequence[Any], unit: str) -> list[Any]:
        """Apply a function to each item in a job array, and wait with a progress bar.

        Return the results in the order of the items, with None for a killed item (see `map_in_processes`). Raise an
        InputError if submission fails or, after all jobs have ended, if a job failed.
        """
        if not items:
            return []
        before = {*self.folder.glob("*")}
        parts = [range(first, len(items), self.jobs) for first in range(min(self.jobs, len(items)))]
        try:
            # In a child process, so that an item that kills the process does not end the job
            orders = [(map_in_processes, function, [items[index] for index in part], 1, unit) for part in parts]
            jobs = self.executor.map_array(_Call(), *zip(*orders, strict=True))
        except FAILURES as error:
            for file in {*self.folder.glob("*")} - before:  # nothing was submitted
                if not re.match(r"\d+_", file.name):  # of an earlier array, whose jobs may still run
                    file.unlink(missing_ok=True)
            raise InputError(f"--slurm: {_failure_of(error)}") from error
        number = jobs[0].job_id.split("_")[0]
        show(f"SLURM job {number}, an array of size {len(jobs)}, continues if this command ends", error=True)
        parts_by_job = {job.job_id: part for job, part in zip(jobs, parts, strict=True)}
        results: list[Any] = [None] * len(items)
        failed: list[str] = []
        with tqdm(total=len(items), unit=unit) as bar:
            for job in submitit.helpers.as_completed(jobs, poll_frequency=EVERY):
                part = parts_by_job[job.job_id]
                try:
                    for index, result in zip(part, job.result(), strict=True):
                        results[index] = result
                except FAILURES as error:
                    failed.append(f"{job.job_id}: {_failure_of(error)}")
                bar.update(len(part))
        if failed:
            raise InputError(
                f"{len(failed)} of {len(jobs)} SLURM jobs failed, the first {failed[0]}; logs are in {self.folder}; "
                f"repeat the command to continue"
            )
        return results


def array_of(settings: Mapping[str, Any], output: Path, name: str, jobs: int) -> JobArray:
    """Return a `JobArray` of at most `jobs` jobs; nothing is submitted or written yet.

    All nodes must share `output`, where the jobs write their logs. `settings` are submitit's, such as slurm_partition,
    gpus_per_node, cpus_per_task and timeout_min; invalid settings, or no answer from SLURM, raise an ArgumentError.
    """
    if not isinstance(settings, Mapping):
        raise ArgumentError(f"slurm={settings}: expected settings such as \"{{'slurm_partition': 'gpu'}}\"")
    try:
        executor = submitit.AutoExecutor(folder=output / FOLDER, cluster="slurm")
        # Deprecated names; studies call this in threads, which share the filters of warnings
        with FILTERS, warnings.catch_warnings(action="error", category=UserWarning):
            executor.update_parameters(name=name, **settings)
        check_slurm()
    except (OSError, RuntimeError, NameError, TypeError, ValueError, AssertionError, UserWarning) as error:
        raise ArgumentError("slurm", dict(settings), f"{' '.join(str(error).split()):.200}") from error
    return JobArray(executor, output / FOLDER, jobs)


@cache  # a study goes on if SLURM later misses a question
def check_slurm() -> None:
    """Raise a RuntimeError or OSError if SLURM does not answer."""
    answer = subprocess.run(["sinfo"], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise RuntimeError(answer.stderr)


def _failure_of(error: Exception) -> str:
    """Return the last lines of an error's message, up to 200 characters or else one line, without the log paths."""
    text, _, _ = str(error).partition("You can check full logs")
    lines = [" ".join(line.split()) for line in text.strip("- \n").splitlines()]
    while len(lines) > 1 and len(" ".join(lines)) > 200:
        del lines[0]
    return "; ".join(filter(None, lines))
