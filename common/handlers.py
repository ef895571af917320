"""Handlers that MONAI and Ignite lack: progress, checkpoints that resume, pictures."""

import gc
import math
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from monai.data.utils import set_rnd
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from common import weights
from common.preflight import InputError, flag

__all__ = ["Checkpoints", "FiniteLoss", "Pictures", "Progress", "leave_process_group"]


# Settings that a resumed run may change
RESUMABLE = {"iterations", "num_workers", "cache_rate", "datalist", "versions"}


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


class Checkpoints:
    """Write `model.pt` whenever validation was better than ever, `last.pt` after every epoch; resume from the latter.

    `model.pt` holds the network and what it was trained with. `last.pt` holds besides all that a run needs to go on:
    optimiser, schedule, trainer, the best metric and the random states of every rank. Files are written whole or not at
    all. List it before the validation handler: it resumes first, and saves after every other handler of the epoch.

    Args:
        save_dir: folder of the two files.
        network: the unwrapped network, so that no key begins with `module.`.
        objects: what else has a state, the same on all ranks, by name.
        local_objects: what has a state of its own on each rank, by name.
        metadata: what the network was trained with; plain values.
        validator: the evaluator whose key metric decides.
        lower_is_better: whether a smaller metric is the better one.
        resume: go on from `last.pt`.
        main_process: whether this rank writes.

    Raises:
        InputError: `resume`, and there is no `last.pt`; or one is there, and not `resume`.
    """

    def __init__(
        self,
        save_dir: str,
        network: nn.Module,
        objects: Mapping[str, Any],
        metadata: Mapping[str, Any],
        validator: Engine,
        local_objects: Mapping[str, Any] | None = None,
        lower_is_better: bool = False,
        resume: bool | str = False,
        main_process: bool = True,
    ) -> None:
        self.best_file, self.last_file = Path(save_dir) / "model.pt", Path(save_dir) / "last.pt"
        self.resume = flag("resume", resume)
        if self.resume and not self.last_file.is_file():
            raise InputError(f"--resume=true: no {self.last_file} to go on from; expected one that a run has left")
        if not self.resume and self.last_file.exists():
            expected = "expected --resume=true to go on with it, or another folder"
            raise InputError(f"--ckpt_dir={save_dir}: holds the last.pt of an earlier run; {expected}")
        self.network, self.objects, self.local_objects = network, dict(objects), dict(local_objects or {})
        self.metadata = dict(metadata) | {"versions": weights.versions()}
        self.validator, self.sign = validator, -1 if lower_is_better else 1
        self.main_process = main_process
        self.best = -self.sign * math.inf

    def attach(self, trainer: Engine) -> None:
        """Save and resume the run of `trainer`."""
        trainer.add_event_handler(Events.STARTED, self._start)
        self.validator.add_event_handler(Events.EPOCH_COMPLETED, self._save_best, trainer)

    def _start(self, trainer: Engine) -> None:
        if self.resume:
            self._load(trainer)
        trainer.add_event_handler(Events.EPOCH_STARTED, _seed_transforms)  # after the random states are restored
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._save_last)  # now, so that it comes last

    def _save_best(self, trainer: Engine) -> None:
        metric = self.validator.state.metrics[self.validator.state.key_metric_name]
        if not self.sign * metric > self.sign * self.best:  # as of a metric that is not a number
            return
        self.best = metric
        if self.main_process:
            reached = {"iteration": trainer.state.iteration, self.validator.state.key_metric_name: metric}
            content = {"network": self.network.state_dict(), "metadata": self.metadata | {"reached": reached}}
            weights.write(content, self.best_file)

    def _save_last(self, trainer: Engine) -> None:
        ranks = _gather({"random": _random_state()} | _states(self.local_objects))
        if self.main_process:
            content = _states(self._shared(trainer)) | {"best": self.best, "ranks": ranks, "metadata": self.metadata}
            weights.write(content, self.last_file)

    def _load(self, trainer: Engine) -> None:
        content = weights.load(self.last_file)
        self._refuse_other_settings(content.get("metadata"))
        max_epochs = trainer.state.max_epochs
        try:
            for name, item in self._shared(trainer).items():
                length = getattr(item, "t_total", None)  # of a schedule: this run's, not that of the run before
                item.load_state_dict(content[name])
                if length is not None:
                    item.t_total = length
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(
                f"--resume=true: {self.last_file} is not a last.pt of this network ({error!r:.80})"
            ) from error
        trainer.state.max_epochs = max_epochs
        self.best = content["best"]
        ranks = content["ranks"]
        if len(ranks) == idist.get_world_size():
            self._set_local_state(trainer, ranks[idist.get_rank()])
        elif self.main_process:
            print(f"resume: {len(ranks)} processes wrote {self.last_file}; random numbers begin anew", flush=True)

    def _refuse_other_settings(self, before: Any) -> None:
        """What a run was started with stays; only its length and how it reads data may change."""
        if not isinstance(before, Mapping):
            raise InputError(
                f"--resume=true: {self.last_file} does not say its settings; expected one that a run has left"
            )
        for name in sorted(before.keys() & self.metadata.keys() - RESUMABLE):
            if before[name] != self.metadata[name]:
                raise InputError(
                    f"--{name}={self.metadata[name]}: the run to resume has {before[name]}; expected the same"
                )

    def _shared(self, trainer: Engine) -> dict[str, Any]:
        scaler = getattr(trainer, "scaler", None)
        return {"network": self.network, "trainer": trainer, **self.objects} | ({"scaler": scaler} if scaler else {})

    def _set_local_state(self, trainer: Engine, state: Mapping[str, Any]) -> None:
        next_epoch = Events.EPOCH_STARTED(once=trainer.state.epoch + 1)  # after a validation at the start
        trainer.add_event_handler(next_epoch, lambda: _set_random_state(state["random"]))
        for name, item in self.local_objects.items():
            item.load_state_dict(state[name])


