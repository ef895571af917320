"""The jobs of a study: what one has to run, in which order, for every combination of values."""

import shlex
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from common.errors import InputError
from scripts.experiments.evaluations import evaluation_of, pools_of
from scripts.experiments.instances import (
    OWN,
    ROOT,
    Command,
    Instance,
    Job,
    Places,
    cohort_record,
    data_of,
    fill,
    label_of,
    words_of,
)

__all__ = ["jobs_of"]


def jobs_of(study: Mapping[str, Any], places: Places) -> dict[str, Job]:
    """The jobs of a study by name, each after those that it needs.

    Raises:
        InputError: text in an entry names an axis that the entry does not have, or two jobs have the same name.
    """
    jobs: dict[str, Job] = {}
    for cohort, options in study.get("cohorts", {}).items():
        if cohort not in places.roots:
            job = _cohort(cohort, options, places)
            jobs[job.name] = job
    instances: dict[str, list[Job]] = {}
    for name, entry in study["datalists"].items():
        found = [Instance(name, entry, *each, places) for each in _joined(entry, instances)]
        instances[name] = [_datalist(each, jobs) for each in found]
        for job in instances[name]:
            _add(job, jobs)
    for name, entry in study["runs"].items():
        full = _with_settings(entry, study.get("settings", {}))
        instances[name] = []
        evaluations: list[Job] = []
        for each in _joined(entry, instances):
            instance = Instance(name, full, *each, places)
            job = _run(instance)
            instances[name].append(job)
            _add(job, jobs)
            if entry.get("evaluate"):
                evaluations.append(evaluation_of(instance, job))
                _add(evaluations[-1], jobs)
        if "pool" in entry:
            for job in pools_of(name, entry["pool"], evaluations, places):
                _add(job, jobs)
    return jobs


def _add(job: Job, jobs: dict[str, Job]) -> None:
    if job.name in jobs:
        raise InputError(f"{job.name}: two jobs have this name; expected values that differ when joined by -")
    jobs[job.name] = job


def _joined(
    entry: Mapping[str, Any], instances: Mapping[str, list[Job]]
) -> Iterator[tuple[dict[str, Any], dict[str, Job]]]:
    """Values of the axes, and the jobs to start from: all combinations whose shared axes agree.

    Values that the entry gives for an axis of its sources choose among theirs.
    """
    sources = {key: entry[key] for key in ("from", "datalist", "pretrained") if entry.get(key) in instances}
    own = entry.get("for", {})
    for chosen in product(*(instances[name] for name in sources.values())):
        values: dict[str, Any] = {}
        for job in chosen:
            values |= job.values
        agree = all(values[axis] == value for job in chosen for axis, value in job.values.items())
        if agree and all(values[axis] in own[axis] for axis in own if axis in values):
            new = {axis: each for axis, each in own.items() if axis not in values}
            for combination in product(*new.values()):
                yield values | dict(zip(new, combination, strict=True)), dict(zip(sources, chosen, strict=True))


