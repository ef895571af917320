"""What a training leaves on disk and goes on from, to the bit: after a kill, a pre-emption, or on another day."""

import math
import os
import random
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from torch import nn

from common import weights
from common.datasets import Steps
from common.files import leftovers
from common.preflight import InputError, flag

__all__ = ["PREEMPTED", "Checkpoints", "resumable"]

PREEMPTED = 75  # exit status after a signal: EX_TEMPFAIL of sysexits.h, try again
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)  # of SLURM and others some time before they kill; Ctrl-C
RESUMABLE = {  # settings that a resumed run may change
    "iterations",
    "num_workers",
    "cache_rate",
    "save_interval",
    "keep",
    "cohort",
    "compile",
    "activation_checkpointing",
    "datalist",
    "versions",
}


class Checkpoints:
    """Keep a training's best network, and the states to resume it from; end it in order when a signal asks for that.

    `model.pt` holds the network whenever validation was better than ever, and what it was trained with; a validation
    before the first iteration does not count.
    `iteration-N.pt` holds besides all that a run needs to go on: optimiser, schedule, the trainer's counters, the best
    metric and the random states of every rank; the last few of them are kept. A file is written whole or not at all,
    and never with a network that holds NaN.

    After SIGTERM, SIGUSR1 or Ctrl-C to any of its processes the run finishes its iteration (or validation), saves, and
    ends with status 75, which a job script can requeue on. The processes that read data go on until then.

    List it before the validation handler: it resumes first, and saves after every other handler of an epoch.

    Args:
        save_dir: folder of the files.
        network: the unwrapped network, so that no key begins with `module.`.
        objects: what else has a state, the same on all ranks, by name.
        local_objects: what has a state of its own on each rank, by name.
        steps: the trainer's data, to go on where the run left off.
        metadata: what the network was trained with; plain values.
        validator: the evaluator whose key metric decides.
        lower_is_better: whether a smaller metric is the better one.
        save_interval: iterations from one `iteration-N.pt` to the next; each epoch's last iteration is saved besides.
        keep: how many of them are kept.
        source: the one to go on from, if any; see `resumable`.
        main_process: whether this rank writes.

    Raises:
        InputError: `source` holds another network, or is not the same for all processes; the network is not finite
            when it is to be saved.
    """

    def __init__(
        self,
        save_dir: str,
        network: nn.Module,
        objects: Mapping[str, Any],
        steps: Steps,
        metadata: Mapping[str, Any],
        validator: Engine,
        local_objects: Mapping[str, Any] | None = None,
        lower_is_better: bool = False,
        save_interval: int = 100,
        keep: int = 2,
        source: Path | None = None,
        main_process: bool = True,
    ) -> None:
        self.folder, self.source = Path(save_dir), source
        self.network, self.objects, self.local_objects = network, dict(objects), dict(local_objects or {})
        self.steps = steps
        self.metadata = dict(metadata) | {"versions": weights.versions()}
        self.validator, self.sign = validator, -1 if lower_is_better else 1
        self.save_interval, self.keep = save_interval, keep
        self.main_process = main_process
        self.best = -self.sign * math.inf
        self._signal = 0

    def attach(self, trainer: Engine) -> None:
        """Save and resume the run of `trainer`."""
        trainer.add_event_handler(Events.STARTED, self._start)
        self.validator.add_event_handler(Events.EPOCH_COMPLETED, self._save_best, trainer)

    def _start(self, trainer: Engine) -> None:
        before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        trainer.add_event_handler(Events.COMPLETED, lambda: [signal.signal(*item) for item in before.items()])
        for loader in (self.steps.dataloader, self.validator.data_loader):
            loader.worker_init_fn = partial(_begin_worker, loader.worker_init_fn)
        if self.main_process:
            for unfinished in leftovers(self.folder, "iteration-*.pt"):  # of a run that was killed while it saved
                unfinished.unlink()
        _agree(self.source)
        if self.source:
            self._load(trainer, self.source)
        if not trainer.has_event_handler(self._save_or_end):  # as a federated client's trainer starts in each round
            trainer.add_event_handler(Events.ITERATION_COMPLETED, self._after_iteration)  # now, so that they come last
            trainer.add_event_handler(Events.EPOCH_COMPLETED, self._save_or_end)

    def _remember(self, number: int, _: FrameType | None) -> None:
        self._signal = number
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)  # a second one ends the run at once
            print("\nCtrl-C: the run ends after this step; once more ends it now, unsaved", file=sys.stderr, flush=True)

    def _save_best(self, trainer: Engine) -> None:
        metric = self.validator.state.metrics[self.validator.state.key_metric_name]
        if trainer.state.iteration == 0 or not self.sign * metric > self.sign * self.best:  # as of one that is NaN
            return
        self.best = metric
        if self.main_process:
            self._refuse_nan(self.folder / "model.pt")
            reached = {"iteration": trainer.state.iteration, self.validator.state.key_metric_name: metric}
            content = {"network": self.network.state_dict(), "metadata": self.metadata | {"reached": reached}}
            weights.write(content, self.folder / "model.pt")

    def _after_iteration(self, trainer: Engine) -> None:
        iteration = trainer.state.iteration
        if iteration % trainer.state.epoch_length:  # the end of an epoch is saved after its validation
            self._save_or_end(trainer, due=iteration % self.save_interval == 0)

    def _save_or_end(self, trainer: Engine, due: bool = True) -> None:
        number = int(idist.all_reduce(self._signal, op="MAX"))  # one process may have been told, or all
        if not due and not number:
            return
        file = self._save(trainer)
        if number and trainer.state.iteration < trainer.state.epoch_length * trainer.state.max_epochs:
            idist.barrier()  # whoever starts the processes may kill all of them when one has ended
            if self.main_process:
                name = signal.Signals(number).name
                print(f"{name}: saved {file}; --resume=true goes on from it; status {PREEMPTED}", flush=True)
            raise SystemExit(PREEMPTED)

    def _save(self, trainer: Engine) -> Path:
        file = self.folder / f"iteration-{trainer.state.iteration:07d}.pt"
        shared = _states(self._shared(trainer))  # on all ranks: the record reduces what it has measured
        ranks = _gather({"random": _random_state()} | _states(self.local_objects))
        if self.main_process:
            self._refuse_nan(file)
            weights.write(shared | {"best": self.best, "ranks": ranks, "metadata": self.metadata}, file)
            for older in _saved(self.folder)[: -self.keep]:
                older.unlink()
        return file

    def _refuse_nan(self, file: Path) -> None:
        broken = [name for name, value in self.network.state_dict().items() if not value.isfinite().all()]
        if broken:
            raise InputError(f"{file}: not written, as {len(broken)} tensors are not finite, first {broken[0]}")

    def _load(self, trainer: Engine, file: Path) -> None:
        content = weights.load(file)
        max_epochs = trainer.state.max_epochs
        try:
            for name, item in self._shared(trainer).items():
                length = getattr(item, "t_total", None)  # of a schedule: this run's, not that of the run before
                item.load_state_dict(content[name])
                if length is not None and length != item.t_total:
                    _set_length(item, length)
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(f"--resume: {file} does not hold a run of this network ({error!r:.80})") from error
        trainer.state.max_epochs = max_epochs
        if trainer.state.iteration > trainer.state.epoch_length * max_epochs:
            reached = trainer.state.iteration
            raise InputError(f"--iterations={self.metadata.get('iterations')}: {file} has reached {reached} already")
        self.best = content["best"]
        self.steps.begin_after(trainer.state.iteration)
        ranks = content["ranks"]
        if len(ranks) == idist.get_world_size():
            self._set_local_state(trainer, ranks[idist.get_rank()])
        elif self.main_process:
            print(f"resume: {len(ranks)} processes wrote {file}; random numbers begin anew", flush=True)
        if self.main_process:
            print(f"resume: {file}, iteration {trainer.state.iteration}", flush=True)

    def _shared(self, trainer: Engine) -> dict[str, Any]:
        return {"network": self.network, "trainer": trainer, **self.objects}

    def _set_local_state(self, trainer: Engine, state: Mapping[str, Any]) -> None:
        next_iteration = Events.ITERATION_STARTED(once=trainer.state.iteration + 1)  # after all that comes before it
        trainer.add_event_handler(next_iteration, lambda: _set_random_state(state["random"]))
        for name, item in self.local_objects.items():
            item.load_state_dict(state[name])


