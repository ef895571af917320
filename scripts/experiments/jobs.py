"""The jobs of a study: what one has to run, in which order, for every combination of values."""

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from common.errors import InputError

__all__ = ["ROOT", "Command", "Job", "Places", "jobs_of"]

ROOT = Path(__file__).resolve().parents[2]

# Options of a training that its evaluation needs, too
OF_NETWORK = ("architecture", "model_size", "patch_size", "modalities", "label_convention", "normalization")
OF_MACHINE = ("num_workers", "cohort")


@dataclass(frozen=True)
class Command:
    """A command of a job: its words, with `python` for this Python, and the folder that it runs in."""

    words: tuple[str, ...]
    folder: Path = ROOT

    @property
    def arguments(self) -> list[str]:
        """The words to start a process with."""
        return [sys.executable if word == "python" and not place else word for place, word in enumerate(self.words)]


@dataclass(frozen=True)
class Job:
    """A unit of work, which makes one target.

    Attributes:
        name: entry and values, such as `two_stage/tiny-fold0`, with `/evaluation` for that of a run.
        entry: of the study.
        values: of the axes, by name.
        commands: run one after another.
        inputs: files that the result depends on, besides the commands.
        results: folder or file that the commands write; moved aside when it is stale.
        target: file that is there when all is done.
        needs: names of the jobs that make some of the inputs.
        absent: why the job cannot run, such as a file that was not given.
        layout: of the cohort, for datalists.
        is_evaluation: whether it scores what the run of its entry has made.
    """

    name: str
    entry: str
    values: Mapping[str, Any]
    commands: tuple[Command, ...]
    inputs: tuple[Path, ...]
    results: Path
    target: Path
    needs: tuple[str, ...] = ()
    absent: str = ""
    layout: str = ""
    is_evaluation: bool = False


@dataclass(frozen=True)
class Places:
    """Where a study's data comes from and its results go.

    Attributes:
        output: folder of all results.
        roots: folders of the cohorts, by layout; a cohort without one is made, if the study says how.
        files: further files or folders by the names that the study gives them, such as public weights.
        gpus: processes of each training, by torchrun; 1 for a plain command.
    """

    output: Path
    roots: Mapping[str, Path] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    gpus: int = 1


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
        found = [_Instance(name, entry, *each, places) for each in _joined(entry, instances)]
        instances[name] = [_datalist(each, jobs) for each in found]
        for job in instances[name]:
            _add(job, jobs)
    for name, entry in study["runs"].items():
        full = _with_settings(entry, study.get("settings", {}))
        instances[name] = []
        for each in _joined(entry, instances):
            instance = _Instance(name, full, *each, places)
            job = _run(instance)
            instances[name].append(job)
            _add(job, jobs)
            if entry.get("evaluate"):
                _add(_evaluation(instance, job), jobs)
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
    sources = {key: entry[key] for key in ("from", "datalist", "pretrained") if key in entry}
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
    command = Command((*words, *_options(options, {}, f"cohorts.{layout}")))
    return Job(f"cohorts/{layout}", layout, {}, (command,), (), folder, folder, layout=layout)


@dataclass(frozen=True)
class _Instance:
    """An entry of a study with the values of one job.

    Attributes:
        name: of the entry.
        entry: its content.
        values: of the axes, by name.
        sources: jobs that it starts from, by the key that names them.
        places: of the study.
    """

    name: str
    entry: Mapping[str, Any]
    values: Mapping[str, Any]
    sources: Mapping[str, Job]
    places: Places

    @property
    def job(self) -> str:
        """The name of its job."""
        return _path(self.name, self.values)

    @property
    def files(self) -> dict[str, Path | str]:
        """Further files by name; text where they were not given."""
        return {name: self.places.files.get(name, f"<{name}>") for name in self.entry.get("files", [])}

    @property
    def given(self) -> tuple[Path, ...]:
        """Those that were given."""
        return tuple(file for file in self.files.values() if isinstance(file, Path))

    @property
    def absent(self) -> str:
        """Why the job cannot run; empty if it can."""
        reasons = [source.absent for source in self.sources.values() if source.absent]
        reasons += [f"expected --files with {name}" for name, file in self.files.items() if isinstance(file, str)]
        return next(iter(reasons), "")

    def options(self, part: str) -> list[str]:
        """The options of the entry as words; `part` is datalists or runs."""
        known = {**self.values, **self.files}
        return _options(self.entry.get("options", {}), known, f"{part}.{self.name}.options")


