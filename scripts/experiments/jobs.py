"""The jobs of a study, in order, for each combination of values."""

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

from common.cli import command_line
from common.configs import argument
from common.data.cohorts import COHORTS
from common.errors import InputError
from common.files import read_yaml

ROOT = Path(__file__).resolve().parents[2]
OWN = "own"  # layout of a cohort with a user's datalist
OF_EVALUATION = ("metrics.csv", "lesions.csv", "cases.json", "summary.json")  # the files of an evaluation
MOST = 10_000  # jobs of a study
LONGEST = 200  # bytes of an entry's name, or of a job's values, which name folders
OF_MACHINE = ("num_workers", "cohort")  # options that an evaluation shares with its training


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
        """The arguments to start a process with."""
        first, *others = self._words
        return [sys.executable if first == "python" else first, *others]

    def __str__(self) -> str:
        """The command for a shell in the repository's root."""
        place = "" if self.folder == ROOT else f"cd {os.path.relpath(self.folder, ROOT)} && "
        return f"{place}{command_line(self._words)}"

    @property
    def _words(self) -> list[str]:
        """The words, with values quoted as MONAI takes them if it reads them."""
        return [*map(argument, self.words)] if "monai.bundle" in self.program else self.words


@dataclass(frozen=True)
class StudyJob:
    """A command that makes a target.

    `name` is the entry and values, such as `two_stage/tiny-fold0`, plus `/evaluation` if the job scores that run.
    `inputs` are the files and folders that the result depends on, `needs` the jobs that make some of them. `results` is
    moved aside when it is stale; `target` exists once the job is done; `absent` is the reason why the job cannot run.
    A command that `selects` keeps its current results itself, and may leave out subjects, with the status 1.
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
    layout: str = ""
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
    """Locations of a study's data and results.

    `roots` are cohort folders by layout; the study makes a missing cohort if it says how. Under `OWN` is the folder of
    the user's data sets, which contains `data` and the paths of a datalist in `files`. `files` are named in the study,
    such as public weights.
    """

    output: Path
    roots: Mapping[str, Path] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    gpus: int = 1


@dataclass(frozen=True)
class _Instance:
    """An entry of a study with the values of a single job; `sources` are the jobs that it starts from."""

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
        """Paths of the entry's files by name; a placeholder string for a missing option."""
        return {name: self.places.files.get(name, f"<{name}>") for name in self.entry.get("files", [])}

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Given files, the targets of the sources, and the cohorts that the study makes."""
        made = [source.target for source in self.sources.values()]
        cohorts = [source.root for source in self.sources.values() if _is_made(source.root, self.places)]
        return (*made, *cohorts, *(file for file in self.files.values() if isinstance(file, Path)))

    @property
    def absent(self) -> str:
        """The reason why the job cannot run; empty if it can."""
        reasons = [source.absent for source in self.sources.values() if source.absent]
        reasons += [f"expected --files with {name}" for name, file in self.files.items() if isinstance(file, str)]
        return next(iter(reasons), "")

    def options(self, part: str, options: Mapping[str, Any] | None = None) -> dict[str, str]:
        """Options of the entry as text; `part` names the place in the study in messages."""
        given = self.entry.get("options", {}) if options is None else options
        return texts_of(given, {**self.values, **self.files}, f"{part}.{self.name}.options.")


def jobs_of(study: Mapping[str, Any], places: Places) -> dict[str, StudyJob]:
    """The jobs of a study by name, each after the jobs that it needs.

    Raises an InputError if text in an entry names an unknown axis, or if two jobs have the same name.
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
            add(_datalist(_Instance(name, entry, *each, places), jobs)) for each in _joined(entry, instances)
        ]
    for name, entry in study["runs"].items():
        full = {
            **entry,
            "overlays": [*settings.get("overlays", []), *entry.get("overlays", [])],
            "options": settings.get("options", {}) | entry.get("options", {}),
        }
        instances[name], evaluations = [], []
        for each in _joined(entry, instances):
            instance = _Instance(name, full, *each, places)
            instances[name].append(add(_run(instance)))
            if entry.get("evaluate"):
                evaluations.append(add(_evaluation(instance, instances[name][-1])))
        if "pool" in entry:
            for pooled in _pools(name, entry["pool"], evaluations, places):
                add(pooled)
    return jobs


