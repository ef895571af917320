"""A study: what is trained on what, read from YAML and expanded into jobs.

A study has entries: `datalists`, and `runs` that start from them and from each other. `for` gives an entry axes, such
as `fold: [0, 1]`; an entry also has the axes of what it starts from, and there is one job for each combination of
values. Text such as `"{fold}"` in an entry stands for the job's value.
"""

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from monai.bundle import ConfigParser

from common.errors import InputError
from scripts.experiments.mapping import check_mapping
from scripts.experiments.schema import SCHEMA

__all__ = ["ROOT", "STUDIES", "Command", "Job", "Places", "jobs_of", "read"]

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ROOT / "studies"

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


def read(study: str) -> tuple[str, dict[str, Any]]:
    """The name and the content of a study: a name of those in `studies`, or a YAML file.

    Raises:
        InputError: there is no such study, or its content is invalid.
    """
    known = sorted(path.stem for path in STUDIES.glob("*.yaml"))
    path = STUDIES / f"{study}.yaml" if study in known else Path(study)
    if not path.is_file():
        raise InputError(f"study {study}: no such file; expected one of {', '.join(known)}, or a YAML file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        jsonschema.validate(content, SCHEMA)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"study {path}: no YAML ({' '.join(str(error).split()):.120})") from error
    except jsonschema.ValidationError as error:
        where = ".".join(map(str, error.absolute_path)) or "the file"
        raise InputError(f"study {path}: {where}: {' '.join(error.message.split()):.160}") from error
    _check_references(content, path)
    check_mapping(content, path)
    return path.stem, content


def _check_references(content: Mapping[str, Any], path: Path) -> None:
    """Refuse entries that name unknown ones, or ones that come later."""
    datalists: list[str] = []
    for name, entry in content["datalists"].items():
        _check_reference(path, f"datalists.{name}.from", entry.get("from"), datalists)
        datalists.append(name)
    runs: list[str] = []
    bundles = sorted(folder.parents[1].name for folder in (ROOT / "bundles").glob("*/configs/train.yaml"))
    for name, entry in content["runs"].items():
        if name in datalists:
            raise InputError(f"study {path}: runs.{name}: a datalist has this name, too; expected another one")
        _check_reference(path, f"runs.{name}.bundle", entry.get("bundle"), bundles)
        _check_reference(path, f"runs.{name}.datalist", entry.get("datalist"), datalists)
        _check_reference(path, f"runs.{name}.pretrained", entry.get("pretrained"), runs)
        runs.append(name)


def _check_reference(path: Path, key: str, name: str | None, known: Sequence[str]) -> None:
    if name is not None and name not in known:
        raise InputError(f"study {path}: {key}={name}: expected {', '.join(known) or 'none'}, or an entry above")


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
        instances[name] = [_datalist(name, entry, *found, places, jobs) for found in _joined(entry, instances)]
        for job in instances[name]:
            _add(job, jobs)
    for name, entry in study["runs"].items():
        instances[name] = []
        for values, sources in _joined(entry, instances):
            job = _run(name, _with_settings(entry, study.get("settings", {})), values, sources, places)
            instances[name].append(job)
            _add(job, jobs)
            if entry.get("evaluate"):
                evaluation = _evaluation(job, entry, study.get("settings", {}), sources["datalist"], places)
                _add(evaluation, jobs)
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


def _datalist(
    name: str,
    entry: Mapping[str, Any],
    values: Mapping[str, Any],
    sources: Mapping[str, Job],
    places: Places,
    jobs: Mapping[str, Job],
) -> Job:
    target = places.output / "datalists" / f"{_label(name, values)}.json"
    files = {file: places.files.get(file, f"<{file}>") for file in entry.get("files", [])}
    missing = [f"expected --files with {file}" for file in files if file not in places.files]
    options = _options(entry.get("options", {}), {**values, **files}, f"datalists.{name}.options")
    words: tuple[str, ...]
    inputs: tuple[Path, ...] = ()
    needs: tuple[str, ...] = ()
    if "from" in entry:
        source = sources["from"]
        words = ("subset", f"--datalist={source.target}")
        inputs, needs, absent, layout = (source.target,), (source.name,), source.absent, source.layout
    else:
        layout = entry["layout"]
        made = jobs.get(f"cohorts/{layout}")
        root = made.results if made else places.roots.get(layout)
        words, needs = (layout, f"--root={root}"), (made.name,) if made else ()
        inputs = _made(layout, places) if made else ()
        absent = "" if root else f"expected --{layout}, the folder of the cohort"
    command = Command(("python", "-m", "scripts.datalists", *words, *options, f"--output={target}"))
    inputs = (*inputs, *(places.files[file] for file in files if file in places.files))
    absent = absent or "".join(missing[:1])
    return Job(_path(name, values), name, values, (command,), inputs, target, target, needs, absent, layout)


def _run(
    name: str, entry: Mapping[str, Any], values: Mapping[str, Any], sources: Mapping[str, Job], places: Places
) -> Job:
    folder = places.output / "runs" / _path(name, values)
    absent = next((source.absent for source in sources.values() if source.absent), "")
    missing = [f"expected --files with {file}" for file in entry.get("files", []) if file not in places.files]
    needs = tuple(source.name for source in sources.values())
    inputs = tuple(source.target for source in sources.values())
    if "datalist" in sources:
        inputs += _made(sources["datalist"].layout, places)
    files = tuple(places.files[file] for file in entry.get("files", []) if file in places.files)
    if "bundle" in entry:
        command, configs = _training(name, entry, values, sources, folder, places)
        missing += [f"{entry['bundle']} has no configs/{file.name}" for file in configs if not file.is_file()]
        files += configs
        target = folder / "models" / "model.pt"
    else:
        command = _own_command(name, entry, values, sources, folder, places)
        target = folder / entry.get("target", "predictions")
    return Job(
        _path(name, values),
        name,
        values,
        (command,),
        (*inputs, *files),
        folder,
        target,
        needs,
        absent or "".join(missing[:1]),
    )


def _training(
    name: str,
    entry: Mapping[str, Any],
    values: Mapping[str, Any],
    sources: Mapping[str, Job],
    folder: Path,
    places: Places,
) -> tuple[Command, tuple[Path, ...]]:
    """The command of a training, and the files of the bundle that it reads."""
    bundle = ROOT / "bundles" / entry["bundle"]
    overlays = [*entry["overlays"], *(["multi_gpu_train.yaml"] if places.gpus > 1 else [])]
    files = [f"configs/{file}" for file in ("train.yaml", *overlays)]
    start: tuple[str, ...] = ("python", "-m")
    if places.gpus > 1:
        start = (*start, "torch.distributed.run", f"--nproc_per_node={places.gpus}", "-m")
    words = [
        *(*start, "monai.bundle", "run"),
        f"--config_file={files[0]}" if len(files) == 1 else f"--config_file={files}".replace(" ", ""),
        *_data(sources["datalist"], places),
        f"--output_dir={folder / 'eval'}",
        f"--ckpt_dir={folder / 'models'}",
        *([f"--pretrained={_weights(sources['pretrained'])}"] if "pretrained" in sources else []),
        "--resume=auto",
        *_options(entry["options"], values, f"runs.{name}.options"),
    ]
    return Command(tuple(words), bundle), tuple(bundle / file for file in files)


def _own_command(
    name: str,
    entry: Mapping[str, Any],
    values: Mapping[str, Any],
    sources: Mapping[str, Job],
    folder: Path,
    places: Places,
) -> Command:
    known: dict[str, Any] = {**values, "output": folder}
    if "datalist" in sources:
        known |= {"datalist": sources["datalist"].target, "dataset_dir": _root(sources["datalist"], places)}
    known |= {file: places.files.get(file, f"<{file}>") for file in entry.get("files", [])}
    if "pretrained" in sources:
        known["pretrained"] = _weights(sources["pretrained"])
    return Command(tuple(_filled(word, known, f"runs.{name}.command") for word in shlex.split(entry["command"])))


def _evaluation(job: Job, entry: Mapping[str, Any], settings: Mapping[str, Any], datalist: Job, places: Places) -> Job:
    folder = job.results / "eval" / "evaluation"
    inputs: tuple[Path, ...] = (job.target, datalist.target, *_made(datalist.layout, places))
    split = [f"--split={entry['evaluate']}"] if isinstance(entry["evaluate"], str) else []
    if "bundle" in entry:
        full = _with_settings(entry, settings)
        bundle = ROOT / "bundles" / entry["bundle"]
        config = bundle / "configs" / "evaluate.yaml"
        known = yaml.safe_load(config.read_text(encoding="utf-8"))
        given: dict[str, Any] = {}
        for overlay in (bundle / "configs" / name for name in full["overlays"]):
            given |= yaml.safe_load(overlay.read_text(encoding="utf-8")) if overlay.is_file() else {}
        given |= full["options"]
        if "recipe" in given:
            given |= _of_recipe(bundle, given)
        options = {key: given[key] for key in (*OF_NETWORK, *OF_MACHINE) if key in given and key in known}
        words = [
            *("python", "-m", "monai.bundle", "run", "--config_file=configs/evaluate.yaml"),
            *_data(datalist, places),
            *split,
            f"--checkpoint={job.target}",
            f"--output_dir={folder}",
            *_options(options, job.values, f"runs.{job.entry}.options"),
        ]
        command, inputs = Command(tuple(words), bundle), (*inputs, config)
    else:
        data = (f"--references={datalist.target}", f"--dataset_dir={_root(datalist, places)}")
        protocol = f"--protocol={'atlas' if datalist.layout == 'atlas' else 'brats'}"
        words = ["python", "-m", "scripts.evaluate", f"--predictions={job.target}", *data, protocol]
        command = Command((*words, *split, f"--output={folder}"))
    name = f"{job.name}/evaluation"
    needs = (job.name, datalist.name)
    return Job(name, job.entry, job.values, (command,), inputs, folder, folder / "summary.json", needs, job.absent)


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
