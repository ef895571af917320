"""Handlers that MONAI and Ignite lack: progress, what a run will cost, pictures."""

import gc
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from common.files import whole
from common.preflight import InputError
from common.records import peak_memory

__all__ = ["Forecast", "Pictures", "Progress", "leave_process_group"]


class Forecast:
    """Say what a training will cost: steps, samples and disk before it starts, time and memory after its first steps.

    Args:
        cases: of the training split.
        batch_size: crops that one process takes at a time.
        accumulation_steps: batches of one optimiser step.
        processes: that train together.
        network: trained by an optimiser that keeps two moments of each parameter, as AdamW does.
        save_dir: where checkpoints go.
        keep: how many states to resume from are kept there.

    Raises:
        InputError: the disk of `save_dir` has less space than the checkpoints need.
    """

    STEPS = 10  # that are timed, after a first one that also fills caches

    def __init__(
        self,
        cases: int,
        batch_size: int,
        accumulation_steps: int,
        processes: int,
        network: nn.Module,
        save_dir: str,
        keep: int,
    ) -> None:
        self.cases, self.network, self.folder, self.keep = cases, network, Path(save_dir), keep
        self.crops = batch_size * accumulation_steps * processes
        self.batches = f"{batch_size} x {accumulation_steps} batches x {processes} processes"
        self._start = 0.0

    def attach(self, engine: Engine) -> None:
        """Tell of the run of the trainer `engine`."""
        engine.add_event_handler(Events.STARTED, self._plan)

    def _plan(self, engine: Engine) -> None:
        done, left = engine.state.iteration, _steps_left(engine)
        crops = left * self.crops
        each = f"{crops / self.cases:.1f} for each of {self.cases:,} cases"
        print(f"to do: {left:,} steps of {self.crops} crops ({self.batches}): {crops:,} crops, {each}")
        there = sum(
            file.stat().st_size for file in [*self.folder.glob("iteration-*.pt"), *self.folder.glob("model.pt")]
        )
        needed, free = max(0, self._disk() - there) / 2**30, shutil.disk_usage(self.folder).free / 2**30
        print(f"disk: {needed:.2f} GiB more for the checkpoints in {self.folder}; {free:.2f} GiB free", flush=True)
        if needed > free:
            raise InputError(f"--ckpt_dir={self.folder}: {free:.2f} GiB free; expected {needed:.2f} GiB at least")
        if timed := min(self.STEPS, left // 2):
            engine.add_event_handler(Events.ITERATION_COMPLETED(once=done + 1), self._begin)
            engine.add_event_handler(Events.ITERATION_COMPLETED(once=done + 1 + timed), self._tell, timed)

    def _disk(self) -> int:
        """Bytes of model.pt and of the states, each while a new one is written beside the old."""
        weights = sum(value.numel() * value.element_size() for value in self.network.state_dict().values())
        moments = 2 * sum(value.numel() * value.element_size() for value in self.network.parameters())
        return 2 * weights + (self.keep + 1) * (weights + moments)

    def _begin(self) -> None:
        self._start = time.monotonic()

    def _tell(self, engine: Engine, timed: int) -> None:
        seconds = (time.monotonic() - self._start) / timed
        left = timedelta(seconds=round(seconds * _steps_left(engine)))
        memory = ", ".join(f"{value:.2f} GiB {name}" for name, value in _named_memory().items())
        tqdm.write(f"time: {seconds:.2f} s a step, so about {left} to go; peak memory of one process: {memory}")


def _steps_left(engine: Engine) -> int:
    return engine.state.epoch_length * engine.state.max_epochs - engine.state.iteration


def _named_memory() -> dict[str, float]:
    names = {"peak_memory_gib": "RAM", "peak_gpu_memory_gib": "on the GPU"}
    return {names[name]: value for name, value in peak_memory().items()}


class Progress:
    """A progress bar over the whole run, in steps, with the time left and the latest loss.

    Args:
        name: what is shown before the bar.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._bar = tqdm(disable=True)  # until the run starts

    def attach(self, engine: Engine) -> None:
        """Show the progress of `engine`."""
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED, lambda: self._bar.close())
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._abandon)

    def _open(self, engine: Engine) -> None:
        self._bar = tqdm(
            total=engine.state.max_epochs * engine.state.epoch_length,
            initial=engine.state.iteration,
            desc=self.name,
            unit="step",
            mininterval=0.5 if sys.stderr.isatty() else 20,  # seconds; a log file needs fewer lines
            dynamic_ncols=True,
        )

    def _abandon(self, engine: Engine, error: Exception) -> None:
        self._bar.close()  # so that what is said of the error begins a line of its own
        raise error

    def _advance(self, engine: Engine) -> None:
        if self._bar.update() and isinstance(engine.state.output, Mapping) and "loss" in engine.state.output:
            self._bar.set_postfix(loss=f"{engine.state.output['loss'].item():.3f}", refresh=False)


class Pictures:
    """Draw what a validation or an evaluation saw, as PNG files and into TensorBoard.

    Args:
        output_dir: the files go to its folder `pictures`, the events to `tensorboard/pictures`.
        draw: makes figures by file name, from the engine's output and batch: see `common.pictures`.
        last_only: draw the last batch of a run only.
    """

    def __init__(
        self, output_dir: str, draw: Callable[[Any, Any], Mapping[str, Figure]], last_only: bool = False
    ) -> None:
        self.folder = Path(output_dir)
        self.draw, self.last_only = draw, last_only
        self.writer = SummaryWriter(self.folder / "tensorboard" / "pictures")

    def attach(self, engine: Engine) -> None:
        """Draw what `engine` has put out."""
        event = Events.EPOCH_COMPLETED if self.last_only else Events.ITERATION_COMPLETED
        engine.add_event_handler(event, self)

    def __call__(self, engine: Engine) -> None:
        for name, figure in self.draw(engine.state.output, engine.state.batch).items():
            with whole(self.folder / "pictures" / f"{name}.png") as file:
                figure.savefig(file, dpi=110, format="png")
            self.writer.add_figure(name, figure, engine.state.epoch)
        self.writer.flush()


def leave_process_group() -> None:
    """End the distributed process group; for `atexit`.

    gloo aborts in about half the runs where the group is destroyed while a DistributedDataParallel module is alive. At
    exit the config that held it is gone, but for reference cycles, which are collected first.
    """
    gc.collect()
    dist.destroy_process_group()