class FiniteLoss:
    """End a training whose loss is NaN or infinite, before anything of it is saved, and name the subjects."""

    def attach(self, engine: Engine) -> None:
        """Watch the trainer `engine`."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        loss = engine.state.output["loss"].item()
        if not math.isfinite(loss):
            subjects = ", ".join(map(str, engine.state.batch.get("subject", [])))
            raise InputError(f"the loss is {loss} at iteration {engine.state.iteration}, subjects {subjects}; stopped")


def _seed_transforms(trainer: Engine) -> None:
    """Seed the random transforms from PyTorch's generator: they have generators of their own, in no checkpoint."""
    set_rnd(trainer.state.dataloader.dataset, seed=int(torch.randint(2**31, ())))


def _states(objects: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item.state_dict() for name, item in objects.items()}


def _gather(state: Mapping[str, Any]) -> list[Any]:
    """The states of all ranks, in the order of the ranks."""
    if not dist.is_initialized():
        return [state]
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, state)
    return states


def _random_state() -> dict[str, Any]:
    """The states of the generators of Python, NumPy and PyTorch, in types that load with `weights_only=True`."""
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002, MONAI draws from it
    numpy["state"] = {"key": torch.from_numpy(numpy["state"]["key"].astype(np.int64)), "pos": numpy["state"]["pos"]}
    state = {"python": random.getstate(), "numpy": numpy, "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: Mapping[str, Any]) -> None:
    numpy = state["numpy"]
    key = numpy["state"]["key"].numpy().astype(np.uint32)
    random.setstate(state["python"])
    np.random.set_state(numpy | {"state": {"key": key, "pos": numpy["state"]["pos"]}})  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


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
        (self.folder / "pictures").mkdir(parents=True, exist_ok=True)
        for name, figure in self.draw(engine.state.output, engine.state.batch).items():
            figure.savefig(self.folder / "pictures" / f"{name}.png", dpi=110)
            self.writer.add_figure(name, figure, engine.state.epoch)
        self.writer.flush()


def leave_process_group() -> None:
    """End the distributed process group; for `atexit`.

    gloo aborts in about half the runs where the group is destroyed while a DistributedDataParallel module is alive. At
    exit the config that held it is gone, but for reference cycles, which are collected first.
    """
    gc.collect()
    dist.destroy_process_group()