def _with_settings(entry: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with the overlays and options of the whole study, which its own ones replace."""
    overlays = [*settings.get("overlays", []), *entry.get("overlays", [])]
    return {**entry, "overlays": overlays, "options": settings.get("options", {}) | entry.get("options", {})}


def _cohort(layout: str, options: Mapping[str, Any], places: Places) -> Job:
    folder = places.output / "cohorts" / layout
    words = ("python", "-m", "scripts.phantoms", "make", f"--layout={layout}", f"--output={folder}")
    command = Command((*words, *words_of(options, {}, f"cohorts.{layout}")))
    return Job(f"cohorts/{layout}", layout, {}, (command,), (), folder, folder, layout=layout)


def _datalist(of: Instance, jobs: Mapping[str, Job]) -> Job:
    target = of.places.output / "datalists" / f"{label_of(of.name, of.values)}.json"
    words: tuple[str, ...]
    inputs: tuple[Path, ...] = ()
    needs: tuple[str, ...] = ()
    absent = of.absent
    kind = "fold" if "folds" in of.entry.get("options", {}) else "subset"
    own = of.places.roots.get(OWN, Path("<dataset_dir>"))
    if "from" in of.sources:
        source = of.sources["from"]
        words = (kind, f"--datalist={source.target}")
        inputs, needs, layout, root = (source.target,), (source.name,), source.layout, source.root
    elif "from" in of.entry or "data" in of.entry:
        layout, root = OWN, own / of.entry.get("data", "")
        words = (
            ("generic", f"--root={root}") if "data" in of.entry else (kind, f"--datalist={of.files[of.entry['from']]}")
        )
        if OWN not in of.places.roots:
            absent = absent or "expected --dataset_dir, the folder of the datalist's paths"
        elif not root.is_dir():
            absent = absent or f"expected a folder {root}"
    else:
        layout = of.entry["layout"]
        cohort = jobs.get(f"cohorts/{layout}")
        known = cohort.results if cohort else of.places.roots.get(layout)
        root = known or of.places.output / "cohorts" / layout
        words, needs = (layout, f"--root={known}"), (cohort.name,) if cohort else ()
        inputs = cohort_record(layout, of.places)
        absent = absent if known else f"expected --{layout}, the folder of the cohort"
    command = Command(("python", "-m", "scripts.datalists", *words, *of.options("datalists"), f"--output={target}"))
    inputs = (*inputs, *of.given)
    return Job(of.job, of.name, of.values, (command,), inputs, target, target, needs, absent, layout, root)


def _run(of: Instance) -> Job:
    folder = of.places.output / "runs" / of.job
    needs = tuple(source.name for source in of.sources.values())
    inputs = tuple(source.target for source in of.sources.values())
    if "datalist" in of.sources:
        inputs += cohort_record(of.sources["datalist"].layout, of.places)
    inputs += of.given
    absent = of.absent
    if "bundle" in of.entry:
        command, configs = _training(of, folder)
        missing = [file.name for file in configs if not file.is_file()]
        absent = absent or next((f"{of.entry['bundle']} has no configs/{name}" for name in missing), "")
        inputs += configs + (() if "pretrained" in of.sources else _given_weights(command))
        target = folder / "models" / "model.pt"
    else:
        command = _own_command(of, folder)
        target = folder / of.entry.get("target", "predictions")
    return Job(of.job, of.name, of.values, (command,), inputs, folder, target, needs, absent)


def _training(of: Instance, folder: Path) -> tuple[Command, tuple[Path, ...]]:
    """The command of a training, and the files of the bundle that it reads."""
    bundle, gpus = ROOT / "bundles" / of.entry["bundle"], of.places.gpus
    overlays = [*of.entry["overlays"], *(["multi_gpu_train.yaml"] if gpus > 1 else [])]
    files = [f"configs/{file}" for file in ("train.yaml", *overlays)]
    start: tuple[str, ...] = ("python", "-m")
    if gpus > 1:
        start = (*start, "torch.distributed.run", f"--nproc_per_node={gpus}", "-m")
    words = [
        *(*start, "monai.bundle", "run"),
        f"--config_file={files[0]}" if len(files) == 1 else f"--config_file={files}".replace(" ", ""),
        *data_of(of.sources["datalist"]),
        f"--output_dir={folder / 'eval'}",
        f"--ckpt_dir={folder / 'models'}",
        *([f"--pretrained={_weights(of.sources['pretrained'])}"] if "pretrained" in of.sources else []),
        "--resume=auto",
        *of.options("runs"),
    ]
    return Command(tuple(words), bundle), tuple(bundle / file for file in files)


def _given_weights(command: Command) -> tuple[Path, ...]:
    """The file of an option `pretrained`, on which a training depends as on the weights of another run."""
    paths = [command.folder / word.partition("=")[2] for word in command.words if word.startswith("--pretrained=")]
    return tuple(path for path in paths if path.is_file())


def _own_command(of: Instance, folder: Path) -> Command:
    known: dict[str, Any] = {**of.values, "output": folder, **of.files}
    if "datalist" in of.sources:
        datalist = of.sources["datalist"]
        known |= {"datalist": datalist.target, "dataset_dir": datalist.root}
    if "pretrained" in of.sources:
        known["pretrained"] = _weights(of.sources["pretrained"])
    words = shlex.split(of.entry["command"])
    return Command(tuple(fill(word, known, f"runs.{of.name}.command") for word in words))


def _weights(job: Job) -> Path:
    return job.results / "models" / "model.pt"
