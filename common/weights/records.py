"""Paths and records of checkpoints; imports no PyTorch, so that commands refuse bad paths at once.

A plain state dict, which MONAI's tools can read, holds only tensors; the JSON beside the file (`model.json` for
`model.pt`) holds the file's SHA-256 and the metadata.
"""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import InputError
from ..files import digest, expand_home, read_json, write_json

SAFETENSORS = ".safetensors"  # suffix


def path_of(argument: str, value: Any) -> Path:
    """Return an argument as a path, with `~` expanded."""
    return expand_home(str(value), f"--{argument}={value}")


def check_file(path: str | Path) -> Path:
    """Return the path of a checkpoint; refuse a missing file."""
    if not Path(path).is_file():
        raise InputError(f"checkpoint {path}", "no such file")
    return Path(path)


def record_of(path: str | Path) -> Path:
    """Return the path of the JSON beside a plain state dict: `models/model.json` for `models/model.pt`."""
    return Path(path).with_suffix(".json")


def write_record(path: str | Path, sha256: str, metadata: Mapping[str, Any]) -> None:
    """Write the JSON beside a plain state dict."""
    write_json(record_of(path), {"sha256": sha256, **metadata})


def read_record(path: str | Path) -> dict[str, Any]:
    """Read the metadata in the JSON beside a state dict; empty without JSON, `InputError` if it is another file's."""
    file = record_of(path)
    record = dict(read_json(file)) if file.exists() else {}
    if record and record.pop("sha256", None) != digest(path):
        raise InputError(f"checkpoint {path}", f"its SHA-256 is not in {file}", "its own JSON, or none")
    return record


def versions() -> dict[str, str]:
    """Return the versions of this software, Python and the main packages, for checkpoints and run records."""
    packages = {"torch": "torch", "monai": "monai", "ignite": "pytorch-ignite", "numpy": "numpy"}
    ours = {"brainsegfounder": __version__, "python": platform.python_version()}
    return ours | {name: version(package) for name, package in packages.items()}