def resumable(save_dir: str | Path, resume: bool | str, settings: Mapping[str, Any] | None = None) -> Path | None:
    """The file that a run goes on from; None where it starts.

    Args:
        save_dir: where runs leave their `model.pt` and `iteration-N.pt`.
        resume: true, false, or auto: if there is an `iteration-N.pt`.
        settings: of the run; those that make its result have to be the ones that the file was written with.

    Raises:
        InputError: true and there is nothing to go on from, false and an earlier run's files are there, or another
            word; the file cannot be read, or says other settings.
    """
    folder = Path(save_dir)
    saved = _saved(folder)
    wanted = bool(saved) if str(resume).lower() == "auto" else flag("resume", resume, besides="auto")
    if wanted and not saved:
        raise InputError(f"--resume={resume}: no iteration-N.pt in {folder}; expected one that a run has left")
    if wanted:
        _check_settings(_settings_of(saved), settings or {}, saved[-1])
        return saved[-1]
    if str(resume).lower() != "auto" and (earlier := [*saved, *folder.glob("model.pt")]):
        going_on = "--resume=true to go on with it, or " if saved else ""
        raise InputError(
            f"--ckpt_dir={folder}: holds the {earlier[0].name} of an earlier run; expected {going_on}another folder"
        )
    return None


