"""The jobs that score what a study's trainings have made: one for each of them, and one that pools those of an axis."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from common.errors import InputError
from scripts.experiments.instances import (
    OWN,
    ROOT,
    Command,
    Instance,
    Job,
    Places,
    cohort_record,
    data_of,
    name_of,
    values_of,
    words_of,
)

__all__ = ["evaluation_of", "pools_of"]

OF_MACHINE = ("num_workers", "cohort")
PROTOCOLS = {"atlas": "atlas", OWN: "dice"}  # by layout; that of the others is brats
FILES = ("metrics.csv", "lesions.csv", "cases.json", "summary.json")


def evaluation_of(of: Instance, job: Job) -> Job:
    """The job that scores what a run has made."""
    folder, datalist = job.results / "eval" / "evaluation", of.sources["datalist"]
    inputs: tuple[Path, ...] = (job.target, datalist.target, *cohort_record(datalist.layout, of.places))
    split = [f"--split={of.entry['evaluate']}"] if isinstance(of.entry["evaluate"], str) else []
    if "bundle" in of.entry:
        bundle = ROOT / "bundles" / of.entry["bundle"]
        config = bundle / "configs" / "evaluate.yaml"
        options = _machine_options(of.entry, config) | of.entry.get("evaluation", {})
        words = [
            *("python", "-m", "monai.bundle", "run", "--config_file=configs/evaluate.yaml"),
            *data_of(datalist),
            *split,
            f"--checkpoint={job.target}",
            f"--output_dir={folder}",
            *words_of(options, {**of.values, **of.files}, f"runs.{of.name}.evaluation"),
        ]
        command, inputs = Command(tuple(words), bundle), (*inputs, config)
    else:
        data = (f"--references={datalist.target}", f"--dataset_dir={datalist.root}")
        protocol = f"--protocol={PROTOCOLS.get(datalist.layout, 'brats')}"
        words = ["python", "-m", "scripts.evaluate", f"--predictions={job.target}", *data, protocol]
        command = Command((*words, *split, f"--output={folder}"))
    target, needs = folder / "summary.json", (job.name, datalist.name)
    name = f"{job.name}/evaluation"
    return Job(name, job.entry, job.values, (command,), inputs, folder, target, needs, job.absent, is_evaluation=True)


def pools_of(name: str, axis: str, evaluations: Sequence[Job], places: Places) -> list[Job]:
    """The jobs that pool the evaluations of an entry over an axis, one for each combination of the other values.

    Raises:
        InputError: the entry does not have the axis, is not evaluated, or has a single value of the axis.
    """
    groups: dict[str, list[Job]] = {}
    for job in evaluations:
        if axis in job.values:
            rest = {other: value for other, value in job.values.items() if other != axis}
            groups.setdefault(name_of(name, rest), []).append(job)
    if not groups or any(len(members) < 2 for members in groups.values()):
        raise InputError(f"runs.{name}.pool={axis}: expected an axis of the run with several values, and evaluate")
    return [_pool(label, axis, members, places) for label, members in groups.items()]


def _pool(label: str, axis: str, evaluations: Sequence[Job], places: Places) -> Job:
    folder = places.output / "runs" / label / "pooled"
    names = [values_of({axis: job.values[axis]}) for job in evaluations]
    words = ["python", "-m", "scripts.evaluate", "pool", *(str(job.results) for job in evaluations)]
    command = Command((*words, f"--names={','.join(names)}", f"--output={folder}"))
    inputs = tuple(job.results / file for job in evaluations for file in FILES)
    first = evaluations[0]
    return Job(
        f"{label}/pooled",
        first.entry,
        {other: value for other, value in first.values.items() if other != axis},
        (command,),
        inputs,
        folder,
        folder / "summary.json",
        tuple(job.name for job in evaluations),
        first.absent,
        is_evaluation=True,
    )


def _machine_options(entry: Mapping[str, Any], config: Path) -> dict[str, Any]:
    """The options of a training that its evaluation needs, too; those of the network are in the checkpoint."""
    given: dict[str, Any] = {}
    for overlay in (config.with_name(name) for name in entry["overlays"]):
        given |= yaml.safe_load(overlay.read_text(encoding="utf-8")) if overlay.is_file() else {}
    given |= entry["options"]
    return {name: given[name] for name in OF_MACHINE if name in given}
