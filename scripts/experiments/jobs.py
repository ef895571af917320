"""List a study's jobs in the order of their dependencies.

Each entry has a job for each combination of its axis values. Evaluations of runs, and pools of evaluations, are further
jobs.
"""

import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from common import ROOT
from common.cli import command_line
from common.configs import BUNDLES, argument
from common.errors import InputError
from common.files import read_yaml

OWN = "dataset_dir"  # folder of the user's own data sets, in `Places.roots`
EVALUATION_FILES = ("metrics.csv", "lesions.csv", "cases.json", "summary.json")
MOST = 10_000  # jobs of a study
LONGEST = 200  # bytes of each part of a job's name; the parts are folder names
SHARED_OPTIONS = ("num_workers", "cohort")  # options that an evaluation shares with its training


@dataclass(frozen=True)
class CommandLine:
    """A program (`python` is the running interpreter), its options as text, and its working directory."""

    program: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    folder: Path = ROOT

    @property
    def words(self) -> list[str]:
        """The program and its options as words."""
        return [*self.program, *(f"--{name}={text}" for name, text in self.options.items())]

    @property
    def arguments(self) -> list[str]:
        """The arguments for `subprocess`."""
        program, *rest = self._words
        return [sys.executable if program == "python" else program, *rest]

    def __str__(self) -> str:
        """Return the command for a shell in the repository's root."""
        prefix = "" if self.folder == ROOT else f"cd {os.path.relpath(self.folder, ROOT)} && "
        return f"{prefix}{command_line(self._words)}"

    @property
    def _words(self) -> list[str]:
        """The words, with values quoted for MONAI if the program is `monai.bundle`."""
        return [*map(argument, self.words)] if "monai.bundle" in self.program else self.words


@dataclass(frozen=True)
class StudyJob:
    """A command of a study, such as a training run, with the files that it reads and writes.

    Attributes:
        name: entry and axis values, such as two_stage/tiny-fold0, with /evaluation if the job scores that run.
        entry: name of the entry in the study's YAML file; `values` are its axis values.
        inputs: files and folders that the results depend on.
        results: file or folder of the results, which is moved aside if stale.
        target: file or folder that exists once the job is done.
        needs: names of the jobs that make some of the inputs.
        absent: reason why the job cannot run, if any.
        root: folder that the datalist's paths are relative to.
        selects: whether the command itself keeps or replaces earlier results; status 1 then means left-out subjects.
    """

    name: str
    entry: str
    values: Mapping[str, Any]
    command: CommandLine
    inputs: tuple[Path, ...]
    results: Path
    target: Path
    needs: tuple[str, ...] = ()
    absent: str = ""
    root: Path = Path()
    is_evaluation: bool = False
    selects: bool = False

    @property
    def is_training(self) -> bool:
        return "resume" in self.command.options

    @property
    def weights(self) -> Path:
        """The checkpoint of a run; later runs start from it."""
        return self.results / "models" / "model.pt"


@dataclass(frozen=True)
class Places:
    """Locations of a study's data and results, and the number of GPUs of a training run.

    Attributes:
        output: folder of the results.
        roots: cohort folders by layout; a cohort without a folder consists of phantoms, if the study defines them.
            `roots[OWN]` is the folder of the user's data sets; the study's `data`, and paths in datalists of `files`,
            are relative to it.
        files: paths of the files that the study names, such as public weights.
        gpus: processes of each training run.
    """

    output: Path
    roots: Mapping[str, Path] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    gpus: int = 1


@dataclass(frozen=True)
class _Instance:
    """An entry of a study with the axis values of one of its jobs; `sources` are the jobs whose results it uses."""

    name: str
    entry: Mapping[str, Any]
    values: Mapping[str, Any]
    sources: Mapping[str, StudyJob]
    places: Places

    @property
    def job(self) -> str:
        return _name_of(self.name, self.values)

    @property
    def files(self) -> dict[str, Path | str]:
        """The entry's files by name; a placeholder string for a file without a path."""
        return {name: self.places.files.get(name, f"<{name}>") for name in self.entry.get("files", [])}

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(source.name for source in self.sources.values())

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The targets of the sources, the cohorts that the study makes, and the entry's files."""
        made = [source.target for source in self.sources.values()]
        cohorts = [source.root for source in self.sources.values() if _is_made(source.root, self.places)]
        return (*made, *cohorts, *(file for file in self.files.values() if isinstance(file, Path)))

    @property
    def absent(self) -> str:
        """The reason why the job cannot run; empty if it can."""
        reasons = [source.absent for source in self.sources.values()]
        reasons += [f"expected --files with {name}" for name, file in self.files.items() if isinstance(file, str)]
        return next(filter(None, reasons), "")

    def options(self, part: str, options: Mapping[str, Any] | None = None) -> dict[str, str]:
        """Return `options` (default: the entry's) as command-line text, with names in braces filled in.

        `part` is the entry's section of the study, for messages.
        """
        values = self.entry.get("options", {}) if options is None else options
        return texts_of(values, {**self.values, **self.files}, f"{part}.{self.name}.options.")


