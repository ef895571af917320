"""Read a pickled network of PyTorch's and MONAI's classes without running them: each becomes an empty shell."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

CLASSES = re.compile(  # the first is the wrapper in BrainSegFounder's ATLAS-finetune; no repository has it
    r"__(mp_)?main__\.ATLASPredictor|(torch\.(nn\.modules|nn\.parallel|distributed)|monai\.networks)(\.\w+)+"
)


class Shell:
    """Object of any class in `CLASSES`: it keeps its state as attributes, and has no code."""

    def __new__(cls, *_: Any) -> "Shell":
        return super().__new__(cls)


def read(path: Path) -> dict[str, torch.Tensor] | None:
    """Return the tensors of the pickled network of BrainSegFounder's ATLAS-finetune; None for any other file.

    PyTorch's safe reader refuses all names except those of tensors and `CLASSES`.
    """
    with ZipFile(path) as archive:
        programs = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if not any(b"ATLASPredictor" in archive.read(name) for name in programs):
            return None
    names = get_unsafe_globals_in_checkpoint(path)
    shells: list[Any] = [(Shell, name) for name in names if CLASSES.fullmatch(name)]
    with safe_globals(shells):
        return dict(_tensors(torch.load(path, map_location="cpu", weights_only=True), ""))


def _tensors(module: Any, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Return the parameters and buffers of a shell and of the shells in it, by their names in a state dict."""
    for name, tensor in {**module._parameters, **module._buffers}.items():
        if tensor is not None:
            yield prefix + name, tensor
    for name, child in module._modules.items():
        yield from _tensors(child, f"{prefix}{name}.")
