"""The endless order of the cases in a training, and its optimiser steps.

The data depend only on the seed and the position in the order, whether a run is resumed, and with any workers.
"""

import time
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Any

import numpy as np
import torch
from monai.data import DataLoader
from monai.utils import MAX_SEED
from torch.utils.data import Sampler

from ..data.datasets import CaseDataset, Draw


class CaseSampler(Sampler[Draw]):
    """An endless training order: passes over all cases, each in a new random order, starting at `position`.

    With the person of each case, no batch has two cases of one, negatives of each other in a contrastive loss.
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

    A case's crops depend only on `seed` and the subject's name. The order is that of the data, if people allow it.
    """
    order = apart(range(len(data)), people, batch_size) if people else range(len(data))
    return [Draw(case, _seed_of(seed, 2, *str(data.data[case]["subject"]).encode())) for case in order]


def apart(order: Sequence[int], people: Sequence[str], size: int, before: Sequence[int] = ()) -> list[int]:
    """Swap cases so that, if possible, no batch of `size` has two of one person; `before` begin the first batch."""
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


@dataclass
class Batches:
    """The batches of an optimiser step, read one by one to save memory."""

    batches: Iterator[Any]
    length: int

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        return islice(self.batches, self.length)


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
