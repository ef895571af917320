"""Run some of the jobs of a study, here or by SLURM, and say what happens."""

import os
from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatch
from functools import partial
from typing import Any

from common.bars import tqdm
from common.cli import command_line
from common.errors import ArgumentError, show
from scripts.experiments.execute import Launcher, execute, run_all
from scripts.experiments.instances import ROOT, Command, Job, Places
from scripts.experiments.slurm import slurm_launcher
from scripts.experiments.status import State, log_of

__all__ = ["counted", "is_incomplete", "launcher", "run_jobs", "select", "shell_line"]

TO_DO = ("missing", "interrupted", "failed")


def select(jobs: Mapping[str, Job], states: Mapping[str, State], only: str, redo: bool) -> dict[str, State]:
    """The jobs to run, with their states: those of a pattern that are to do, and what they need.

    Args:
        jobs: of a study.
        states: of the jobs.
        only: pattern of their names.
        redo: whether those that are stale are to do.

    Raises:
        ArgumentError: no job has such a name.
    """
    to_do = (*TO_DO, "stale") if redo else TO_DO
    asked = [name for name in jobs if fnmatch(name, only)]
    if not asked:
        raise ArgumentError(f"only={only}: no such job; the first is {next(iter(jobs))}")
    wanted: dict[str, State] = {}
    while asked:
        name = asked.pop()
        if name not in wanted and states[name].name in to_do:
            wanted[name] = states[name]
            asked += jobs[name].needs
    return {name: wanted[name] for name in jobs if name in wanted}


def launcher(places: Places, at_once: int, slurm: Mapping[str, Any] | None) -> Launcher:
    """What runs a job: this machine, or SLURM.

    Args:
        places: of the study.
        at_once: how many jobs run at a time; on this machine they share its cores.
        slurm: settings of SLURM jobs; None for this machine.

    Raises:
        ArgumentError: there is no SLURM, or it has no such setting.
    """
    if slurm is not None:
        return slurm_launcher(slurm, places.output)
    return partial(execute, threads=max(1, (os.cpu_count() or 1) // (at_once * places.gpus)))


def run_jobs(
    jobs: Mapping[str, Job], selected: Mapping[str, State], places: Places, launch: Launcher, at_once: int
) -> dict[str, State]:
    """Run the selected jobs and print when each starts and how it ends; returns their states.

    Args:
        jobs: of a study.
        selected: jobs to run, with their states.
        places: of the study.
        launch: runs a job.
        at_once: how many.
    """
    with tqdm(total=len(selected), unit="job", disable=None) as bar:  # a log file needs no bar

        def tell(name: str, state: State | None) -> None:
            if state is None:
                show(f"starts       {name}; {log_of(jobs[name], places.output)}")
            else:
                show(f"{state.name:<12} {name}" + (f": {state.reason}" if state.reason else ""))
                bar.update()

        return run_all(jobs, selected, places.output, launch, at_once, tell)


def is_incomplete(results: Mapping[str, State]) -> bool:
    """Whether a job that ran is neither done nor in the hands of another process."""
    return any(state.name not in ("done", "running") for state in results.values())


def counted(states: Mapping[str, State]) -> str:
    """How many jobs are in each state, in words."""
    counts = Counter(state.name for state in states.values())
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def shell_line(command: Command) -> str:
    """A command, to copy into a shell that is in the repository."""
    place = "" if command.folder == ROOT else f"cd {os.path.relpath(command.folder, ROOT)} && "
    return f"{place}{command_line(command.words)}"
