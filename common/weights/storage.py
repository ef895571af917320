"""Load checkpoint files without running code from them, and save them atomically."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch

from ..errors import InputError, within
from ..files import atomic_write, digest
from . import shells
from .records import SAFETENSORS, check_file, write_record

OLD_START = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # of files from before PyTorch 1.6
KINDS = {  # pattern for the first bytes of a file that is no checkpoint -> its kind
    rb"version https://git-lfs": "a pointer of Git LFS, which `git lfs pull` replaces",
    rb"\s*<(!|html|\?xml)": "a web page",
    rb"\x80[\2-\5]": "a plain pickle",
    rb".{8}\{": "safetensors; rename it to .safetensors",
    rb"\Z": "empty",
}
REMEDY = "the file's author can save the tensors alone with torch.save({'state_dict': model.state_dict()}, 'G.pt')"
UNREAD = "cannot be read as tensors alone"
EXPECTED = "expected a complete file of torch.save (docs/how-to/use-the-papers-weights.md)"


def load(path: str | Path, lazily: bool = False) -> Mapping[str, Any]:
    """Load the dictionary in a file of torch.save or safetensors; `lazily` reads torch.save's tensors on first use."""
    file = check_file(path)
    with within(f"checkpoint {path}"):
        return _load(file, lazily)


def _load(path: Path, lazily: bool) -> Mapping[str, Any]:
    is_pickled = path.suffix != SAFETENSORS  # as torch.load decides
    expected = EXPECTED if is_pickled else EXPECTED.replace("torch.save", "safetensors")
    try:
        is_archive = is_pickled and is_zipfile(path)
        if is_pickled and not is_archive:
            _check_start(path)
        if is_archive and not lazily:
            _check_sums(path)
        if is_archive and (tensors := shells.read(path)) is not None:
            return tensors
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error below says the same
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=lazily and is_archive)
    except InputError:
        raise
    except Exception as error:  # torch.load's readers raise many exceptions
        if "unable to mmap" in str(error):  # out of memory
            raise
        raise InputError(UNREAD, f"{_reason(error)}; {expected}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"of type {type(content).__name__}; expected a dictionary of tensors")
    return content


def _check_sums(path: Path) -> None:
    """Verify the checksums of an archive: torch.load does not, so a flipped bit would change a weight unnoticed."""
    with ZipFile(path) as archive:
        if broken := archive.testzip():
            raise InputError(f"damaged: the checksum of {broken} is wrong")


def _check_start(path: Path) -> None:
    """Refuse a file without the first bytes of a torch.save file from before PyTorch 1.6."""
    with path.open("rb") as file:
        start = file.read(100)
    if not start.startswith(OLD_START):
        kind = next(
            (kind for pattern, kind in KINDS.items() if re.match(pattern, start, re.IGNORECASE | re.DOTALL)), "damaged"
        )
        raise InputError(UNREAD, f"{kind}; {EXPECTED}")


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
