"""A store of prepared volumes, compressed in chunks with checksums, so that training reads only the crops it needs.

`python -m scripts.store` runs the deterministic transforms once, and any number of processes read the result. Crops are
identical to crops without a store, because the same transforms draw crops from volumes that are read lazily.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import monai
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, RandomizableTrait

from ..errors import ArgumentError, InputError, input_error_message, is_disk_full
from ..files import atomic_write, read_json
from .scan_checks import describe_error, files_in
from .transforms import MISSING

FORMAT = 3  # version of the files; older versions are ignored
CHUNK, BLOCK = 64, 16  # edges in voxels; a block is the smallest unit of decompression
STATE = {"R", "_tracing"}  # attributes of MONAI's transforms that vary during a run or between machines
CROPS = ("RandSpatialCropd", "RandSpatialCropSamplesd")  # crops whose position does not depend on voxels


class Store:
    """The output of a training config's deterministic transforms, stored for each subject.

    A subject has `SUBJECT-DIGEST.json`, and `SUBJECT-DIGEST.KEY.b2nd` for image and label. The digest covers the scans
    (path, size, time of the last change), the transforms and MONAI's version: after a change, stored files are not
    found. The time is the file system's ctime, which no program can set back.
    """

    def __init__(self, folder: str | Path, transform: Compose) -> None:
        self.folder, self.transform = Path(folder), transform
        steps = transform.transforms
        first = transform.get_index_of_first(lambda step: isinstance(step, RandomizableTrait))
        self.first = len(steps) if first is None else first
        crop = type(steps[first]).__name__ if first is not None else ""
        self.crops = crop in CROPS and not steps[first].lazy  # a lazy crop is resampled together with later transforms
        self._settings = [FORMAT, monai.__version__, *map(_as_json, steps[: self.first])]
        self._entries: dict[str, Path] = {}
        self._verified: set[Path] = set()

    def path_of(self, entry: Mapping[str, Any]) -> Path:
        """Return the path of an entry's JSON file, which may not exist yet; raise `InputError` if a scan is missing."""
        if entry["subject"] not in self._entries:
            states = [Path(file).stat() for file in files_in(entry)]
            files = [entry["image"], entry.get("label"), *((state.st_size, state.st_ctime_ns) for state in states)]
            described = json.dumps([self._settings, files]).encode()
            name = re.sub(r"[^\w.-]", "_", entry["subject"])[:100]
            digest = hashlib.blake2b(described, digest_size=8).hexdigest()
            self._entries[entry["subject"]] = self.folder / f"{name}-{digest}.json"
        return self._entries[entry["subject"]]

    def missing(self, data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the entries of a datalist that are not in the store."""
        return [dict(entry) for entry in data if not self._has(entry)]

    def _has(self, entry: Mapping[str, Any]) -> bool:
        path = self.path_of(entry)
        volumes = [_voxels_of(path, key) for key in ("image", "label") if key in entry]
        return all(file.is_file() for file in (path, *volumes))

    def check_complete(self, data: Sequence[Mapping[str, Any]]) -> None:
        """Raise `ArgumentError` unless all entries of a datalist are in the store."""
        if missing := self.missing(data):
            raise ArgumentError(
                f"store={self.folder}: lacks {len(missing)} of {len(data)} subjects with these files and settings, "
                f"such as {missing[0]['subject']}; run python -m scripts.store with the options of this run"
            )

    def add(self, entry: Mapping[str, Any]) -> None:
        """Apply the deterministic transforms to a datalist's entry, and store the result."""
        blosc2 = _blosc2()
        path = self.path_of(entry)
        item = self.transform(dict(entry), end=self.first)
        volumes = {}
        for key in [key for key in ("image", "label") if key in item]:
            array = np.ascontiguousarray(item[key].numpy())
            edges = array.shape[1:]
            compression = blosc2.CParams(codec=blosc2.Codec.LZ4, clevel=5, filters=[blosc2.Filter.SHUFFLE], nthreads=1)
            chunks, blocks = ((1, *(min(size, edge) for edge in edges)) for size in (CHUNK, BLOCK))
            content = blosc2.asarray(array, chunks=chunks, blocks=blocks, cparams=compression).to_cframe()
            with atomic_write(_voxels_of(path, key)) as file:  # by Python, as blosc2 does not report a full disk
                file.write_bytes(content)
            checksum = zlib.crc32(content)
            volumes[key] = {"shape": array.shape, "dtype": array.dtype.name, "crc32": checksum, **_geometry(item[key])}
        content = {"format": FORMAT, "volumes": volumes, "crc32": _checksum(volumes)}
        with atomic_write(path) as file:  # last: this file marks a complete subject
            file.write_text(json.dumps(content))

    def attempt(self, entry: Mapping[str, Any]) -> str:
        """Add a datalist's entry, using one CPU core; return the error in one line, or "" without an error.

        Raise an error if the disk is full or read-only, as no further entry can be stored.
        """
        torch.set_num_threads(1)
        try:
            self.add(entry)
        except Exception as error:
            if is_disk_full(error):
                raise
            return input_error_message(error) or describe_error(entry, error)
        return ""

    def read(self, entry: Mapping[str, Any]) -> Any:
        """Return a stored entry after all transforms; if the first random transform is a crop, read only the crop."""
        path = self.path_of(entry)
        volumes = _volumes(path)
        if self.crops:
            voxels = {
                key: torch.empty(volume["shape"], dtype=getattr(torch, volume["dtype"]))
                for key, volume in volumes.items()
            }
        else:
            voxels = {key: self._voxels(path, key, volumes, (slice(None),)) for key in volumes}
        item = dict(entry) | {key: MetaTensor(voxels[key], meta=_meta(volumes[key])) for key in volumes}
        if not self.crops:
            return self.transform(item, start=self.first)
        crops = self.transform(item, start=self.first, end=self.first + 1)
        for crop in crops if isinstance(crops, list) else [crops]:
            for key in volumes:
                part = self._voxels(path, key, volumes, _slices_of(crop[key], voxels[key]))
                crop[key] = MetaTensor(part, meta=crop[key].meta, applied_operations=crop[key].applied_operations)
        return self.transform(crops, start=self.first + 1)

    def _voxels(self, path: Path, key: str, volumes: Mapping[str, Any], part: tuple[slice, ...]) -> torch.Tensor:
        """Read a part of a volume; verify the file before this process's first read."""
        blosc2 = _blosc2()
        file = _voxels_of(path, key)
        try:
            if file not in self._verified:
                if zlib.crc32(file.read_bytes()) != volumes[key]["crc32"]:
                    raise InputError(f"{file}: damaged: its checksum differs from that in {path.name}")
                self._verified.add(file)
            return torch.from_numpy(blosc2.open(str(file), mode="r", dparams={"nthreads": 1})[part])
        except OSError as error:
            raise InputError(f"{file}: {error.strerror or error}; expected a file written by scripts.store") from error


def _blosc2() -> Any:
    """Import blosc2, which only stores need."""
    try:
        return import_module("blosc2")
    except ImportError as error:
        raise ArgumentError("store: blosc2 is not installed; run pip install blosc2") from error


def _voxels_of(path: Path, key: str) -> Path:
    return path.with_suffix(f".{key}.b2nd")


def _geometry(volume: MetaTensor) -> dict[str, Any]:
    missing = volume.meta.get(MISSING)
    return {
        "affine": volume.affine.tolist(),
        "missing": None if missing is None else missing.tolist(),
        "file": str(volume.meta.get("filename_or_obj", "")),
    }


def _meta(volume: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a stored volume for the random transforms."""
    missing = {} if volume["missing"] is None else {MISSING: torch.tensor(volume["missing"])}
    return {"affine": torch.tensor(volume["affine"], dtype=torch.float64), "filename_or_obj": volume["file"], **missing}


def _volumes(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
        if content["crc32"] != _checksum(content["volumes"]):
            raise ValueError("damaged")
        return dict(content["volumes"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: damaged; delete it and run python -m scripts.store again") from error


def _checksum(volumes: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(volumes, sort_keys=True).encode())


def _slices_of(crop: torch.Tensor, volume: torch.Tensor) -> tuple[slice, ...]:
    """Return the position of a crop in its volume; the crop must share the volume's memory."""
    if crop.stride() != volume.stride() or crop.untyped_storage().data_ptr() != volume.untyped_storage().data_ptr():
        raise RuntimeError(f"the crop {tuple(crop.shape)} is not a view of the volume {tuple(volume.shape)}")
    slices, rest = [], crop.storage_offset()
    for stride, edge in zip(volume.stride(), crop.shape, strict=True):
        start, rest = divmod(rest, stride)
        slices.append(slice(start, start + edge))
    return tuple(slices)


def _as_json(value: Any) -> Any:
    """Convert a transform, or a value of its settings, to JSON that is equal in every process."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.tolist()
    if isinstance(value, Mapping):
        return [[str(name), _as_json(value[name])] for name in sorted(value, key=str)]
    if isinstance(value, Sequence | set | frozenset):
        return [_as_json(item) for item in (value if isinstance(value, Sequence) else sorted(value, key=str))]
    if isinstance(value, FunctionType | type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, Enum | torch.dtype | np.dtype):
        return str(value)
    settings = {name: setting for name, setting in vars(value).items() if name not in STATE}
    return [f"{type(value).__module__}.{type(value).__qualname__}", _as_json(settings)]
