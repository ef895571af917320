"""Load checkpoint files without running code from them, and save them atomically."""

import re
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from ..errors import InputError
from ..files import atomic_write, digest, read_json, write_json

# Classes in BrainSegFounder's ATLAS-finetune, a pickled network; no repository has the wrapper, ATLASPredictor
CLASSES = re.compile(
    r"__(mp_)?main__\.ATLASPredictor|(torch\.(nn\.modules|nn\.parallel|distributed)|monai\.networks)(\.\w+)+"
)
EXPECTED = "a complete file of torch.save or safetensors, of tensors alone (docs/how-to/use-the-papers-weights.md)"


class Shell:
    """Object of any class in `CLASSES`: it keeps its state as attributes, and has no code."""

    def __new__(cls, *_: Any) -> "Shell":
        return super().__new__(cls)


def load(path: str | Path, lazily: bool = False) -> Mapping[str, Any]:
    """Load the dictionary in a file of torch.save or safetensors; `lazily` reads torch.save's tensors on first use."""
    file = Path(path)
    is_archive = file.suffix != ".safetensors" and is_zipfile(file)  # torch.load decides by the suffix, too
    shells: list[Any] = []
    try:
        if is_archive:
            with ZipFile(file) as archive:
                if not lazily and (broken := archive.testzip()):  # torch.load checks no sums
                    raise InputError(f"damaged: the checksum of {broken} is wrong")
            classes = get_unsafe_globals_in_checkpoint(file)
            if any(name.endswith("ATLASPredictor") for name in classes):
                shells = [(Shell, name) for name in classes if CLASSES.fullmatch(name)]
        with safe_globals(shells):
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=lazily and is_archive)
        if isinstance(content, Shell):
            content = dict(_tensors_of(content, ""))
    except Exception as error:  # torch.load's readers raise many exceptions
        needed = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"needs {needed[1]}, and unpickling can run any code" if needed else str(error).split(". ")[0][:120]
        raise InputError(f"checkpoint {path}", reason or type(error).__name__, EXPECTED) from error
    if not isinstance(content, Mapping):
        raise InputError(f"checkpoint {path}", f"of type {type(content).__name__}", "a dictionary of tensors")
    return content


def _tensors_of(module: Any, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Return the parameters and buffers of a shell and of the shells in it, by their names in a state dict."""
    for name, tensor in {**module._parameters, **module._buffers}.items():
        if tensor is not None:
            yield prefix + name, tensor
    for name, child in module._modules.items():
        yield from _tensors_of(child, f"{prefix}{name}.")


def write(content: Mapping[str, Any], path: str | Path) -> None:
    """Save a checkpoint atomically; see `common.files.atomic_write`."""
    archive = BytesIO()  # torch.save to a file would hide the OSError of a full disk
    torch.save(dict(content), archive)
    with atomic_write(path) as temporary:
        temporary.write_bytes(archive.getbuffer())


def write_plain(state: Mapping[str, torch.Tensor], metadata: Mapping[str, Any], path: str | Path) -> None:
    """Save tensors alone, as MONAI's tools read them; the JSON beside the file has its SHA-256 and the metadata."""
    write(state, path)
    write_json(Path(path).with_suffix(".json"), {"sha256": digest(path), **metadata})


def read_record(path: str | Path) -> dict[str, Any]:
    """Read the metadata beside a plain state dict; empty without JSON, `InputError` if it is another file's."""
    file = Path(path).with_suffix(".json")
    record = dict(read_json(file)) if file.exists() else {}
    if record and record.pop("sha256", None) != digest(path):
        raise InputError(f"checkpoint {path}", f"its SHA-256 is not in {file}", "its own JSON, or none")
    return record
