"""Estimate the cost of a study: steps from the configs, time and memory from a measured step on synthetic volumes."""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from common import configs
from common.bars import tqdm
from common.data import datalists
from common.data.regions import regions_of
from common.errors import ArgumentError, InputError
from common.files import valid_json, write_json
from common.options import OPTIONS, Options
from scripts.experiments.jobs import CommandLine, StudyJob

TRIAL_STEPS = 6
# Options of a training that do not change the cost of a step
WITHOUT_EFFECT = (
    "dataset_dir",
    "datalist",
    "output_dir",
    "ckpt_dir",
    "pretrained",
    "resume",
    "seed",
    "learning_rate",
    "cohort",
)
COSTS = {  # JSON schema of the file
    "type": "object",
    "additionalProperties": {"type": "object", "required": ["seconds", "memory", "checkpoint", "state"]},
}
LENGTH = ("iterations", "val_interval", "warmup_iterations", "save_interval", "keep")
OF_BATCH = ("batch_size", "global_batch_size", "crops_per_volume", "modalities", "label_convention", "patch_size")


def settings_of(job: StudyJob) -> dict[str, Any]:
    """The options of a training that determine its amount of work, from its configs and command."""
    command = job.command
    words = tuple(word for word in command.words if _option(word) not in WITHOUT_EFFECT)
    try:
        return dict(_settings(CommandLine(words, command.folder)))
    except ArgumentError as error:
        raise InputError(f"{job.name}: {error}") from error


@cache  # a config takes 0.1 s to read, and many trainings share it
def _settings(command: CommandLine) -> dict[str, Any]:
    parser = config_of(command)
    found = {name: parser.get_parsed_content(name) for name in (*LENGTH, *OF_BATCH) if name in parser}
    return {name: OPTIONS[name](value) for name, value in found.items()}


def steps_of(job: StudyJob, gpus: int) -> tuple[int | None, str]:
    """The optimiser steps of a training; None and the reason if its datalist does not exist yet."""
    from common.training.plan import length

    settings = settings_of(job)
    per_step = settings["batch_size"] // settings.get("crops_per_volume", 1) * batches_of_a_step(settings, gpus) * gpus
    datalist = Path(_given(job.command)["datalist"])
    names = ("iterations", "val_interval", "warmup_iterations")
    if datalist.is_file():
        cases = len(datalists.read(datalist)["training"])
    elif all(isinstance(settings[name], int) for name in names):
        cases = per_step  # numbers given in iterations do not depend on the cases
    else:
        return None, "in epochs, and the datalist is not made yet"
    try:
        return length(Options(**{name: settings[name] for name in names}), cases, per_step).iterations, ""
    except ArgumentError as error:
        raise InputError(f"{job.name}: {error}") from error


def batches_of_a_step(settings: Mapping[str, Any], gpus: int) -> int:
    """Batches that each process reads for an optimiser step."""
    from common.training.step import accumulation_steps

    return accumulation_steps(settings.get("global_batch_size"), settings["batch_size"], gpus)


def key_of(job: StudyJob) -> str:
    """The settings that determine the cost of a step; trainings with the same key cost the same."""
    words = [word for word in job.command.words if _option(word) not in {*WITHOUT_EFFECT, *LENGTH}]
    return " ".join([job.command.folder.name, *words])


def costs_of(jobs: Mapping[str, StudyJob], file: Path, measures: bool) -> dict[str, dict[str, Any]]:
    """The cost of a step of each kind of training, by `key_of`.

    Reads earlier measurements from `file`; if `measures`, measures the missing ones now and adds them to `file`.
    """
    costs: dict[str, dict[str, Any]] = {}
    if file.is_file():
        costs = valid_json(file, "what --measure=true writes, or no such file", COSTS)
    trainings = {key_of(job): job for job in jobs.values() if job.is_training and not job.absent}
    missing = [key for key in trainings if key not in costs] if measures else []
    for key in tqdm(missing, desc="measuring", unit="kind", disable=not missing):
        costs[key] = measure(trainings[key])
        write_json(file, costs)
    return costs


def estimate(job: StudyJob, cost: Mapping[str, Any] | None, gpus: int) -> dict[str, Any]:
    """The steps of a training and, if the cost of a step is known, its hours, memory and disk space."""
    steps, why = steps_of(job, gpus)
    found: dict[str, Any] = {"steps": steps, "steps_unknown": why}
    if cost is not None and steps is not None:
        settings = settings_of(job)
        batches = steps * batches_of_a_step(settings, gpus)
        disk = cost["checkpoint"] + settings.get("keep", 2) * cost["state"]
        found |= {
            "hours": round(batches * cost["seconds"] * gpus / 3600, 2),
            "memory": cost["memory"],
            "disk_gib": round(disk / 2**30, 3),
        }
    return found