def _datalist(of: _Instance, jobs: Mapping[str, Job]) -> Job:
    target = of.places.output / "datalists" / f"{_label(of.name, of.values)}.json"
    words: tuple[str, ...]
    inputs: tuple[Path, ...] = ()
    needs: tuple[str, ...] = ()
    absent = of.absent
    if "from" in of.entry:
        source = of.sources["from"]
        words = ("subset", f"--datalist={source.target}")
        inputs, needs, layout = (source.target,), (source.name,), source.layout
    else:
        layout = of.entry["layout"]
        made = jobs.get(f"cohorts/{layout}")
        root = made.results if made else of.places.roots.get(layout)
        words, needs = (layout, f"--root={root}"), (made.name,) if made else ()
        inputs = _made(layout, of.places)
        absent = absent if root else f"expected --{layout}, the folder of the cohort"
    command = Command(("python", "-m", "scripts.datalists", *words, *of.options("datalists"), f"--output={target}"))
    inputs = (*inputs, *of.given)
    return Job(of.job, of.name, of.values, (command,), inputs, target, target, needs, absent, layout)


def _run(of: _Instance) -> Job:
    folder = of.places.output / "runs" / of.job
    needs = tuple(source.name for source in of.sources.values())
    inputs = tuple(source.target for source in of.sources.values())
    if "datalist" in of.sources:
        inputs += _made(of.sources["datalist"].layout, of.places)
    inputs += of.given
    absent = of.absent
    if "bundle" in of.entry:
        command, configs = _training(of, folder)
        missing = [file.name for file in configs if not file.is_file()]
        absent = absent or next((f"{of.entry['bundle']} has no configs/{name}" for name in missing), "")
        inputs += configs
        target = folder / "models" / "model.pt"
    else:
        command = _own_command(of, folder)
        target = folder / of.entry.get("target", "predictions")
    return Job(of.job, of.name, of.values, (command,), inputs, folder, target, needs, absent)


def _training(of: _Instance, folder: Path) -> tuple[Command, tuple[Path, ...]]:
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
        *_data(of.sources["datalist"], of.places),
        f"--output_dir={folder / 'eval'}",
        f"--ckpt_dir={folder / 'models'}",
        *([f"--pretrained={_weights(of.sources['pretrained'])}"] if "pretrained" in of.sources else []),
        "--resume=auto",
        *of.options("runs"),
    ]
    return Command(tuple(words), bundle), tuple(bundle / file for file in files)


def _own_command(of: _Instance, folder: Path) -> Command:
    known: dict[str, Any] = {**of.values, "output": folder, **of.files}
    if "datalist" in of.sources:
        datalist = of.sources["datalist"]
        known |= {"datalist": datalist.target, "dataset_dir": _root(datalist, of.places)}
    if "pretrained" in of.sources:
        known["pretrained"] = _weights(of.sources["pretrained"])
    words = shlex.split(of.entry["command"])
    return Command(tuple(_filled(word, known, f"runs.{of.name}.command") for word in words))