def _joined(
    entry: Mapping[str, Any], instances: Mapping[str, list[StudyJob]]
) -> Iterator[tuple[dict[str, Any], dict[str, StudyJob]]]:
    """All combinations of axis values and source jobs whose shared axes agree.

    Values that the entry gives for an axis of its sources select from theirs.
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


def _cohort(layout: str, options: Mapping[str, Any], places: Places) -> StudyJob:
    folder = places.output / "cohorts" / layout
    made = {"layout": layout, "output": str(folder), **texts_of(options, {}, f"cohorts.{layout}.")}
    command = CommandLine(("python", "-m", "scripts.phantoms", "make"), made)
    return StudyJob(f"cohorts/{layout}", layout, {}, command, (), folder, folder, layout=layout)


def _is_made(root: Path, places: Places) -> bool:
    """Whether the study makes the cohort in a folder."""
    return root.parent == places.output / "cohorts"


def _datalist(of: _Instance, jobs: Mapping[str, StudyJob]) -> StudyJob:
    target = of.places.output / "datalists" / f"{'-'.join([of.name, *_values_of(of.values)])}.json"
    absent, needs, inputs = of.absent, tuple(source.name for source in of.sources.values()), of.inputs
    given: dict[str, Path | str]
    if "from" in of.sources:
        source = of.sources["from"]
        kind, given, layout, root = kind_of(of.entry), {"datalist": source.target}, source.layout, source.root
    elif "layout" in of.entry:
        layout = of.entry["layout"]
        cohort = jobs.get(f"cohorts/{layout}")
        root = of.places.roots.get(layout) or of.places.output / "cohorts" / layout
        kind, given = layout, {"root": root}
        if cohort:
            needs, inputs = (cohort.name,), (*inputs, root)
        elif layout not in of.places.roots:
            absent = absent or f"expected --{layout}, the folder of the cohort"
    else:
        layout, root = OWN, of.places.roots.get(OWN, Path("<dataset_dir>")) / of.entry.get("data", "")
        file = of.files.get(of.entry.get("from", ""))
        kind, given = (kind_of(of.entry), {"datalist": file}) if file else ("generic", {"root": root})
        if OWN not in of.places.roots:
            absent = absent or "expected --dataset_dir, the folder of the datalist's paths"
        elif not root.is_dir():
            absent = absent or f"expected a folder {root}"
    options = {name: str(path) for name, path in given.items()} | of.options("datalists") | {"output": str(target)}
    command = CommandLine(("python", "-m", "scripts.datalists", kind), options)
    return StudyJob(of.job, of.name, of.values, command, inputs, target, target, needs, absent, layout, root)


def kind_of(entry: Mapping[str, Any]) -> str:
    """The command of `scripts.datalists` that makes a datalist from a datalist."""
    return "fold" if "folds" in entry.get("options", {}) else "subset"


def _run(of: _Instance) -> StudyJob:
    folder, absent, inputs = of.places.output / "runs" / of.job, of.absent, of.inputs
    if "bundle" in of.entry:
        command, configs = _training(of, folder)
        target = folder / "models" / "model.pt"
        missing = [file.name for file in configs if not file.is_file()]
        absent = absent or next((f"{of.entry['bundle']} has no configs/{name}" for name in missing), "")
        inputs += configs
        if "pretrained" not in of.sources:  # the option `pretrained` is a file
            path = command.folder / command.options.get("pretrained", "")
            inputs += (path,) if path.is_file() else ()
    else:
        known: dict[str, Any] = {**of.values, "output": folder, **of.files}
        if "datalist" in of.sources:
            known |= {"datalist": of.sources["datalist"].target, "dataset_dir": of.sources["datalist"].root}
        if "pretrained" in of.sources:
            known["pretrained"] = of.sources["pretrained"].weights
        where = f"runs.{of.name}.command"
        try:
            words = shlex.split(of.entry["command"])
        except ValueError as error:
            raise InputError(f"{where}={of.entry['command']}: {error}; expected words as in a shell") from error
        if not words:
            raise InputError(f"{where}={of.entry['command']}: no words; expected a command")
        command = CommandLine(tuple(_fill(word, known, where) for word in words))
        target = folder / of.entry.get("target", "predictions")
    needs = tuple(source.name for source in of.sources.values())
    return StudyJob(of.job, of.name, of.values, command, inputs, folder, target, needs, absent)


def _training(of: _Instance, folder: Path) -> tuple[CommandLine, tuple[Path, ...]]:
    """The command of a training, and the bundle's files that it reads."""
    bundle, gpus = ROOT / "bundles" / of.entry["bundle"], of.places.gpus
    overlays = [*of.entry["overlays"], *(["multi_gpu_train.yaml"] if gpus > 1 else [])]
    files = [f"configs/{file}" for file in ("train.yaml", *overlays)]
    torchrun = ("torch.distributed.run", f"--nproc_per_node={gpus}", "-m") if gpus > 1 else ()
    options = {
        "config_file": files[0] if len(files) == 1 else text_of(files),
        **_data_of(of.sources["datalist"]),
        "output_dir": str(folder / "eval"),
        "ckpt_dir": str(folder / "models"),
        **({"pretrained": str(of.sources["pretrained"].weights)} if "pretrained" in of.sources else {}),
        "resume": "auto",
        **of.options("runs"),
    }
    command = CommandLine(("python", "-m", *torchrun, "monai.bundle", "run"), options, bundle)
    return command, tuple(bundle / file for file in files)


