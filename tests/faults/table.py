"""The form of a table of bad inputs: a command line, and the one line and the exit status that it must end with."""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = ("ukb", "brats", "atlas")
TINY = (
    "--model_size=micro --patch_size=[32,32,64] --batch_size=2 --global_batch_size=null --num_workers=0 "
    "--warmup_iterations=1 --iterations=1 --val_interval=1"
)


@dataclass(frozen=True)
class Fault:
    """A command line with a mistake in it, or in what it reads.

    Attributes:
        name: of the test.
        module: that `python -m` runs.
        arguments: as one types them. {folder} stands for an empty folder, {output} for one whose files must not change,
            {ukb}, {brats} and {atlas} for `--dataset_dir=... --datalist=...` of the embedded cohorts, {cohorts} for
            their folder.
        line: the last line of stderr after "error: "; `…` stands for anything.
        place: where the command runs, from the root of the repository.
        status: exit status.
        prepare: makes in `folder` what the command reads, from the folder of the cohorts.
        memory: bytes that the command may take more than a process that has only imported; None: no limit.
        disk: bytes that a file may have, after which the disk is full; None: no limit.
    """

    name: str
    module: str
    arguments: str
    line: str
    place: str = "."
    status: int = 2
    prepare: Callable[[Path, Path], object] = lambda folder, cohorts: None  # a default, not a method
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
    cohorts = places["cohorts"]
    data = {name: f"--dataset_dir={cohorts / name} --datalist={cohorts / name}.json" for name in NAMES}
    for name, value in (data | places).items():  # not str.format, because values may hold braces
        text = text.replace(f"{{{name}}}", str(value))
    return text


def plain(name: str, bundle: str, options: str, line: str, config: str = "train", **more: Any) -> Fault:
    """A mistake in MONAI's command, in the folder of a bundle; `config` may be a list of files, too."""
    file = config if config.startswith("[") else f"configs/{config}.yaml"
    arguments = f"run --config_file={shlex.quote(file)} {_places(bundle, config)} {options}"
    return Fault(f"monai.bundle: {bundle} {name}", "monai.bundle", arguments, line, f"bundles/{bundle}", **more)


def wrapped(name: str, bundle: str, options: str, line: str, config: str = "train", **more: Any) -> Fault:
    """A mistake in `python -m scripts.run`; `config` is the words after the bundle."""
    arguments = f"{bundle} {config} {_places(bundle, config)} {options}"
    return Fault(f"scripts.run: {bundle} {name}", "scripts.run", arguments, line, **more)


def both(bundle: str, option: str, line: str, config: str = "train") -> list[Fault]:
    """A mistake in an option, which both commands report alike; the line begins with the option."""
    return [command(option, bundle, shlex.quote(option), f"{option}: {line}", config) for command in (plain, wrapped)]


def overlay(bundle: str, content: str, line: str) -> list[Fault]:
    """A mistake in an overlay, which both commands report alike; the line begins with file and content."""

    def prepare(folder: Path, _: Path) -> None:
        (folder / "own.yaml").write_text(content)

    line = f"{{folder}}/own.yaml: {content}: {line}"
    return [
        plain(content, bundle, "", line, "['configs/train.yaml','{folder}/own.yaml']", prepare=prepare),
        wrapped(content, bundle, "", line, "train {folder}/own.yaml", prepare=prepare),
    ]


def _places(bundle: str, config: str) -> str:
    places = f"{{{bundle.split('_')[0]}}} --output_dir={{output}}"
    return f"{places} --ckpt_dir={{output}}/models {TINY}" if "train" in config else places
