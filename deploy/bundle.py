"""Open a bundle: read its metadata, find its inference config and check its checkpoint."""

import difflib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from fire.parser import DefaultParseValue

from common import weights
from common.cli import options_of
from common.data import is_skull_stripped, model_name, trained_on
from common.errors import ArgumentError, InputError
from common.files import digest, valid_json
from common.options import OPTIONS
from deploy.tasks import TASKS, Task

__all__ = ["Bundle", "check_options", "open_bundle", "split_options"]

RESERVED_OPTIONS = (  # the application sets them itself
    "bundle_root",
    "config_file",
    "dataset_dir",
    "datalist",
    "split",
    "output_dir",
    "modalities",
    "checkpoint",
)


@dataclass(frozen=True)
class Bundle:
    """A bundle that is ready for inference.

    Attributes:
        root: folder of the bundle.
        config: file of its inference config.
        checkpoint: file of its weights.
        name: from metadata.json, with the data that the checkpoint states instead of those that the bundle is made for.
        version: from metadata.json.
        modalities: in the order of the network's input channels.
        task: what it segments, on brains with or without skull as the checkpoint's training measured them.
        options: names of the top-level keys of the inference config.
        checkpoint_sha256: SHA-256 of the checkpoint file, in hexadecimal digits.
        trained_on: the data of the training in a phrase, as the checkpoint states them.
        spacing: edges of the voxels that the model was trained on, the smallest and the largest, in mm.
    """

    root: Path
    config: Path
    checkpoint: Path
    name: str
    version: str
    modalities: tuple[str, ...]
    task: Task
    options: frozenset[str]
    checkpoint_sha256: str
    trained_on: str
    spacing: tuple[float, float]


class _Metadata(NamedTuple):
    name: str
    version: str
    modalities: tuple[str, ...]
    outputs: frozenset[str]


def open_bundle(folder: Path, checkpoint: Path | None = None) -> Bundle:
    """Open a bundle's folder, and check that its checkpoint holds nothing but tensors.

    Args:
        folder: of the bundle. Archives are refused, because unpacking an untrusted one can write anywhere.
        checkpoint: file of weights; the bundle's models/model.pt by default.

    Raises:
        InputError: not a bundle's folder, a file is missing or invalid, the checkpoint holds code, or the bundle
            segments neither tumours nor strokes.
    """
    config = _find_config(folder)
    metadata = _read_metadata(folder / "configs" / "metadata.json")
    path = checkpoint or folder / "models" / "model.pt"
    record = weights.read(path).metadata  # refuses pickled code, and a record that is about another file
    measured = weights.measured_of(path)
    task = next((task for task in TASKS.values() if task.outputs == metadata.outputs), None)
    if task is None or task.reference not in metadata.modalities:
        outputs = ", ".join(metadata.outputs)
        raise InputError(f"--bundle={folder}: segments {outputs}; expected brats_finetune or atlas_finetune")
    if (stripped := is_skull_stripped(record)) is not None:
        task = replace(task, skull_stripped=stripped)
    return Bundle(
        root=folder.resolve(),
        config=config.resolve(),
        checkpoint=path.resolve(),
        name=model_name(metadata.name, record),
        version=metadata.version,
        modalities=metadata.modalities,
        task=task,
        options=_option_names(config),
        checkpoint_sha256=digest(path),
        trained_on=trained_on(record),
        spacing=_spacing(record, measured),
    )


def _spacing(record: Mapping[str, Any], measured: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The smallest and the largest edge of a voxel that a network has seen; 1 mm, the cohorts', if it is unknown."""
    edges = record.get("spacing") or [edge for ranges in measured for side in ranges["spacing"] for edge in side]
    return (float(min(edges)), float(max(edges))) if edges else (1.0, 1.0)


def _find_config(folder: Path) -> Path:
    if folder.is_file():
        raise InputError(f"--bundle={folder}: a file; expected the bundle's folder, as archives are not unpacked")
    candidates = [folder / "configs" / f"inference.{suffix}" for suffix in ("yaml", "yml", "json")]
    config = next((path for path in candidates if path.is_file()), None)
    if config is None:
        raise InputError(f"--bundle={folder}: no configs/inference.yaml or .json; expected a bundle's folder")
    return config


def _read_metadata(path: Path) -> _Metadata:
    content = valid_json(path, "a bundle's metadata")
    try:
        formats = content["network_data_format"]
        outputs = frozenset(_channels(formats["outputs"]["pred"]))
        modalities = _channels(formats["inputs"]["image"])
        return _Metadata(str(content["name"]), str(content["version"]), modalities, outputs)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no {error}; expected a bundle's metadata") from error


def _channels(data_format: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the channels in their order."""
    return tuple(str(name) for _, name in sorted(data_format["channel_def"].items(), key=lambda item: int(item[0])))


def _option_names(config: Path) -> frozenset[str]:
    try:
        return frozenset(dict(yaml.safe_load(config.read_text(encoding="utf-8"))))
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"{config}: not a MONAI config; expected the bundle's inference config") from error


def split_options(text: str) -> list[str]:
    """Split `--bundle_options`, such as "--model_size=tiny --overlap=0.25", into options of the bundle's inference.

    Raises:
        InputError: the text is not a list of options, or contains one that the application sets itself.
    """
    try:
        options = shlex.split(str(text))
    except ValueError as error:
        raise InputError(f"--bundle_options={text}: {error}; expected options as on a command line") from error
    positional, named = options_of(options)
    if positional:
        raise InputError(f"--bundle_options={text}: {positional[0]}: expected options such as --overlap=0.25")
    if reserved := next((name for name in RESERVED_OPTIONS if name in named), None):
        raise InputError(f"--bundle_options: --{reserved} is set by the application; expected other options")
    return options


def check_options(options: Sequence[str], bundle: Bundle) -> None:
    """Check the names in `--bundle_options`, and the values of documented options, before any work.

    Raises:
        InputError: the bundle's inference has no such option, or it does not accept the value.
    """
    for name, value in options_of(options)[1].items():
        key = re.split(r"::|#", name)[0]
        if key not in bundle.options:
            near = difflib.get_close_matches(key, bundle.options, n=1)
            hint = f"did you mean --{near[0]}?" if near else "expected one of the bundle's inference"
            raise InputError(f"--bundle_options: --{name}: no such option; {hint}")
        if name in OPTIONS and value and not value.startswith(("$", "@")):  # a flag alone has no value
            try:
                OPTIONS[name](DefaultParseValue(value))  # as MONAI reads its command line
            except ArgumentError as error:
                raise InputError(f"--bundle_options: --{error}") from error
