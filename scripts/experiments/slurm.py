"""Jobs of a study as jobs of SLURM, by submitit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import ArgumentError
from scripts.experiments.execute import Launcher, execute
from scripts.experiments.status import State, folder_of
from scripts.experiments.study import Job

__all__ = ["slurm_launcher"]

POLL = 5  # seconds between two looks at a job


def slurm_launcher(settings: Mapping[str, Any], output: Path) -> Launcher:
    """Launch each job with `sbatch` and wait for its end; `run` may be stopped meanwhile and started again.

    The job itself takes the lock on its folder and keeps its record, so that a second `run` sees it at work.

    Args:
        settings: by submitit's names, such as slurm_partition, gpus_per_node, timeout_min.
        output: folder of the study, which all nodes share.

    Raises:
        ArgumentError: there is no SLURM here, or it has no such setting.
    """
    import submitit  # here because only this needs it

    if not isinstance(settings, Mapping):
        raise ArgumentError(f"slurm={settings}: expected settings such as \"{{'slurm_partition': 'gpu'}}\"")

    def executor(job: Job) -> submitit.AutoExecutor:
        made = submitit.AutoExecutor(folder=folder_of(job, output) / "slurm", cluster="slurm")
        made.update_parameters(name=job.name.replace("/", "-"), **settings)
        return made

    try:
        submitit.AutoExecutor(folder=output / "jobs", cluster="slurm").update_parameters(**settings)
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise ArgumentError(f"slurm={dict(settings)}: {' '.join(str(error).split()):.200}") from error

    def launch(job: Job, folder: Path) -> State:
        submitted = executor(job).submit(execute, job, folder)
        try:
            submitted.wait()
            return submitted.result()
        except submitit.core.utils.UncompletedJobError as error:  # killed, or out of time
            return State("failed", " ".join(str(error).split())[:200])
        except submitit.core.utils.FailedJobError as error:
            return State("failed", " ".join(str(error).split())[-200:])

    return launch