def jobs_of(study: Mapping[str, Any], places: Places) -> dict[str, StudyJob]:
    """Return the jobs of a study by name, each after the jobs that it needs.

    Raise InputError for unknown names in braces, for repeated or long job names, and for too many jobs.
    """
    jobs: dict[str, StudyJob] = {}
    instances: dict[str, list[StudyJob]] = {}
    settings = study.get("settings", {})

    def add(job: StudyJob) -> StudyJob:
        if job.name in jobs:
            raise InputError(f"{job.name}: two jobs have this name; expected axis values that differ when joined by -")
        if longest := next((part for part in job.name.split("/") if len(os.fsencode(part)) > LONGEST), None):
            raise InputError(
                f"job {longest}: a name of more than {LONGEST} bytes; expected shorter names and axis values"
            )
        if len(jobs) == MOST:
            raise InputError(f"{job.name}: more than {MOST:,} jobs; expected fewer values in `for`")
        return jobs.setdefault(job.name, job)

    for layout, options in study.get("cohorts", {}).items():
        if layout not in places.roots:
            add(_cohort(layout, options, places))
    for name, entry in study["datalists"].items():
        instances[name] = [
            add(_datalist(_Instance(name, entry, *combination, places), jobs))
            for combination in _combinations(entry, instances)
        ]
    for name, entry in study["runs"].items():
        full = {
            **entry,
            "overlays": [*settings.get("overlays", []), *entry.get("overlays", [])],
            "options": settings.get("options", {}) | entry.get("options", {}),
        }
        instances[name], evaluations = [], []
        for combination in _combinations(entry, instances):
            instance = _Instance(name, full, *combination, places)
            instances[name].append(add(_run(instance)))
            if entry.get("evaluate"):
                evaluations.append(add(_evaluation(instance, instances[name][-1])))
        if "pool" in entry:
            for pooled in _pools(name, entry["pool"], evaluations, places):
                add(pooled)
    return jobs


def _combinations(
    entry: Mapping[str, Any], instances: Mapping[str, list[StudyJob]]
) -> Iterator[tuple[dict[str, Any], dict[str, StudyJob]]]:
    """Yield (axis values, source jobs by key) for each combination of source jobs and values of the entry's axes.

    Source jobs are combined only if they have equal values on shared axes. If `for` names an axis of a source, the
    values in `for` select source jobs.
    """
    sources = {key: entry[key] for key in ("from", "datalist", "pretrained") if entry.get(key) in instances}
    axes = entry.get("for", {})
    for chosen in product(*(instances[name] for name in sources.values())):
        values: dict[str, Any] = {}
        for job in chosen:
            values |= job.values
        agree = all(values[axis] == value for job in chosen for axis, value in job.values.items())
        if agree and all(values[axis] in axes[axis] for axis in axes if axis in values):
            new_axes = {axis: choices for axis, choices in axes.items() if axis not in values}
            for combination in product(*new_axes.values()):
                yield values | dict(zip(new_axes, combination, strict=True)), dict(zip(sources, chosen, strict=True))


def _cohort(layout: str, options: Mapping[str, Any], places: Places) -> StudyJob:
    folder = places.output / "cohorts" / layout
    made = {"layout": layout, "output": str(folder), **texts_of(options, {}, f"cohorts.{layout}.")}
    command = CommandLine(("python", "-m", "scripts.phantoms", "make"), made)
    return StudyJob(f"cohorts/{layout}", layout, {}, command, (), folder, folder)


def _is_made(root: Path, places: Places) -> bool:
    """Whether the study makes the cohort in a folder."""
    return root.parent == places.output / "cohorts"


