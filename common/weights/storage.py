"""Load checkpoint files without running code from them, and save them atomically."""

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, is_zipfile

import torch

from ..errors import InputError, within
from ..files import atomic_write, digest, values_in
from . import pickles
from .records import SAFETENSORS, check_file, write_record

SHARED, SPARE = 2, 2**28  # limit of tensor bytes: SHARED times the file's size, for tied weights, plus SPARE
END = 22  # bytes of a zip's last record, without comment
KINDS = {  # pattern for the first bytes of a file that is no checkpoint -> its kind
    rb"version https://git-lfs": "a pointer of Git LFS, which `git lfs pull` replaces",
    rb"\s*<(!|html|\?xml)": "a web page",
    rb"\x80[\2-\5]": "a plain pickle",
    rb".{8}\{": "safetensors; rename it to .safetensors",
    rb"\Z": "empty",
}
UNREAD = "cannot be read as tensors alone"
EXPECTED = "expected a complete file of torch.save (docs/how-to/use-public-weights.md)"


def load(path: str | Path, lazily: bool = False) -> Mapping[str, Any]:
    """Load the dictionary in a file of torch.save or safetensors; `lazily` reads torch.save's tensors on first use."""
    file = check_file(path)
    with within(f"checkpoint {path}"):
        return _load(file, lazily)


def _load(path: Path, lazily: bool) -> Mapping[str, Any]:
    is_pickled = path.suffix != SAFETENSORS  # as torch.load decides
    expected = EXPECTED if is_pickled else EXPECTED.replace("torch.save", "safetensors")
    is_archive = is_pickled and _is_archive(path, verifies=not lazily)
    try:
        if is_pickled and not is_archive:
            _check_start(path)
        if is_pickled:
            pickles.check(path, is_archive)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error below says the same
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=lazily and is_archive)
        _check_size(content, SHARED * path.stat().st_size + SPARE)
    except InputError:
        raise
    except Exception as error:  # torch.load's readers raise many exceptions
        if "unable to mmap" in str(error):  # out of memory
            raise
        raise InputError(UNREAD, f"{_reason(error)}; {expected}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"of type {type(content).__name__}; expected a dictionary of tensors")
    return content


def _is_archive(path: Path, verifies: bool) -> bool:
    """Return whether a file is a zip; refuse a zip that torch.save did not write and, with `verifies`, wrong checksums.

    torch.load does not verify checksums, so a flipped bit would change a weight unnoticed.
    """
    try:
        if not is_zipfile(path):
            return False
        with ZipFile(path) as archive:
            compressed = [entry.filename for entry in archive.infolist() if entry.compress_type != ZIP_STORED]
            starts_late = min(entry.header_offset for entry in archive.infolist()) > 0
            inflated = [name for name in compressed if name.split("/")[1:2] != ["code"]]  # which TorchScript compresses
            is_saved = any(name.endswith("/data.pkl") for name in archive.namelist())
            broken = archive.testzip() if verifies and not inflated else None
    except Exception as error:  # zipfile raises many exceptions for damaged archives
        raise InputError(UNREAD, f"{_reason(error)}; {EXPECTED}") from error
    with path.open("rb") as file:
        file.seek(-END, os.SEEK_END)
        ends_early = not file.read().startswith(b"PK\5\6")
    if starts_late or ends_early:
        raise InputError(UNREAD, f"data before or after the archive; {EXPECTED}")
    if not is_saved:
        raise InputError("a zip without data.pkl; expected a file of torch.save")
    if inflated:
        raise InputError(f"{inflated[0]} is compressed, which torch.save never does")
    if broken:
        raise InputError(f"damaged: the checksum of {broken} is wrong")
    return True


def _check_size(content: Any, most: int) -> None:
    """Refuse tensors that need much more memory than their file, such as a single number expanded to a large shape."""
    tensors = {id(value): value for value in values_in(content) if torch.is_tensor(value)}
    sizes = {key: tensor.numel() * tensor.element_size() for key, tensor in tensors.items()}
    if sum(sizes.values()) > most:
        shape = list(tensors[max(sizes, key=sizes.__getitem__)].shape)
        raise InputError(
            f"tensors, such as one of shape {shape}, take {sum(sizes.values())} bytes, much more than the file; "
            "save them as tensor.contiguous()"
        )


def _check_start(path: Path) -> None:
    """Refuse a file without the first bytes of a torch.save file from before PyTorch 1.6."""
    with path.open("rb") as file:
        start = file.read(100)
    if not start.startswith(pickles.OLD_START):
        kind = next(
            (kind for pattern, kind in KINDS.items() if re.match(pattern, start, re.IGNORECASE | re.DOTALL)), "damaged"
        )
        raise InputError(UNREAD, f"{kind}; {EXPECTED}")


def _reason(error: Exception) -> str:
    """Return the first sentence of an error, because PyTorch's messages may fill pages."""
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
