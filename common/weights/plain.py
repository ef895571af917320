"""Plain state dicts, as MONAI's tools read them, and the JSON beside them: what they were trained with.

`model.pt` holds tensors by name; `model.json` holds its SHA-256 and the metadata that a checkpoint of a training holds
itself.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..files import digest, valid_json, write_json
from .storage import write

__all__ = ["read_record", "record_of", "write_plain", "write_record"]

HASH = "sha256"  # the entry of the record that binds it to one file


def record_of(path: str | Path) -> Path:
    """The file that says what a plain state dict was trained with: `models/model.json` of `models/model.pt`."""
    return Path(path).with_suffix(".json")


def write_plain(state: Mapping[str, torch.Tensor], metadata: Mapping[str, Any], path: str | Path) -> None:
    """Save tensors as a plain state dict, and their metadata in the JSON beside it; see `write_record`.

    Raises:
        InputError: a file cannot be written, or JSON cannot hold a value.
    """
    write(state, path)
    write_record(path, digest(path), metadata)


def write_record(path: str | Path, sha256: str, metadata: Mapping[str, Any]) -> None:
    """Write the JSON beside a plain state dict.

    Args:
        path: of the state dict.
        sha256: of that file, in hexadecimal digits.
        metadata: what its tensors were trained with; plain values.

    Raises:
        InputError: the file cannot be written, or JSON cannot hold a value.
    """
    record = {HASH: sha256, **metadata}
    try:
        json.dumps(record, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{record_of(path)}: {error}; expected metadata of plain words and numbers") from error
    write_json(record_of(path), record)


def read_record(path: str | Path) -> dict[str, Any] | None:
    """The metadata of a plain state dict; None if there is no JSON beside it.

    Raises:
        InputError: the JSON cannot be read, or it is not about this file.
    """
    file = record_of(path)
    if not file.exists():
        return None
    expected = f"the SHA-256 of {Path(path).name} and its metadata"
    record = valid_json(file, expected)
    stated = record.pop(HASH, None) if isinstance(record, dict) else None
    if not isinstance(stated, str):
        raise InputError(f"{file}: names no {HASH}; expected {expected}, or no file of this name beside {path}")
    if stated != (own := digest(path)):
        raise InputError(
            f"checkpoint {path}: its SHA-256 is {own}; {file} is about {stated:.64}: expected its own file"
        )
    return record
