"""Paths and records of checkpoints; imports no PyTorch, so that commands refuse bad paths at once.

A checkpoint from training holds tensors and metadata. A plain state dict, which MONAI's tools can read, holds only
tensors; the JSON beside the file (`model.json` for `model.pt`) holds the file's SHA-256 and the metadata.
"""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import ArgumentError, InputError, within
from ..files import digest, expand_home, valid_json, why_no_file, write_json

SAFETENSORS = ".safetensors"  # suffix
HASH = "sha256"  # entry of the JSON beside a state dict: hash of the file
OTHER_HASH = "safetensors_sha256"  # entry of this JSON: hash of a safetensors file with the same tensors
NOT_A_PATH = "expected the path of one file; prefix a name such as 5 or [a] with ./"


def path_of(argument: str, value: Any) -> Path:
    """Return an argument as a path, with `~` expanded; refuse empty text, numbers, and lists such as `[a]`."""
    if not _is_path(value):
        raise ArgumentError(argument, value, NOT_A_PATH)
    return expand_home(value, f"--{argument}={value}")


def check_file(path: Any) -> Path:
    """Return the path of a checkpoint; refuse a missing file."""
    with within(f"checkpoint {path}"):
        if not _is_path(path):
            raise InputError(NOT_A_PATH)
        if not (file := Path(path)).is_file():
            hint = "; quote the paths of a list, as in ['a.pt','b.pt']" if str(path).startswith("[") else ""
            raise InputError(why_no_file(file) + hint)
    return file


def _is_path(value: Any) -> bool:
    return isinstance(value, str | Path) and bool(str(value).strip())


def record_of(path: str | Path) -> Path:
    """Return the path of the JSON beside a plain state dict: `models/model.json` for `models/model.pt`."""
    return Path(path).with_suffix(".json")


def write_record(path: str | Path, sha256: str, metadata: Mapping[str, Any]) -> None:
    """Write the JSON beside a plain state dict: SHA-256 and metadata; raise `InputError` if JSON cannot hold them."""
    record = {HASH: sha256, **metadata}
    try:
        json.dumps(record, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(record_of(path), error, "metadata of plain words and numbers") from error
    write_json(record_of(path), record)


def read_record(path: str | Path) -> dict[str, Any] | None:
    """Read the metadata in the JSON beside a state dict; None without JSON, `InputError` if it is another file's."""
    file = record_of(path)
    if not file.exists():
        return None
    expected = f"the SHA-256 and the metadata of {Path(path).name}"
    record = valid_json(file, expected)
    stated, converted = (record.pop(key, None) if isinstance(record, dict) else None for key in (HASH, OTHER_HASH))
    if not isinstance(stated, str):
        raise InputError(file, f"no entry {HASH}", f"{expected}; if this JSON is not for {path}, delete or rename it")
    if (actual := digest(path)) not in (stated, converted):
        raise InputError(f"checkpoint {path}", f"SHA-256 {actual}, but {file} belongs to a file with {stated:.64}")
    return record


def versions() -> dict[str, str]:
    """Return the versions of this software, Python and the main packages, for checkpoints and run records."""
    packages = {"torch": "torch", "monai": "monai", "ignite": "pytorch-ignite", "numpy": "numpy"}
    ours = {"brainsegfounder": __version__, "python": platform.python_version()}
    return ours | {name: version(package) for name, package in packages.items()}