def measure(job: StudyJob) -> dict[str, Any]:
    """Train a few steps with the job's command on synthetic volumes the size of a crop.

    Returns the `seconds` of a step of one process, on one batch without accumulation; the peak `memory` that the run
    prints; and the bytes of a `checkpoint` model.pt and a `state` iteration-N.pt.
    """
    settings, given = settings_of(job), _given(job.command)
    if "label_convention" in settings and "label_convention" not in given:
        settings["label_convention"] = datalists.convention_of(given["datalist"], settings["label_convention"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make_cases(folder, settings)
        result = subprocess.run(_trial(job.command, folder), cwd=job.command.folder, capture_output=True, text=True)
        printed = result.stdout + result.stderr
        found = re.search(r"time: ([\d.]+) s a step, .*peak memory of one process: (.*)", printed)
        if result.returncode or not found:
            last = [line for line in printed.splitlines() if line.strip()][-1:]
            raise InputError(f"{job.name}: its step cannot be measured: {''.join(last).strip():.200}")
        return {
            "seconds": float(found[1]),
            "memory": found[2].strip(),
            "checkpoint": (folder / "models" / "model.pt").stat().st_size,
            "state": max(file.stat().st_size for file in (folder / "models").glob("iteration-*.pt")),
        }


def config_of(command: CommandLine, **replaced: Any) -> Any:
    """The `ConfigParser` of the run that a bundle's command starts, with its imports, ready to resolve content.

    `replaced` overrides options of the command.
    """
    (word,) = (word for word in command.words if word.startswith("--config_file="))
    value = configs.parsed(word.partition("=")[2])
    files = [value] if isinstance(value, str) else value
    parser = configs.read([command.folder / file for file in files], _given(command) | replaced)
    parser.get_parsed_content("imports")  # `common`, which defaults refer to
    return parser


def _option(word: str) -> str:
    """The name of the option that a word of a command sets."""
    return word.partition("=")[0].removeprefix("--")


def _given(command: CommandLine) -> dict[str, Any]:
    """The options on a command, parsed as MONAI parses them."""
    options = {}
    for word in command.words:
        name, equals, value = word.partition("=")
        if equals and name.startswith("--") and name not in ("--config_file", "--nproc_per_node"):
            options[name.removeprefix("--")] = configs.parsed(value)
    return options


def _trial(command: CommandLine, folder: Path) -> list[str]:
    replaced = {
        "dataset_dir": folder,
        "datalist": folder / "datalist.json",
        "output_dir": folder / "eval",
        "ckpt_dir": folder / "models",
        "iterations": TRIAL_STEPS,
        "val_interval": TRIAL_STEPS,
        "warmup_iterations": 1,
        "global_batch_size": "null",
        "resume": "false",
    }
    dropped = {*replaced, "pretrained", "modality_aliases"}
    words = [word for word in command.arguments if _option(word) not in dropped]
    return [*words, *(f"--{name}={value}" for name, value in replaced.items())]


def _make_cases(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write volumes of noise the size of a crop, with labels, and their datalist."""
    import nibabel

    draw = np.random.default_rng(0)
    modalities, convention = list(dict.fromkeys(settings["modalities"])), settings.get("label_convention")
    shape = settings["patch_size"]

    def write(name: str, content: np.ndarray) -> str:
        nibabel.save(nibabel.Nifti1Image(content, np.eye(4)), folder / name)
        return name

    def case(number: int) -> dict[str, Any]:
        files = [f"case{number}-{modality}.nii.gz" for modality in modalities]
        entry: dict[str, Any] = {"subject": f"case{number}"}
        entry["image"] = [write(file, draw.uniform(1, 2, shape).astype(np.float32)) for file in files]
        if convention:
            label = np.zeros(shape, dtype=np.uint8)
            values = sorted({value for labels in regions_of(convention).values() for value in labels})
            for value in values:
                label[tuple(slice(edge // 4, edge // 2) for edge in shape)] = value
            entry["label"] = write(f"case{number}-label.nii.gz", label)
        return entry

    batch = settings["batch_size"]
    content = {
        "name": "noise",
        "modalities": modalities,
        "label_convention": convention,
        "training": [case(number) for number in range(batch)],
        "validation": [case(batch + number) for number in range(2)],
        "testing": [],
    }
    datalists.write(content, folder / "datalist.json")
