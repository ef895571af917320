"""A store of prepared volumes, compressed in chunks, so that training reads only the crops it needs.

`python -m scripts.store` runs the deterministic transforms once. Crops are identical to crops without a store, because
the same transforms draw crops from volumes that are read lazily.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, RandomizableTrait, RandSpatialCropd, RandSpatialCropSamplesd

from ..files import atomic_write
from .scan_checks import files_in
from .transforms import MISSING

FORMAT = 6  # version of the files; older versions are ignored
CHUNK, BLOCK = 64, 16  # edges in voxels; a block is the smallest unit of decompression
STATE = {"R", "_tracing"}  # attributes of MONAI's transforms that vary during a run or between machines
CROPS = (RandSpatialCropd, RandSpatialCropSamplesd)  # crops whose position does not depend on voxels


class Store:
    """The output of a training config's deterministic transforms, stored for each subject.

    A subject has `SUBJECT-DIGEST.b2nd`, with the channels of image and label. The digest covers the scans (path, size,
    ctime), the transforms and MONAI's version: after a change, stored files are not found.
    """

    def __init__(self, folder: str | Path, transform: Compose) -> None:
        self.folder, self.transform = Path(folder), transform
        steps = transform.transforms
        is_random = [isinstance(step, RandomizableTrait) for step in steps]
        self.first = is_random.index(True) if any(is_random) else len(steps)
        crop = steps[self.first] if any(is_random) else None
        self.crops = isinstance(crop, CROPS) and not crop.lazy  # a lazy crop is resampled with later transforms
        self._settings = json.dumps([FORMAT, monai.__version__, steps[: self.first]], default=_described)
        self._paths: dict[str, Path] = {}

    def path_of(self, entry: Mapping[str, Any]) -> Path:
        """Return the path of an entry's file, which may not exist yet."""
        subject = entry["subject"]
        if subject not in self._paths:
            states = [Path(file).stat() for file in files_in(entry)]
            files = [entry["image"], entry.get("label"), *((state.st_size, state.st_ctime_ns) for state in states)]
            digest = hashlib.blake2b(json.dumps([self._settings, files]).encode(), digest_size=8).hexdigest()
            name = re.sub(r"[^\w.-]", "_", subject)[:100]
            self._paths[subject] = self.folder / f"{name}-{digest}.b2nd"
        return self._paths[subject]

    def missing(self, data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the entries of a datalist that are not in the store."""
        return [dict(entry) for entry in data if not self.path_of(entry).exists()]

    def add(self, entry: Mapping[str, Any]) -> None:
        """Apply the deterministic transforms to a datalist's entry, and store the result."""
        import blosc2  # only stores need it

        item = self.transform(dict(entry), end=self.first)
        volumes = {key: item[key] for key in ("image", "label") if key in item}
        array = np.concatenate([volume.numpy() for volume in volumes.values()])
        chunks, blocks = ((1, *(min(size, edge) for edge in array.shape[1:])) for size in (CHUNK, BLOCK))
        compression = blosc2.CParams(codec=blosc2.Codec.LZ4, clevel=5, filters=[blosc2.Filter.SHUFFLE], nthreads=1)
        stored = blosc2.asarray(array, chunks=chunks, blocks=blocks, cparams=compression)
        for key, volume in volumes.items():
            meta = {"affine": volume.affine.tolist(), "filename_or_obj": str(volume.meta["filename_or_obj"])}
            meta |= {MISSING: volume.meta[MISSING].tolist()} if MISSING in volume.meta else {}
            stored.schunk.vlmeta[key] = {"channels": len(volume), "meta": meta}
        with atomic_write(self.path_of(entry)) as file:  # blosc2 itself does not report a full disk
            file.write_bytes(stored.to_cframe())

    def read(self, entry: Mapping[str, Any]) -> Any:
        """Return a stored entry after all transforms; if the first random transform is a crop, read only the crop."""
        import blosc2

        stored = blosc2.open(str(self.path_of(entry)), mode="r", dparams={"nthreads": 1})
        item, channels, first = dict(entry), dict[str, slice](), 0
        for key, volume in stored.schunk.vlmeta[:].items():
            channels[key] = slice(first, first + volume["channels"])
            first = channels[key].stop
            meta = volume["meta"] | {"affine": torch.tensor(volume["meta"]["affine"], dtype=torch.float64)}
            if MISSING in meta:
                meta[MISSING] = torch.tensor(meta[MISSING])
            shape = volume["channels"], *stored.shape[1:]
            voxels = torch.empty(shape) if self.crops else torch.from_numpy(stored[channels[key]])
            item[key] = MetaTensor(voxels, meta=meta)
        if not self.crops:
            return self.transform(item, start=self.first)
        crops = self.transform(item, start=self.first, end=self.first + 1)
        for crop in crops if isinstance(crops, list) else [crops]:
            for key, selected in channels.items():
                part = torch.from_numpy(stored[(selected, *_slices_of(crop[key], item[key])[1:])])
                crop[key] = MetaTensor(part, meta=crop[key].meta, applied_operations=crop[key].applied_operations)
        return self.transform(crops, start=self.first + 1)


def _slices_of(crop: torch.Tensor, volume: torch.Tensor) -> tuple[slice, ...]:
    """Return the position of a crop in its volume; the crop must share the volume's memory."""
    if crop.stride() != volume.stride() or crop.untyped_storage().data_ptr() != volume.untyped_storage().data_ptr():
        raise RuntimeError("a crop is a copy; the store needs a view")
    slices, rest = [], crop.storage_offset()
    for stride, edge in zip(volume.stride(), crop.shape, strict=True):
        start, rest = divmod(rest, stride)
        slices.append(slice(start, start + edge))
    return tuple(slices)


def _described(value: Any) -> Any:
    """Describe a transform, or a value of its settings, by JSON that is equal in every process."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if hasattr(value, "__qualname__"):  # a function or class
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, torch.dtype | np.dtype):
        return str(value)
    return [_described(type(value)), {name: part for name, part in vars(value).items() if name not in STATE}]
