"""Jobs of a study as jobs of SLURM, by submitit."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("SUBMITIT_PREEMPT_SIGNAL", "USR1")  # on which a training saves its state and ends

import submitit

from common.errors import ArgumentError
from scripts.experiments.execute import Launcher, execute
from scripts.experiments.instances import Job
from scripts.experiments.status import State, folder_of

__all__ = ["slurm_launcher"]


class Execution(submitit.helpers.Checkpointable):
    """What a SLURM job does; SLURM requeues it when it is preempted or out of time, and the training continues."""

    def __call__(self, job: Job, output: Path, redo: bool) -> State:
        """Run a job of a study."""
        return execute(job, output, redo=redo)


def slurm_launcher(settings: Mapping[str, Any], output: Path) -> Launcher:
    """Launch each job with `sbatch` and wait for its end; `run` may be stopped meanwhile and started again.

    The SLURM job takes the lock of its job and keeps its record, so a second `run` sees it at work.

    Args:
        settings: by submitit's names, such as slurm_partition, gpus_per_node, timeout_min.
        output: folder of the study, which all nodes share.

    Raises:
        ArgumentError: there is no SLURM here, or submitit knows no such setting.
    """
    if not isinstance(settings, Mapping):
        raise ArgumentError(f"slurm={settings}: expected settings such as \"{{'slurm_partition': 'gpu'}}\"")

    def executor(job: Job | None) -> submitit.AutoExecutor:
        folder = folder_of(job, output) if job else output / "jobs"
        made = submitit.AutoExecutor(folder=folder / "slurm", cluster="slurm")
        made.update_parameters(name=job.name.replace("/", "-") if job else "study", **settings)
        return made

    try:
        executor(None)
    except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
        raise ArgumentError(f"slurm={dict(settings)}: {' '.join(str(error).split()):.200}") from error

    def launch(job: Job, folder: Path, redo: bool) -> State:
        submitted = executor(job).submit(Execution(), job, folder, redo)
        try:
            return submitted.result()
        except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError) as error:
            return State("failed", " ".join(str(error).split())[-200:])

    return launch