def _evaluation(of: _Instance, job: Job) -> Job:
    """The job that scores what a run has made."""
    folder, datalist = job.results / "eval" / "evaluation", of.sources["datalist"]
    inputs: tuple[Path, ...] = (job.target, datalist.target, *_made(datalist.layout, of.places))
    split = [f"--split={of.entry['evaluate']}"] if isinstance(of.entry["evaluate"], str) else []
    if "bundle" in of.entry:
        bundle = ROOT / "bundles" / of.entry["bundle"]
        config = bundle / "configs" / "evaluate.yaml"
        words = [
            *("python", "-m", "monai.bundle", "run", "--config_file=configs/evaluate.yaml"),
            *_data(datalist, of.places),
            *split,
            f"--checkpoint={job.target}",
            f"--output_dir={folder}",
            *_options(_for_evaluation(of.entry, bundle, config), of.values, f"runs.{of.name}.options"),
        ]
        command, inputs = Command(tuple(words), bundle), (*inputs, config)
    else:
        data = (f"--references={datalist.target}", f"--dataset_dir={_root(datalist, of.places)}")
        protocol = f"--protocol={'atlas' if datalist.layout == 'atlas' else 'brats'}"
        words = ["python", "-m", "scripts.evaluate", f"--predictions={job.target}", *data, protocol]
        command = Command((*words, *split, f"--output={folder}"))
    target, needs = folder / "summary.json", (job.name, datalist.name)
    name = f"{job.name}/evaluation"
    return Job(name, job.entry, job.values, (command,), inputs, folder, target, needs, job.absent, is_evaluation=True)


def _for_evaluation(entry: Mapping[str, Any], bundle: Path, config: Path) -> dict[str, Any]:
    """The options of a training that its evaluation needs, too."""
    known = yaml.safe_load(config.read_text(encoding="utf-8"))
    given: dict[str, Any] = {}
    for overlay in (bundle / "configs" / name for name in entry["overlays"]):
        given |= yaml.safe_load(overlay.read_text(encoding="utf-8")) if overlay.is_file() else {}
    given |= entry["options"]
    if "recipe" in given:
        given |= _of_recipe(bundle, given)
    return {key: given[key] for key in (*OF_NETWORK, *OF_MACHINE) if key in given and key in known}


def _of_recipe(bundle: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the network that a recipe sets."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "train.yaml"))
    for name, value in given.items():
        parser[name] = value
    chosen = parser.get_parsed_content("chosen_recipe")
    return {name: chosen[name] for name in OF_NETWORK if name in chosen and name not in given}


def _made(layout: str, places: Places) -> tuple[Path, ...]:
    """The record of the job that made a cohort, which changes when the cohort is made anew."""
    if layout in places.roots:
        return ()
    return (places.output / "jobs" / "cohorts" / layout / "record.json",)


def _data(datalist: Job, places: Places) -> tuple[str, str]:
    return f"--dataset_dir={_root(datalist, places)}", f"--datalist={datalist.target}"


def _root(datalist: Job, places: Places) -> Path:
    return places.roots.get(datalist.layout, places.output / "cohorts" / datalist.layout)


def _weights(job: Job) -> Path:
    return job.results / "models" / "model.pt"


def _options(options: Mapping[str, Any], values: Mapping[str, Any], where: str) -> list[str]:
    """Options as words of a command line; lists and the like in the spelling that MONAI and Fire read."""
    words = []
    for option, value in options.items():
        filled = _filled(value, values, where) if isinstance(value, str) else value
        text = filled if isinstance(filled, str) else json.dumps(filled).replace('"', "'").replace(" ", "")
        words.append(f"--{option}={text}")
    return words


def _filled(text: str, values: Mapping[str, Any], where: str) -> str:
    """Text with the values of a job for names in braces."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise InputError(f"{where}: {text}: no {match[1]}; expected one of {', '.join(values) or 'none'}")
        return str(values[match[1]])

    return re.sub(r"\{(\w+)\}", value, text)


def _label(name: str, values: Mapping[str, Any]) -> str:
    return "-".join([name, _values(values)] if values else [name])


def _path(name: str, values: Mapping[str, Any]) -> str:
    return f"{name}/{_values(values)}" if values else name


def _values(values: Mapping[str, Any]) -> str:
    """Values in a file name: words as they are, numbers after the name of their axis, such as `tiny-fold0`."""
    return "-".join(value if isinstance(value, str) else f"{axis}{value}" for axis, value in values.items())
