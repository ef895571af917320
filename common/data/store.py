"""A store of prepared volumes, mapped into memory, so that training reads only the crops it needs.

`python -m scripts.store` runs the deterministic transforms once. Crops are identical to crops without a store, because
the same transforms draw them: a crop of a mapped volume reads its own part of the file.
"""

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, RandomizableTrait

from ..errors import InputError
from ..files import atomic_write
from .scan_checks import files_in
from .transforms import MISSING

FORMAT = 7  # version of the files; older versions are ignored
STATE = {"R", "_tracing"}  # attributes of MONAI's transforms that vary during a run or between machines
META = ("affine", "filename_or_obj", MISSING)  # of MetaTensors


class Store:
    """The output of a training config's deterministic transforms, stored for each subject.

    A subject has `SUBJECT-DIGEST.pt`, with image and label. The digest covers the scans (path, size, ctime), the
    transforms and MONAI's version: after a change, stored files are not found.
    """

    def __init__(self, folder: str | Path, transform: Compose) -> None:
        self.folder, self.transform = Path(folder), transform
        steps = transform.transforms
        is_random = [isinstance(step, RandomizableTrait) for step in steps]
        self.first = is_random.index(True) if any(is_random) else len(steps)
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
            self._paths[subject] = self.folder / f"{name}-{digest}.pt"
        return self._paths[subject]

    def missing(self, data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the entries of a datalist that are not in the store."""
        return [dict(entry) for entry in data if not self.path_of(entry).exists()]

    def add(self, entry: Mapping[str, Any]) -> None:
        """Apply the deterministic transforms to a datalist's entry, and store the result."""
        item, volumes = self.transform(dict(entry), end=self.first), {}
        for key in [key for key in ("image", "label") if key in item]:
            voxels = item[key].as_tensor().clone(memory_format=torch.contiguous_format)
            volumes[key] = voxels, {name: item[key].meta[name] for name in META if name in item[key].meta}
        content = io.BytesIO()
        torch.save(volumes, content)
        with atomic_write(self.path_of(entry)) as file:  # PyTorch itself does not report a full disk
            file.write_bytes(content.getbuffer())

    def read(self, entry: Mapping[str, Any]) -> Any:
        """Return a stored entry after all transforms; what they leave of a volume is read, such as a crop."""
        path = self.path_of(entry)
        try:
            stored = torch.load(path, mmap=True, weights_only=True)
        except RuntimeError as error:
            raise InputError(path, "damaged; delete it and run python -m scripts.store again") from error
        volumes = {key: MetaTensor(voxels, meta=meta) for key, (voxels, meta) in stored.items()}
        return self.transform(dict(entry) | volumes, start=self.first)


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
