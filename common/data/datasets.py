"""Datalists as MONAI datasets, with an endless training order.

The data depend only on the seed and the position in the order. A resumed run, or a run with a different number of
workers, therefore sees the same data as an uninterrupted run.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, Self

import ignite.distributed as idist
import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.utils import MAX_SEED
from torch.utils.data import Sampler

from ..errors import ArgumentError, InputError, chain_of, explained, is_disk_full, one_line
from .scan_checks import files_in
from .store import Store


class Draw(int):
    """The index of a case in a dataset, and the `seed` for its random transforms, which MONAI's datasets ignore."""

    seed: int

    def __new__(cls, case: int, seed: int = 0) -> Self:
        draw = super().__new__(cls, case)
        draw.seed = seed
        return draw


class CaseDataset(CacheDataset):
    """MONAI's `CacheDataset` with errors that name the subject and the file instead of a transform.

    Args:
        data: Entries as `common.data.Datalist.load` returns them. An entry may lack "subject", as in MONAI's
            `workflow.dataset_data = [{"image": path}]`: the subject is then the name of its first file.
        transform: MONAI `Compose`.
        cache_rate: Share of the cases to keep in memory, after the deterministic transforms; 0 to 1.
        store: Folder of a `common.data.store.Store` with all cases, in place of the cache; None: the original files.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable[..., Any],
        cache_rate: float = 0.0,
        store: str | None = None,
    ) -> None:
        cases = [_case_of(entry) for entry in data]
        subjects = [case["subject"] for case in cases]
        if len({*subjects}) < len(subjects):
            name = max(subjects, key=subjects.count)
            raise InputError("dataset_data", f"two cases are called {name}", 'a "subject" each')
        is_main = idist.get_rank() == 0
        super().__init__(cases, transform, cache_rate=0 if store else cache_rate, progress=is_main)
        self.store = None if store is None else Store(Path(store).expanduser(), self.transform)
        if self.store is not None and (missing := self.store.missing(cases)):
            problem = f"lacks {len(missing)} of {len(data)} subjects with these files and settings"
            cure = f"such as {missing[0]['subject']}; run python -m scripts.store with the options of this run"
            raise ArgumentError("store", store, f"{problem}, {cure}")

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, Draw):
            self.transform.set_random_state(seed=index.seed)
        return super().__getitem__(index)

    def _load_cache_item(self, index: int) -> Any:
        with naming_errors(self.data[index]):
            return super()._load_cache_item(index)

    def _transform(self, index: int) -> Any:
        with naming_errors(self.data[index]):
            return super()._transform(index) if self.store is None else self.store.read(self.data[index])


def _case_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry with a list of images and a subject, by default the name of the first image."""
    files = [entry["image"]] if isinstance(entry["image"], str | Path) else entry["image"]
    if "subject" in entry:
        return {**entry, "image": files}
    return {**entry, "image": files, "subject": Path(next(file for file in files if file)).name.split(".")[0]}


@contextmanager
def naming_errors(entry: Mapping[str, Any]) -> Iterator[None]:
    """Context manager: turn an exception of the block into an `InputError` that names the entry's subject."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error) or isinstance(error, MemoryError):  # the files are not the cause
            raise
        subject = f"subject {entry['subject']}: "
        message = explained(error)
        if message is None:
            message = f"cannot be prepared: {one_line(list(chain_of(error))[-1])} ({', '.join(files_in(entry))})"
        raise InputError(subject + message.removeprefix(subject)) from error


class CaseSampler(Sampler[Draw]):
    """An endless training order: passes over all cases, each in a new random order, starting at `position`.

    With the person of each case, no batch of `batch_size` cases has two of one person, so that none is the other's
    negative in a contrastive loss (`apart`).
    """

    def __init__(self, data: Sized, seed: int = 0, people: Sequence[str] = (), batch_size: int = 1) -> None:
        self.cases, self.seed, self.position = len(data), seed, 0
        self.people, self.batch_size = people, batch_size

    def __iter__(self) -> Iterator[Draw]:
        before: list[int] = []  # cases of the pass before, in the batch with this pass's first
        for epoch in count(0 if self.people else self.position // self.cases):
            order = np.random.default_rng([self.seed, 0, epoch]).permutation(self.cases).tolist()
            order = apart(order, self.people, self.batch_size, before) if self.people else order
            start = epoch * self.cases
            for position in range(max(start, self.position), start + self.cases):
                yield Draw(order[position - start], _seed_of(self.seed, 1, position))
            left = (start + self.cases) % self.batch_size
            before = (before + order)[-left:] if left else []


def fixed_draws(data: CaseDataset, seed: int = 0, people: Sequence[str] = (), batch_size: int = 1) -> list[Draw]:
    """Return a `Draw` for each case, so that self-supervised validation always has the same random crops.

    A case's crops depend only on `seed` and the subject's name, not on other subjects, workers or processes. The order
    is that of the data, but for people who would occur twice in a batch.
    """
    order = apart(range(len(data)), people, batch_size) if people else range(len(data))
    return [Draw(case, _seed_of(seed, 2, *str(data.data[case]["subject"]).encode())) for case in order]


def apart(order: Sequence[int], people: Sequence[str], size: int, before: Sequence[int] = ()) -> list[int]:
    """Swap cases so that, if possible, no batch of `size` has two of one person; others keep their places.

    `people` has the person of each case; `before`, shorter than a batch, are the cases that begin the first batch.
    """
    cases = [*before, *order]
    names = [people[case] for case in cases]
    for place in range(len(before), len(cases)):
        first = place - place % size
        if names[place] not in names[first:place]:
            continue
        for other in chain(range(first + size, len(cases)), range(len(before), first)):
            begin = other - other % size
            rest = names[begin:other] + names[other + 1 : begin + size]
            if names[other] not in names[first:place] and names[place] not in rest:
                cases[place], cases[other] = cases[other], cases[place]
                names[place], names[other] = names[other], names[place]
                break
    return cases[len(before) :]


def _seed_of(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1)[0]) % MAX_SEED


class Batches:
    """The batches of an optimiser step, read one by one to save memory."""

    def __init__(self, batches: Iterator[Any], length: int) -> None:
        self._batches, self._length = batches, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return islice(self._batches, self._length)


class Steps:
    """Endless iterator over the optimiser steps of a training run; each item is the step's `Batches`.

    `dataloader` has a `CaseSampler`; a step has `accumulation_steps` batches, in pinned memory for a GPU.
    `waited` is the total time that this process has waited for batches, in seconds.
    """

    def __init__(self, dataloader: DataLoader, accumulation_steps: int = 1, device: str | torch.device = "cpu") -> None:
        self.dataloader, self.accumulation_steps = dataloader, accumulation_steps
        self.dataset, self.waited = dataloader.dataset, 0.0
        dataloader.pin_memory = torch.device(device).type == "cuda"

    def __iter__(self) -> Iterator[Batches]:
        batches = self._timed(iter(self.dataloader))
        while True:
            yield Batches(batches, self.accumulation_steps)

    def _timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        start = time.monotonic()
        for batch in batches:
            self.waited += time.monotonic() - start
            yield batch
            start = time.monotonic()

    def begin_after(self, iteration: int) -> None:
        """Make the next iterator start after the first `iteration` optimiser steps, as a resumed run does."""
        self.dataloader.sampler.position = iteration * self.accumulation_steps * self.dataloader.batch_size