def _datalist(item: _Instance, jobs: Mapping[str, StudyJob]) -> StudyJob:
    target = item.places.output / "datalists" / f"{'-'.join([item.name, *_values_of(item.values)])}.json"
    absent, needs, inputs = item.absent, item.needs, item.inputs
    origin: dict[str, Path | str]
    if "from" in item.sources:
        source = item.sources["from"]
        kind, origin, root = derivation_of(item.entry), {"datalist": source.target}, source.root
    elif "layout" in item.entry:
        kind = item.entry["layout"]
        root = item.places.roots.get(kind) or item.places.output / "cohorts" / kind
        origin = {"root": root}
        if cohort := jobs.get(f"cohorts/{kind}"):
            needs, inputs = (cohort.name,), (*inputs, root)
        elif kind not in item.places.roots:
            absent = absent or f"expected --{kind}, the folder of the cohort"
    else:
        root = item.places.roots.get(OWN, Path(f"<{OWN}>")) / item.entry.get("data", "")
        file = item.files.get(item.entry.get("from", ""))
        kind, origin = (derivation_of(item.entry), {"datalist": file}) if file else ("generic", {"root": root})
        if OWN not in item.places.roots:
            absent = absent or f"expected --{OWN}, the folder of the datalist's paths"
        elif not root.is_dir():
            absent = absent or f"expected a folder {root}"
    options = {name: str(path) for name, path in origin.items()} | item.options("datalists") | {"output": str(target)}
    command = CommandLine(("python", "-m", "scripts.datalists", kind), options)
    return StudyJob(item.job, item.name, item.values, command, inputs, target, target, needs, absent, root)


def derivation_of(entry: Mapping[str, Any]) -> str:
    """Return the command that derives an entry's datalist from its source: fold or subset of `scripts.datalists`."""
    return "fold" if "folds" in entry.get("options", {}) else "subset"


def _run(item: _Instance) -> StudyJob:
    folder, inputs = item.places.output / "runs" / item.job, item.inputs
    if "bundle" in item.entry:
        command, configs = _training(item, folder)
        target = folder / "models" / "model.pt"
        inputs += configs
        if "pretrained" not in item.sources:  # the option `pretrained` may be a file
            path = command.folder / command.options.get("pretrained", "")
            inputs += (path,) if path.is_file() else ()
    else:
        variables: dict[str, Any] = {**item.values, "output": folder, **item.files}
        if "datalist" in item.sources:
            variables |= {"datalist": item.sources["datalist"].target, "dataset_dir": item.sources["datalist"].root}
        if "pretrained" in item.sources:
            variables["pretrained"] = item.sources["pretrained"].weights
        where = f"runs.{item.name}.command"
        try:
            words = shlex.split(item.entry["command"])
        except ValueError as error:
            raise InputError(f"{where}={item.entry['command']}: {error}; expected words as in a shell") from error
        command = CommandLine(tuple(_fill(word, variables, where) for word in words))
        target = folder / item.entry.get("target", "predictions")
    return StudyJob(item.job, item.name, item.values, command, inputs, folder, target, item.needs, item.absent)


def _training(item: _Instance, folder: Path) -> tuple[CommandLine, tuple[Path, ...]]:
    """Return the command of a training run, and the config files that it reads."""
    bundle, gpus = BUNDLES / item.entry["bundle"], item.places.gpus
    overlays = [*item.entry["overlays"], *(["multi_gpu_train.yaml"] if gpus > 1 else [])]
    files = [f"configs/{file}" for file in ("train.yaml", *overlays)]
    torchrun = ("torch.distributed.run", f"--nproc_per_node={gpus}", "-m") if gpus > 1 else ()
    options = {
        "config_file": files[0] if len(files) == 1 else text_of(files),
        **_data_of(item.sources["datalist"]),
        "output_dir": str(folder / "eval"),
        "ckpt_dir": str(folder / "models"),
        **({"pretrained": str(item.sources["pretrained"].weights)} if "pretrained" in item.sources else {}),
        "resume": "auto",
        **item.options("runs"),
    }
    command = CommandLine(("python", "-m", *torchrun, "monai.bundle", "run"), options, bundle)
    return command, tuple(bundle / file for file in files)


def _evaluation(item: _Instance, job: StudyJob) -> StudyJob:
    """Return the job that scores a run."""
    folder, datalist = job.results / "eval" / "evaluation", item.sources["datalist"]
    inputs = (job.target, datalist.target, *([datalist.root] if _is_made(datalist.root, item.places) else []))
    split = {"split": item.entry["evaluate"]} if isinstance(item.entry["evaluate"], str) else {}
    if "bundle" in item.entry:
        bundle = BUNDLES / item.entry["bundle"]
        inputs += (bundle / "configs" / "evaluate.yaml",)
        options = {"config_file": "configs/evaluate.yaml", **_data_of(datalist), **split}
        options |= {"checkpoint": str(job.target), "output_dir": str(folder)}
        options |= item.options("runs", _shared_options(item.entry, bundle) | item.entry.get("evaluation", {}))
        command = CommandLine(("python", "-m", "monai.bundle", "run"), options, bundle)
    else:
        options = {"predictions": str(job.target), "references": str(datalist.target)}
        options |= {"dataset_dir": str(datalist.root), **split, "output": str(folder)}
        command = CommandLine(("python", "-m", "scripts.evaluate"), options)
    needs = (job.name, datalist.name)
    name, target = f"{job.name}/evaluation", folder / "summary.json"
    about = (command, inputs, folder, target, needs, job.absent)
    return StudyJob(name, job.entry, job.values, *about, root=datalist.root, is_evaluation=True)


