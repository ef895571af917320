"""Datalists as MONAI datasets, and a store of their volumes."""

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import ignite.distributed as idist
import monai
import numpy as np
import torch
from monai.data import CacheDataset, MetaTensor
from monai.transforms import Compose, RandomizableTrait

from ..errors import ArgumentError, InputError, chain_of, explained, is_disk_full, one_line
from ..files import atomic_write
from .names import files_in
from .transforms import MISSING

FORMAT = 7  # version of a store's files; older versions are ignored
STATE = {"R", "_tracing"}  # attributes of MONAI's transforms that vary during a run or between machines
META = ("affine", "filename_or_obj", MISSING)  # stored metadata of MetaTensors


class Store:
    """A cache of MONAI's `CacheDataset` on disk, mapped into memory: the output of the deterministic transforms.

    The same transforms draw the same crops from it, and a crop of a mapped volume reads only its part of the file. The
    digest in `SUBJECT-DIGEST.pt`, which has image and label, covers the scans (path, size, ctime), the transforms and
    MONAI's version: after a change, stored files are not found. `python -m scripts.store` fills a store.
    """

    def __init__(self, folder: str | Path, data: Sequence[Mapping[str, Any]], transform: Compose) -> None:
        self.folder, self.data, self.transform = Path(folder).expanduser(), data, transform
        self.first_random = transform.get_index_of_first(lambda step: isinstance(step, RandomizableTrait))
        steps = transform.transforms[: self.first_random]
        settings = json.dumps([FORMAT, monai.__version__, steps], default=_described)
        self.files: list[Path] = []
        for entry in data:
            states = [Path(file).stat() for file in files_in(entry)]
            scans = [entry["image"], entry.get("label"), *((state.st_size, state.st_ctime_ns) for state in states)]
            digest = hashlib.blake2b(json.dumps([settings, scans]).encode(), digest_size=8).hexdigest()
            name = re.sub(r"[^\w.-]", "_", entry["subject"])[:100]
            self.files.append(self.folder / f"{name}-{digest}.pt")

    def missing(self) -> list[int]:
        """Return the indices of the entries that are not in the store."""
        return [index for index, file in enumerate(self.files) if not file.exists()]

    def add(self, index: int) -> None:
        """Apply the deterministic transforms to an entry, and store the result."""
        with naming_errors(self.data[index]):
            item, volumes = self.transform(dict(self.data[index]), end=self.first_random), {}
            for key in [key for key in ("image", "label") if key in item]:
                voxels = item[key].as_tensor().clone(memory_format=torch.contiguous_format)
                volumes[key] = voxels, {name: item[key].meta[name] for name in META if name in item[key].meta}
            content = io.BytesIO()
            torch.save(volumes, content)
            with atomic_write(self.files[index]) as file:  # PyTorch itself does not report a full disk
                file.write_bytes(content.getbuffer())

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            stored = torch.load(self.files[index], mmap=True, weights_only=True)
        except RuntimeError as error:
            raise InputError(self.files[index], "damaged; delete it and run python -m scripts.store again") from error
        volumes = {key: MetaTensor(voxels, meta=meta) for key, (voxels, meta) in stored.items()}
        return dict(self.data[index]) | volumes


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


class Draw(int):
    """The index of a case in a dataset, and the `seed` for its random transforms, which MONAI's datasets ignore."""

    seed: int

    def __new__(cls, case: int, seed: int = 0) -> Self:
        draw = super().__new__(cls, case)
        draw.seed = seed
        return draw


class CaseDataset(CacheDataset):
    """MONAI's `CacheDataset` with errors that name the subject and the file instead of a transform.

    `data` has entries as from `common.data.Datalist.load`. An entry may lack "subject", as in MONAI's
    `workflow.dataset_data = [{"image": path}]`: the subject is then the name of its first file. `cache_rate` is the
    share of cases to keep in memory, after the deterministic transforms; the folder of a `Store` replaces this cache.
    """

    def __init__(
        self, data: Sequence[dict[str, Any]], transform: Compose, cache_rate: float = 0.0, store: str | None = None
    ) -> None:
        cases = [_case_of(entry) for entry in data]
        subjects = [case["subject"] for case in cases]
        if len({*subjects}) < len(subjects):
            name = max(subjects, key=subjects.count)
            raise InputError("dataset_data", f"two cases are called {name}", 'a "subject" each')
        cache: Any = {"cache_rate": cache_rate, "progress": idist.get_rank() == 0}
        if store is not None:
            kept = Store(store, cases, transform)
            if missing := kept.missing():
                problem = f"lacks {len(missing)} of {len(data)} subjects with these files and settings"
                cure = f"such as {subjects[missing[0]]}; run python -m scripts.store with the options of this run"
                raise ArgumentError("store", store, f"{problem}, {cure}")
            cache = {"runtime_cache": kept, "copy_cache": False}  # a copy would read whole volumes
        super().__init__(cases, transform, **cache)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, Draw):
            self.transform.set_random_state(seed=index.seed)
        return super().__getitem__(index)

    def _load_cache_item(self, index: int) -> Any:
        with naming_errors(self.data[index]):
            return super()._load_cache_item(index)

    def _transform(self, index: int) -> Any:
        with naming_errors(self.data[index]):
            return super()._transform(index)


def _case_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry with a list of images and a subject, by default the name of the first image."""
    case = {**entry, "image": [entry["image"]] if isinstance(entry["image"], str | Path) else entry["image"]}
    return case if "subject" in case else case | {"subject": Path(files_in(case)[0]).name.split(".")[0]}


@contextmanager
def naming_errors(entry: Mapping[str, Any]) -> Iterator[None]:
    """Context manager: turn an exception of the block into an `InputError` that names the entry's subject."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error) or isinstance(error, MemoryError):  # the files are not the cause
            raise
        subject = f"subject {entry['subject']}: "
        *_, origin = chain_of(error)
        unknown = f"cannot be prepared: {one_line(origin)} ({', '.join(files_in(entry))})"
        raise InputError(subject + (explained(error) or unknown).removeprefix(subject)) from error