def _evaluation(of: _Instance, job: StudyJob) -> StudyJob:
    """The job that scores a run."""
    folder, datalist = job.results / "eval" / "evaluation", of.sources["datalist"]
    inputs = (job.target, datalist.target, *([datalist.root] if _is_made(datalist.root, of.places) else []))
    split = {"split": of.entry["evaluate"]} if isinstance(of.entry["evaluate"], str) else {}
    if "bundle" in of.entry:
        bundle = ROOT / "bundles" / of.entry["bundle"]
        inputs += (bundle / "configs" / "evaluate.yaml",)
        options = {"config_file": "configs/evaluate.yaml", **_data_of(datalist), **split}
        options |= {"checkpoint": str(job.target), "output_dir": str(folder)}
        options |= of.options("runs", _machine_options(of.entry, bundle) | of.entry.get("evaluation", {}))
        command = CommandLine(("python", "-m", "monai.bundle", "run"), options, bundle)
    else:
        protocol = COHORTS[datalist.layout].protocol if datalist.layout in COHORTS else "dice"
        options = {"predictions": str(job.target), "references": str(datalist.target)}
        options |= {"dataset_dir": str(datalist.root), "protocol": protocol, **split, "output": str(folder)}
        command = CommandLine(("python", "-m", "scripts.evaluate"), options)
    needs = (job.name, datalist.name)
    name, target = f"{job.name}/evaluation", folder / "summary.json"
    about = (command, inputs, folder, target, needs, job.absent)
    return StudyJob(name, job.entry, job.values, *about, root=datalist.root, is_evaluation=True)


def _machine_options(entry: Mapping[str, Any], bundle: Path) -> dict[str, Any]:
    """The options that the evaluation shares with its training; the network's options are in the checkpoint."""
    given: dict[str, Any] = {}
    for overlay in (bundle / "configs" / name for name in entry["overlays"]):
        given |= read_yaml(overlay)
    given |= entry["options"]
    return {name: given[name] for name in OF_MACHINE if name in given}


def _pools(name: str, axis: str, evaluations: Sequence[StudyJob], places: Places) -> Iterator[StudyJob]:
    """The jobs that pool the evaluations of an entry over an axis, one for each combination of the remaining values.

    Raises an InputError if the entry lacks the axis, is not evaluated, or has only one value of the axis.
    """
    groups: dict[str, list[StudyJob]] = {}
    for job in evaluations:
        if axis in job.values:
            rest = {other: value for other, value in job.values.items() if other != axis}
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
            inputs=tuple(job.results / file for job in members for file in OF_EVALUATION),
            results=folder,
            target=folder / "summary.json",
            needs=tuple(job.name for job in members),
            absent=first.absent,
            is_evaluation=True,
        )


def _data_of(datalist: StudyJob) -> dict[str, str]:
    """The options that give a bundle its data."""
    return {"dataset_dir": str(datalist.root), "datalist": str(datalist.target)}


def texts_of(options: Mapping[str, Any], values: Mapping[str, Any], where: str) -> dict[str, str]:
    """Options as text of a command line; lists and mappings in the syntax that MONAI and Fire parse.

    `values` fill in names in braces; `where` comes before an option's name in messages.
    """
    texts = {}
    for option, value in options.items():
        if isinstance(value, str):
            texts[option] = _fill(value, values, f"{where}{option}")
        else:  # a component's argument, as network_def::prior, takes `true` and `null` for text
            texts[option] = _literal(value) if "::" in option else text_of(value)
    return texts


def text_of(value: Any) -> str:
    """A value in the syntax that MONAI and Fire parse, without blanks between the items of lists and mappings."""
    return json.dumps(value) if value is None or isinstance(value, bool) else _literal(value)


def _literal(value: Any) -> str:
    """A value as Python text: within a list or mapping, `true` would stay text."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_literal(key)}:{_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_literal, value)) + "]"
    return repr(value)


def _fill(text: str, values: Mapping[str, Any], where: str) -> str:
    """Fill in a job's values for names in braces."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise InputError(
                f"{where}={text}: no {match[0]}; expected {' or '.join(f'{{{name}}}' for name in values) or 'none'}"
            )
        return str(values[match[1]])

    return re.sub(r"\{(\w+)\}", value, text)


def _name_of(name: str, values: Mapping[str, Any]) -> str:
    """The name of the job of an entry with these values."""
    return "/".join([name, *_values_of(values)])


def _values_of(values: Mapping[str, Any]) -> list[str]:
    """Values for a file name: words as they are, numbers after the name of their axis, such as `tiny-fold0`."""
    known = "-".join(value if isinstance(value, str) else f"{axis}{value}" for axis, value in values.items())
    return [known] if known else []