def _shared_options(entry: Mapping[str, Any], bundle: Path) -> dict[str, Any]:
    """Return the options that an evaluation takes from its training run; network options are in the checkpoint."""
    options: dict[str, Any] = {}
    for overlay in (bundle / "configs" / name for name in entry["overlays"]):
        options |= read_yaml(overlay)
    options |= entry["options"]
    return {name: options[name] for name in SHARED_OPTIONS if name in options}


def _pools(name: str, axis: str, evaluations: Sequence[StudyJob], places: Places) -> Iterator[StudyJob]:
    """Yield the jobs that pool an entry's evaluations over an axis, one for each combination of the remaining values.

    Raise InputError if the entry lacks the axis, is not evaluated, or has only one value of the axis.
    """
    groups: dict[str, list[StudyJob]] = {}
    for job in evaluations:
        if axis in job.values:
            rest = {key: value for key, value in job.values.items() if key != axis}
            groups.setdefault(_name_of(name, rest), []).append(job)
    if not groups or any(len(members) < 2 for members in groups.values()):
        raise InputError(
            f"runs.{name}.pool={axis}: expected an axis of the run with several values, and `evaluate: true`"
        )
    for label, members in groups.items():
        folder, first = places.output / "runs" / label / "pooled", members[0]
        names = ",".join(_values_of({axis: job.values[axis]})[0] for job in members)
        words = ("python", "-m", "scripts.evaluate", "pool", *(str(job.results) for job in members))
        data = sorted({str(job.root) for job in members} | {str(places.output)})
        yield StudyJob(
            name=f"{label}/pooled",
            entry=first.entry,
            values={key: value for key, value in first.values.items() if key != axis},
            command=CommandLine(words, {"names": names, "data": text_of(data), "output": str(folder)}),
            inputs=tuple(job.results / file for job in members for file in EVALUATION_FILES),
            results=folder,
            target=folder / "summary.json",
            needs=tuple(job.name for job in members),
            absent=first.absent,
            is_evaluation=True,
        )


def _data_of(datalist: StudyJob) -> dict[str, str]:
    return {"dataset_dir": str(datalist.root), "datalist": str(datalist.target)}


def texts_of(options: Mapping[str, Any], values: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return options as text for a command line; lists and mappings in the syntax that MONAI and Fire parse.

    `values` replace names in braces; `where` precedes an option's name in messages.
    """
    texts = {}
    for option, value in options.items():
        if isinstance(value, str):
            texts[option] = _fill(value, values, f"{where}{option}")
        else:  # a component's argument, such as network_def::prior, reads `true` and `null` as text
            texts[option] = _literal(value) if "::" in option else text_of(value)
    return texts


def shown(path: Any) -> str:
    """Return a path as text, relative to the repository's root if inside it; return other text unchanged."""
    is_below = isinstance(path, Path) and path.is_relative_to(ROOT)
    return str(path.relative_to(ROOT) if is_below else path)


def text_of(value: Any) -> str:
    """Return a value in the syntax that MONAI and Fire parse, without spaces in lists and mappings."""
    return json.dumps(value) if value is None or isinstance(value, bool) else _literal(value)


def _literal(value: Any) -> str:
    """Return a value as a Python literal; within a list or mapping, `true` would be parsed as text."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_literal(key)}:{_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_literal, value)) + "]"
    return repr(value)


def _fill(text: str, values: Mapping[str, Any], where: str) -> str:
    """Replace names in braces with a job's values; raise an InputError that begins with `where` for an unknown name."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            expected = " or ".join(f"{{{name}}}" for name in values) or "no braces, because `for` gives it no axis"
            raise InputError(f"{where}={text}: no {match[0]}; expected {expected}")
        return str(values[match[1]])

    return re.sub(r"\{(\w+)\}", value, text)


def _name_of(name: str, values: Mapping[str, Any]) -> str:
    return "/".join([name, *_values_of(values)])


def _values_of(values: Mapping[str, Any]) -> list[str]:
    """Return the joined values as in ["tiny-fold0"], where a number follows its axis; [] without values."""
    joined = "-".join(value if isinstance(value, str) else f"{axis}{value}" for axis, value in values.items())
    return [joined] if joined else []
