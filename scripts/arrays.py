"""Run a function on many items as a job array of SLURM, by submitit."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.bars import tqdm

os.environ.setdefault("SUBMITIT_PREEMPT_SIGNAL", "USR1")  # on which a training saves its state and ends

import submitit

from common.errors import ArgumentError, InputError, show
from scripts.pools import map_in_processes

__all__ = ["Array", "array_of", "failure_of", "slurm_executor"]

FOLDER = ".slurm"  # in the output folder: what submitit writes, with the logs
EVERY = 2.0  # seconds between two looks at the jobs


@dataclass(frozen=True)
class Array:
    """A job array that can be submitted.

    Attributes:
        executor: submits it.
        folder: of its logs, which all nodes share.
        jobs: their number; there are fewer for fewer items.
    """

    executor: submitit.AutoExecutor
    folder: Path
    jobs: int

    def map(self, function: Callable[[Any], Any], items: Sequence[Any], unit: str) -> list[Any]:
        """Apply a function to each item in SLURM jobs, and wait for them, with a progress bar.

        Each job takes every n-th item, one after the other. The jobs go on if this process ends. SLURM requeues a job
        that is preempted or out of time; it then calls the function for all its items again, so the function must know
        what is done.

        Args:
            function: and its results must be picklable.
            items: one argument per call.
            unit: of the progress bar.

        Returns:
            The results in the order of the items; None where the function ended its process twice.

        Raises:
            InputError: SLURM takes no such job, or some failed; names the first and its log.
        """
        if not items:
            return []
        parts = [range(first, len(items), self.jobs) for first in range(min(self.jobs, len(items)))]
        try:
            orders = [[items[place] for place in part] for part in parts]
            jobs = self.executor.map_array(_Part(unit), [function] * len(parts), orders)
        except (OSError, submitit.core.utils.FailedJobError) as error:
            raise InputError(f"--slurm: {failure_of(error)}; expected settings that SLURM takes") from error
        number = jobs[0].job_id.split("_")[0]
        show(f"SLURM job {number}: {len(jobs)} parts; they go on if this command ends", error=True)
        parts_by_job = {job.job_id: part for job, part in zip(jobs, parts, strict=True)}
        results: list[Any] = [None] * len(items)
        failed: list[str] = []
        with tqdm(total=len(items), unit=unit) as bar:
            for job in submitit.helpers.as_completed(jobs, poll_frequency=EVERY):
                part = parts_by_job[job.job_id]
                try:
                    for place, result in zip(part, job.result(), strict=True):
                        results[place] = result
                except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError) as error:
                    failed.append(f"{job.job_id}: {failure_of(error)}")
                bar.update(len(part))
        if failed:
            raise InputError(
                f"{len(failed)} of {len(jobs)} SLURM jobs failed, the first {failed[0]}; logs are in {self.folder}; "
                f"expected the same command again, which goes on"
            )
        return results


class _Part(submitit.helpers.Checkpointable):
    """What a job of an array does; a process of its own for the items lets it survive those that kill theirs."""

    def __init__(self, unit: str) -> None:
        self.unit = unit

    def __call__(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Apply a function to some items."""
        return map_in_processes(function, items, 1, self.unit)


def array_of(settings: Mapping[str, Any], output: Path, name: str, jobs: int) -> Array:
    """An array of jobs whose logs go to a folder in `output`.

    Args:
        settings: by submitit's names, such as slurm_partition, cpus_per_task, timeout_min.
        output: folder that all nodes share.
        name: of the jobs.
        jobs: their number.

    Raises:
        ArgumentError: there is no SLURM here, or submitit knows no such setting.
    """
    folder = output / FOLDER
    return Array(slurm_executor(settings, folder, name), folder, jobs)


def slurm_executor(settings: Mapping[str, Any], folder: Path, name: str) -> submitit.AutoExecutor:
    """What submits SLURM jobs; writes nothing.

    Args:
        settings: by submitit's names, such as slurm_partition, gpus_per_node, timeout_min.
        folder: of what submitit writes, which all nodes share.
        name: of the jobs.

    Raises:
        ArgumentError: there is no SLURM here, or submitit knows no such setting.
    """
    if not isinstance(settings, Mapping):
        raise ArgumentError(f"slurm={settings}: expected settings such as \"{{'slurm_partition': 'gpu'}}\"")
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
        executor.update_parameters(name=name, **settings)
    except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
        raise ArgumentError(f"slurm={dict(settings)}: {' '.join(str(error).split()):.200}") from error
    return executor


def failure_of(error: Exception) -> str:
    """The end of an error's message, to which submitit adds a traceback and the places of the logs, in one line."""
    text, _, _ = str(error).partition("You can check full logs")
    return " ".join(text.strip("- \n").split())[-200:]