def _settings_of(saved: Sequence[Path]) -> Any:
    """What the last file says; where it cannot be read, the line says how to go on from the one before."""
    try:
        return weights.load(saved[-1]).get("metadata")
    except InputError as error:
        older = f"; without it, the run goes on from {saved[-2].name}" if len(saved) > 1 else ""
        raise InputError(f"{error}{older}") from error


def _check_settings(before: Any, now: Mapping[str, Any], file: Path) -> None:
    """What a run was started with stays; only its length, its speed and where its data are may change."""
    if not isinstance(before, Mapping):
        raise InputError(f"--resume: {file} does not say its settings; expected one that a run has left")
    if before.get("subjects") != now.get("subjects"):
        raise InputError(
            f"--datalist={now.get('datalist')}: other subjects, or in other splits, than {file} was trained on"
        )
    names = before.keys() & now.keys() - RESUMABLE
    for name in sorted(names, key=lambda name: (name != "recipe", name)):  # a recipe stands for several others
        if _spelt(before[name]) != _spelt(now[name]):
            raise InputError(f"--{name}={now[name]}: the run to resume has {before[name]}; expected the same")


def _spelt(value: Any) -> str:
    """One spelling of what a config and a command line write in two: lists and tuples, true and True."""
    return str(list(value) if isinstance(value, tuple) else value).lower()


def _agree(source: Path | None) -> None:
    """Refuse to begin where processes see different files, as they may on a folder that they share over a network."""
    number = -1 if source is None else int(source.stem.split("-")[1])
    if len(set(seen := _gather(number))) > 1:
        raise InputError(f"--resume: the processes see the states of iterations {seen}; expected the same for all")


def _set_length(schedule: Any, length: int) -> None:
    """Go on with a schedule as one of this length would, from the next step."""
    schedule.t_total = length
    rates = [
        base * factor(schedule.last_epoch) for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    ]
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = rates


def _begin_worker(before: Callable[[int], None] | None, number: int) -> None:
    """Begin a DataLoader's worker, which SIGTERM ends only where it comes from the process that the worker reads for.

    SLURM sends a signal to every process of a run, and a run that has lost its workers cannot finish its iteration.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    Thread(target=_end_with_parent, daemon=True).start()
    if before is not None:
        before(number)


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _saved(folder: Path) -> list[Path]:
    """The files to resume from, oldest first."""
    files = {path: re.fullmatch(r"iteration-(\d+)\.pt", path.name) for path in folder.glob("iteration-*.pt")}
    return sorted((path for path, match in files.items() if match), key=lambda path: int(path.stem.split("-")[1]))


def _states(objects: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item.state_dict() for name, item in objects.items()}


def _gather(state: Any) -> list[Any]:
    """What all ranks have, in the order of the ranks."""
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
