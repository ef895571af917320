"""Jobs of a study as jobs of SLURM, by submitit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import submitit

from scripts.arrays import failure_of, slurm_executor
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
    slurm_executor(settings, output / "jobs", "study")  # refuses bad settings before the first job

    def launch(job: Job, folder: Path, redo: bool) -> State:
        executor = slurm_executor(settings, folder_of(job, output) / "slurm", job.name.replace("/", "-"))
        try:
            return executor.submit(Execution(), job, folder, redo).result()
        except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError) as error:
            return State("failed", failure_of(error))

    return launch
