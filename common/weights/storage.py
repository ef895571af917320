"""Load checkpoint files without running code from them, and save them atomically."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch

from ..errors import InputError, within
from ..files import atomic_write, digest
from . import shells
from .records import SAFETENSORS, check_file, write_record

REMEDY = "the file's author can save the tensors alone with torch.save({'state_dict': model.state_dict()}, 'G.pt')"
EXPECTED = "expected a complete file of torch.save or safetensors (docs/how-to/use-the-papers-weights.md)"


def load(path: str | Path, lazily: bool = False) -> Mapping[str, Any]:
    """Load the dictionary in a file of torch.save or safetensors; `lazily` reads torch.save's tensors on first use."""
    file = check_file(path)
    is_archive = file.suffix != SAFETENSORS and is_zipfile(file)  # torch.load decides by the suffix, too
    with within(f"checkpoint {path}"):
        try:
            broken = ZipFile(file).testzip() if is_archive and not lazily else None  # torch.load checks no sums
            content = shells.read(file) if is_archive and not broken else None
            if content is None and not broken:
                content = torch.load(file, map_location="cpu", weights_only=True, mmap=lazily and is_archive)
        except Exception as error:  # torch.load's readers raise many exceptions
            raise InputError("cannot be read as tensors alone", f"{_reason(error)}; {EXPECTED}") from error
        if broken:
            raise InputError(f"damaged: the checksum of {broken} is wrong")
        if not isinstance(content, Mapping):
            raise InputError(f"of type {type(content).__name__}; expected a dictionary of tensors")
        return content


def _reason(error: Exception) -> str:
    """Return the first sentence of an error, because PyTorch's messages may fill pages."""
    if needed := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"needs {needed[1]}, and unpickling can run any code; {REMEDY}"
    return (str(error).split(". ")[0].splitlines() or [type(error).__name__])[0][:120]


def write(content: Mapping[str, Any], path: str | Path) -> None:
    """Save a checkpoint atomically; see `common.files.atomic_write`."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:  # a path would hide the OSError of a full disk
        try:
            torch.save(dict(content), file)
        except RuntimeError as error:  # raised after the OSError, when the archive is closed
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def write_plain(state: Mapping[str, torch.Tensor], metadata: Mapping[str, Any], path: str | Path) -> None:
    """Save tensors as a plain state dict, and write the metadata to the JSON beside the file; see `write_record`."""
    write(state, path)
    write_record(path, digest(path), metadata)
