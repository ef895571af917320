"""Load checkpoint files without running code from them, and save them atomically.

A checkpoint from training holds tensors and metadata. A plain state dict, which MONAI's tools can read, holds only
tensors; the JSON beside the file (`model.json` for `model.pt`) holds the file's SHA-256 and the metadata.
"""

import json
import os
import platform
import re
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, is_zipfile

import torch

from .. import __version__
from ..errors import ArgumentError, InputError, within
from ..files import atomic_write, digest, expand_home, valid_json, values_in, why_no_file, write_json
from . import pickles

SHARED, SPARE = 2, 2**28  # limit of tensor bytes: SHARED times the file's size, for tied weights, plus SPARE
SAFETENSORS = ".safetensors"  # suffix
END = 22  # bytes of a zip's last record, without comment
HASH = "sha256"  # entry of the JSON beside a state dict: hash of the file
OTHER_HASH = "safetensors_sha256"  # entry of this JSON: hash of a safetensors file with the same tensors
KINDS = {  # pattern for the first bytes of a file that is no checkpoint -> its kind
    rb"version https://git-lfs": "a pointer of Git LFS, which `git lfs pull` replaces",
    rb"\s*<(!|html|\?xml)": "a web page",
    rb"\x80[\2-\5]": "a plain pickle",
    rb".{8}\{": "safetensors; rename it to .safetensors",
    rb"\Z": "empty",
}
UNREAD = "cannot be read as tensors alone"
EXPECTED = "expected a complete file of torch.save (docs/how-to/use-public-weights.md)"
NOT_A_PATH = "expected the path of one file; prefix a name such as 5 or [a] with ./"


def load(path: str | Path, lazily: bool = False) -> Mapping[str, Any]:
    """Load the dictionary in a file of torch.save or safetensors; `lazily` reads torch.save's tensors on first use."""
    with within(f"checkpoint {path}"):
        return _load(path, lazily)


def _load(path: str | Path, lazily: bool) -> Mapping[str, Any]:
    if not _is_path(path):
        raise InputError(NOT_A_PATH)
    path = Path(path)
    if not path.is_file():
        hint = "; quote the paths of a list, as in ['a.pt','b.pt']" if str(path).startswith("[") else ""
        raise InputError(why_no_file(path) + hint)
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


def record_of(path: str | Path) -> Path:
    """Return the path of the JSON beside a plain state dict: `models/model.json` for `models/model.pt`."""
    return Path(path).with_suffix(".json")


def write_plain(state: Mapping[str, torch.Tensor], metadata: Mapping[str, Any], path: str | Path) -> None:
    """Save tensors as a plain state dict, and write the metadata to the JSON beside the file; see `write_record`."""
    write(state, path)
    write_record(path, digest(path), metadata)


def write_record(path: str | Path, sha256: str, metadata: Mapping[str, Any]) -> None:
    """Write the JSON beside a plain state dict: SHA-256 and metadata; raise `InputError` if JSON cannot hold them."""
    record = {HASH: sha256, **metadata}
    try:
        json.dumps(record, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(record_of(path), error, "metadata of plain words and numbers") from error
    write_json(record_of(path), record)


def read_record(path: str | Path) -> dict[str, Any] | None:
    """Read a state dict's metadata; None without JSON. Raise `InputError` if the JSON describes a different file."""
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


def path_of(argument: str, value: Any) -> Path:
    """Return an argument as a path, with `~` expanded; refuse empty text, numbers, and lists such as `[a]`."""
    if not _is_path(value):
        raise ArgumentError(argument, value, NOT_A_PATH)
    return expand_home(value, f"--{argument}={value}")


def _is_path(value: Any) -> bool:
    return isinstance(value, str | Path) and bool(str(value).strip())


def versions() -> dict[str, str]:
    """Return the versions of this software, Python and the main packages, for checkpoints and run records."""
    packages = {"torch": "torch", "monai": "monai", "ignite": "pytorch-ignite", "numpy": "numpy"}
    ours = {"brainsegfounder": __version__, "python": platform.python_version()}
    return ours | {name: version(package) for name, package in packages.items()}
