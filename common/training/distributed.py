"""Processes of a training run: process group, ranks and devices."""

import atexit
import gc
import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist
from monai.data import partition_dataset

from ..errors import InputError

SEED_STEP = 100_000  # difference between the seeds of consecutive ranks
PATIENCE = timedelta(minutes=30)  # longest wait for other processes


class Processes:
    """Group of the `count` processes that torchrun started (NCCL on GPUs, gloo on CPUs), or a single process.

    `multi_gpu` tells whether the network is wrapped for several processes, as in `multi_gpu_train.yaml`. The main
    process, of `rank` 0, logs and writes files. `device` is this process's GPU, or the CPU.
    """

    def __init__(self, multi_gpu: bool = False) -> None:
        if multi_gpu and not dist.is_initialized():
            _join_group()
        self.rank, self.count = idist.get_rank(), idist.get_world_size()
        self.is_main = self.rank == 0
        has_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda", torch.cuda.current_device()) if has_gpu else torch.device("cpu")

    def on_main(self, action: Callable[[], Any]) -> Any:
        """Run `action` on the main process; all processes must call this, and get its result or `InputError`."""
        outcome: list[Any] = [None]
        if self.is_main:
            try:
                outcome = [action()]
            except InputError as error:
                outcome = [error]
        if dist.is_initialized():
            dist.broadcast_object_list(outcome)
        if isinstance(outcome[0], InputError):
            raise outcome[0]
        return outcome[0]

    def seed(self, seed: int) -> int:
        """Return this process's seed, derived from the run's seed."""
        return seed + SEED_STEP * self.rank

    def share(self, cases: Sequence[Any]) -> list[Any]:
        """Return this process's part of a split's cases; parts are disjoint, so each case is cached once."""
        return partition_dataset(cases, num_partitions=self.count)[self.rank]


def _join_group() -> None:
    """Join torchrun's process group."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    hook = sys.excepthook
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    sys.excepthook = hook  # PyTorch replaces the hook
    atexit.register(leave_process_group)
    idist.sync()  # Ignite must join the group on every rank before a handler runs on rank 0 alone


def leave_process_group() -> None:
    """Destroy the process group, after DistributedDataParallel modules in reference cycles: gloo aborts otherwise."""
    gc.collect()
    dist.destroy_process_group()
