"""The cases of a datalist as a MONAI dataset, their endless order in training, and their parts across processes.

What a training reads is a function of its seed and of the number of the case in the training's order alone. A run that
is resumed anywhere, or read by another number of workers, therefore sees what the run that was never stopped sees.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
from monai.data import CacheDataset, DataLoader, partition_dataset
from monai.utils import MAX_SEED
from torch.utils.data import Sampler

from common.checks import broken_file
from common.preflight import InputError, reason

__all__ = ["Batches", "CaseDataset", "CaseSampler", "Draw", "Steps", "files_of", "share"]


class Draw(NamedTuple):
    """A case to read: its place in the dataset, and the seed of its random transforms."""

    case: int
    seed: int


class CaseDataset(CacheDataset):
    """MONAI's `CacheDataset`, whose errors name the subject and the file that broke instead of a transform.

    Args:
        data: entries as `common.datalists.load` returns them.
        transform: a MONAI `Compose`.
        cache_rate: share of the cases kept in memory, after the transforms that are not random; 0 to 1.

    Raises:
        InputError: a case cannot be read or transformed.
    """

    def __init__(self, data: Sequence[dict[str, Any]], transform: Callable[..., Any], cache_rate: float = 0.0) -> None:
        # One thread: MONAI's NibabelReader keeps the last call's file names; threads that share it lose channels.
        super().__init__(data, transform, cache_rate=cache_rate, num_workers=1, progress=False)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, Draw):
            self.transform.set_random_state(seed=index.seed)
            index = index.case
        return super().__getitem__(index)

    def _load_cache_item(self, index: int) -> Any:
        with _named(self.data[index]):
            return super()._load_cache_item(index)

    def _transform(self, index: int) -> Any:
        with _named(self.data[index]):
            return super()._transform(index)


@contextmanager
def _named(entry: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        message = reason(error)
        if message is None:
            message = _what_broke(entry, error)
        subject = f"subject {entry['subject']}: "
        raise InputError(subject + message.removeprefix(subject)) from error


def _what_broke(entry: Mapping[str, Any], error: BaseException) -> str:
    """The file of a case that cannot be read; where all can be, what the transforms could not do, and all files."""
    if broken := broken_file(_files(entry)):
        return f"{broken[0]}: {broken[1]}; expected a NIfTI file that can be read"
    while error.__cause__ is not None:
        error = error.__cause__
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"cannot be prepared: {text} ({', '.join(map(str, _files(entry)))})"


def files_of(dataset: CaseDataset, subjects: Iterable[str]) -> list[str]:
    """The files of some subjects of a dataset, each named once."""
    entries = [entry for entry in dataset.data if entry["subject"] in set(subjects)]
    return list(dict.fromkeys(str(file) for entry in entries for file in _files(entry)))


def _files(entry: Mapping[str, Any]) -> list[Any]:
    return [file for file in [*entry["image"], entry.get("label")] if file]


def share(cases: Sequence[Any], rank: int, processes: int, split: str) -> list[Any]:
    """Each process its own part of a split, none twice: what all of them cache is the split, once.

    Raises:
        InputError: there are fewer cases than processes.
    """
    if len(cases) < processes:
        raise InputError(f"split {split}: {len(cases)} cases for {processes} processes; expected one each at least")
    return partition_dataset(cases, num_partitions=processes)[rank]


class CaseSampler(Sampler[Draw]):
    """The order of a training: pass after pass over the cases, without end, each pass in an order of its own.

    Args:
        cases: how many there are.
        seed: of the orders and of the random transforms.

    Attributes:
        position: number of the case that the next iteration over the sampler begins with.
    """

    def __init__(self, cases: int, seed: int = 0) -> None:
        self.cases, self.seed, self.position = cases, seed, 0

    def __iter__(self) -> Iterator[Draw]:
        order = None
        for position in count(self.position):
            number, place = divmod(position, self.cases)
            if order is None or place == 0:
                order = np.random.default_rng([self.seed, 0, number]).permutation(self.cases)
            seed = np.random.SeedSequence([self.seed, 1, position]).generate_state(1)[0]
            yield Draw(int(order[place]), int(seed) % MAX_SEED)


class Batches:
    """The batches of one optimiser step, read one after the other: no more than one is in memory."""

    def __init__(self, batches: Iterator[Any], length: int) -> None:
        self._batches, self._length = batches, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return islice(self._batches, self._length)


class Steps:
    """The optimiser steps of a training, without end: each `Batches` of a DataLoader with a `CaseSampler`.

    Args:
        dataloader: what reads the batches.
        accumulation_steps: batches of each step.
    """

    def __init__(self, dataloader: DataLoader, accumulation_steps: int = 1) -> None:
        self.dataloader, self.accumulation_steps = dataloader, accumulation_steps
        self.dataset = dataloader.dataset

    def __iter__(self) -> Iterator[Batches]:
        batches = iter(self.dataloader)
        while True:
            yield Batches(batches, self.accumulation_steps)

    def begin_after(self, iteration: int) -> None:
        """Let the next iteration over the steps begin where `iteration` steps have been made."""
        self.dataloader.sampler.position = iteration * self.accumulation_steps * self.dataloader.batch_size
