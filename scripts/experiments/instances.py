"""The parts of a study's jobs: commands and where they read and write, and an entry with the values of one job."""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import InputError

__all__ = [
    "OWN",
    "ROOT",
    "Command",
    "Instance",
    "Job",
    "Places",
    "cohort_record",
    "data_of",
    "fill",
    "label_of",
    "name_of",
    "values_of",
    "words_of",
]

ROOT = Path(__file__).resolve().parents[2]
OWN = "own"  # layout of a cohort whose datalist is given


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
        root: folder that the paths of a datalist start from.
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
    root: Path = Path()
    is_evaluation: bool = False


@dataclass(frozen=True)
class Places:
    """Where a study's data comes from and its results go.

    Attributes:
        output: folder of all results.
        roots: folders of the cohorts, by layout; a cohort without one is made, if the study says how. `OWN` is the
            folder of your own data sets: the paths of a datalist in `files` start there, and `data` lies there.
        files: further files or folders by the names that the study gives them, such as public weights.
        gpus: processes of each training, by torchrun; 1 for a plain command.
    """

    output: Path
    roots: Mapping[str, Path] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    gpus: int = 1


@dataclass(frozen=True)
class Instance:
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
        return name_of(self.name, self.values)

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
        return words_of(self.entry.get("options", {}), known, f"{part}.{self.name}.options")


def cohort_record(layout: str, places: Places) -> tuple[Path, ...]:
    """The record of the job that made a cohort, which changes when the cohort is made anew."""
    if layout in places.roots:
        return ()
    return (places.output / "jobs" / "cohorts" / layout / "record.json",)


def data_of(datalist: Job) -> tuple[str, str]:
    """The options of a bundle that say where its data is."""
    return f"--dataset_dir={datalist.root}", f"--datalist={datalist.target}"


def words_of(options: Mapping[str, Any], values: Mapping[str, Any], where: str) -> list[str]:
    """Options as words of a command line; lists and the like in the spelling that MONAI and Fire read."""
    words = []
    for option, value in options.items():
        filled = fill(value, values, where) if isinstance(value, str) else value
        text = filled if isinstance(filled, str) else json.dumps(filled).replace('"', "'").replace(" ", "")
        words.append(f"--{option}={text}")
    return words


def fill(text: str, values: Mapping[str, Any], where: str) -> str:
    """Text with the values of a job for names in braces."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise InputError(f"{where}: {text}: no {match[1]}; expected one of {', '.join(values) or 'none'}")
        return str(values[match[1]])

    return re.sub(r"\{(\w+)\}", value, text)


def label_of(name: str, values: Mapping[str, Any]) -> str:
    """The name of a file for an entry with some values."""
    return "-".join([name, values_of(values)] if values else [name])


def name_of(name: str, values: Mapping[str, Any]) -> str:
    """The name of the job of an entry with some values."""
    return f"{name}/{values_of(values)}" if values else name


def values_of(values: Mapping[str, Any]) -> str:
    """Values in a file name: words as they are, numbers after the name of their axis, such as `tiny-fold0`."""
    return "-".join(value if isinstance(value, str) else f"{axis}{value}" for axis, value in values.items())
