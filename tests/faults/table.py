"""The form of a table of bad inputs: a command line, and the one line that it must end with."""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import TINY

BRATS = "brats_finetune"
Prepare = Callable[[Path, Path], object]


@dataclass(frozen=True)
class Fault:
    """A command line with a mistake in it, or in what it reads.

    Attributes:
        module: module for `python -m`.
        arguments: command line. {folder} is an empty folder, {output} a folder that must stay unchanged, {data} is
            `--dataset_dir=... --datalist=...` of the embedded BraTS, {cohorts} the folder of the cohorts.
        line: last line of stderr after "error: "; `…` matches anything.
        prepare: writes the command's input into `folder`, from the folder of the cohorts.
        place: working directory, relative to the root of the repository.
        memory: memory limit beyond that of an idle test server, in bytes; None for no limit.
        disk: largest file size, in bytes; None for no limit.
    """

    module: str
    arguments: str
    line: str
    prepare: Prepare = lambda folder, cohorts: None  # a default, not a method
    place: str = "."
    memory: int | None = None
    disk: int | None = None

    def words(self, places: Mapping[str, Path]) -> list[str]:
        """The arguments with the places of a test: folder, output and cohorts."""
        return shlex.split(_filled(self.arguments, places))

    def matches(self, line: str, places: Mapping[str, Path]) -> bool:
        """Whether the last line of stderr is the one expected."""
        expected = re.escape(f"error: {_filled(self.line, places)}").replace("…", ".*")
        return re.fullmatch(expected, line) is not None


def _filled(text: str, places: Mapping[str, Path]) -> str:
    text = text.replace("{data}", "--dataset_dir={cohorts}/brats --datalist={cohorts}/brats.json")
    for name, value in places.items():  # not str.format, because values may hold braces
        text = text.replace(f"{{{name}}}", str(value))
    return text


def plain(bundle: str, options: str, line: str, config: str = "train", **more: Any) -> Fault:
    """A mistake in MONAI's command, in the folder of a bundle; `config` may be a list of files, too."""
    file = config if config.startswith("[") else f"configs/{config}.yaml"
    arguments = f"run --config_file={shlex.quote(file)} {_places(config)} {options}"
    return Fault("monai.bundle", arguments, line, place=f"bundles/{bundle}", **more)


def wrapped(bundle: str, options: str, line: str, config: str = "train", **more: Any) -> Fault:
    """A mistake in `python -m scripts.run`; `config` is the words after the bundle."""
    return Fault("scripts.run", f"{bundle} {config} {_places(config)} {options}", line, **more)


def written(name: str, content: str) -> Prepare:
    """A file in the folder."""
    return lambda folder, _: (folder / name).write_text(content)


def _places(config: str) -> str:
    places = "{data} --output_dir={output}"
    return f"{places} --ckpt_dir={{output}}/models {' '.join(TINY)}" if "train" in config else places
