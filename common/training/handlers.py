"""Handlers of a training: the best model, and saved states from which a stopped run continues bit for bit."""

import math
import operator
import os
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.handlers import LrScheduleHandler, ValidationHandler
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..errors import ArgumentError, InputError, choice, show
from ..files import move_aside
from ..made import versions
from ..weights.checkpoints import load, write
from ..weights.surgery import Report
from .order import Steps
from .plan import Plan, saved_states
from .records import TrainingRecord, tracked
from .step import Step

PREEMPTED = 75  # exit status after a signal: EX_TEMPFAIL of sysexits.h; scripts/train.sbatch reads it


def training_handlers(
    plan: Plan,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    lr_scheduler: Any,
    step: Step,
    steps: Steps,
    validator: Engine,
    weights_report: Report,
    average: AveragedModel | None = None,
    handlers: Sequence[Any] = (),
    views: Any = None,
    best_metric: str | None = None,
) -> list[Any]:
    """Return the handlers of a training run, in the order of attachment.

    They save states and `model.pt`, follow the schedule, validate, and write `run.json` and TensorBoard. `network` is
    not wrapped for several processes. `handlers` are further ones, such as an `MLFlowHandler` or a logger of Ignite.
    Self-supervised training also has `views` and the held-out loss `best_metric` that selects `model.pt`, and validates
    before its first step.
    """
    output, model = Path(plan.options.output_dir), Path(plan.options.ckpt_dir) / "model.pt"
    plan.settings["network"] = type(network).__name__
    if hasattr(network, "tasks"):
        plan.settings["tasks"] = [task.name for task in network.tasks]
    best = BestModel(plan, network, validator, best_metric, average)
    record = TrainingRecord(plan, validator, weights_report, handlers)
    objects = {"network": network, "optimizer": optimizer, "lr_scheduler": lr_scheduler, "step": step.scaler}
    objects |= {"record": record, "best": best} | ({} if average is None else {"average": average})
    tracking: dict[str, Any] = {
        "experiment_param": None if plan.resumed_from else plan.settings,  # MLflow refuses changed parameters
        "artifacts": (model, output / "run.json"),
        "iteration_log": record.is_due,
        "epoch_log": False,
        "output_transform": lambda _: {f"train_{name}": value for name, value in record.latest.items()},
    }
    return [
        RunStates(plan, objects, steps, validator, {} if views is None else {"views": views}),
        LrScheduleHandler(lr_scheduler, epoch_level=False, print_lr=False),
        best,
        record,
        *(handler for handler in tracked(handlers, plan.name, **tracking) if handler not in record.loggers),
        ValidationHandler(1, validator, exec_at_start=views is not None and plan.resumed_from is None),
    ]


class BestModel:
    """Save the network and the run's settings as `model.pt` whenever a validation is better than all before.

    `loss` names the metric to minimise; None: the validator's key metric is maximised. A validation before the first
    iteration does not count. An `average` of the weights is updated after each step, and saved instead of them. List
    this handler after `RunStates`.
    """

    def __init__(
        self, plan: Plan, network: nn.Module, validator: Engine, loss: str | None = None, average: Any = None
    ) -> None:
        self.file, self.network, self.validator = Path(plan.options.ckpt_dir) / "model.pt", network, validator
        self.plan, self.loss, self.average = plan, loss, average
        self.is_better = operator.gt if loss is None else operator.lt  # false for NaN
        self.best = -math.inf if loss is None else math.inf

    def attach(self, trainer: Engine) -> None:
        if self.average is not None:
            trainer.add_event_handler(Events.ITERATION_COMPLETED, self.average.update_parameters, self.network)
        self.validator.add_event_handler(Events.EPOCH_COMPLETED, self.save, trainer)
        if idist.get_rank() == 0:
            trainer.add_event_handler(Events.COMPLETED, self._conclude)

    @property
    def name(self) -> str:
        """Name of the metric that selects the checkpoint."""
        return self.loss or str(self.validator.state.key_metric_name)

    def save(self, trainer: Engine) -> None:
        """Save the network if the latest validation is the best so far."""
        metric = choice("best_metric", self.name, self.validator.state.metrics)
        if trainer.state.iteration == 0:
            return
        if self.is_better(metric, self.best):
            self.best = metric
            if idist.get_rank() == 0:
                reached = {"iteration": trainer.state.iteration, self.name: metric}
                network = self.network if self.average is None else self.average.module
                weights = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
                _write(self.file, {"network": weights}, self.plan.settings | {"reached": reached})

    def _conclude(self) -> None:
        if math.isfinite(self.best):
            show(f"best validation: {self.name} {self.best:.4f}; {self.file.resolve()}")
        else:
            show(f"no model was saved: {self.name} was never finite")

    def state_dict(self) -> dict[str, float]:
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best = state["best"]


class RunStates:
    """Save states, `iteration-N.pt`, from which a run continues bit for bit; on a signal, save a state and stop.

    After SIGTERM or SIGUSR1 to any process, the run finishes its iteration or validation, saves, and exits with status
    75. List this handler first: it resumes before other handlers start, and saves after all other handlers of an epoch.
    `objects` have the same state in all processes, `local_objects` a state in each process.
    """

    def __init__(
        self, plan: Plan, objects: Mapping[str, Any], steps: Steps, validator: Engine, local_objects: Mapping[str, Any]
    ) -> None:
        self.plan, self.options, self.folder = plan, plan.options, Path(plan.options.ckpt_dir)
        self.objects, self.local_objects, self.steps, self.validator = objects, local_objects, steps, validator
        self._signal = 0  # the latest stop signal

    def attach(self, trainer: Engine) -> None:
        trainer.add_event_handler(Events.STARTED, self._start)

    def _start(self, trainer: Engine) -> None:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._remember)
            trainer.add_event_handler(Events.COMPLETED, signal.signal, number, signal.SIG_DFL)
        for loader in (self.steps.dataloader, self.validator.data_loader):
            loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)
        if self.plan.resumed_from:
            self.load(trainer, self.plan.resumed_from)
        elif idist.get_rank() == 0:
            move_aside(self.folder / "model.pt")  # left by an earlier run without a saved state
        trainer.add_event_handler(Events.COMPLETED, self.options.release_folders)
        inside_epoch = Events.ITERATION_COMPLETED(event_filter=lambda engine, n: n % engine.state.epoch_length != 0)
        # Attached now to run last; at the end of an epoch, after its validation
        trainer.add_event_handler(inside_epoch | Events.EPOCH_COMPLETED, self._save_or_end)

    def _remember(self, number: int, _: FrameType | None) -> None:
        self._signal = number

    def _save_or_end(self, trainer: Engine) -> None:
        iteration, length = trainer.state.iteration, trainer.state.epoch_length
        number = int(idist.all_reduce(self._signal, op="MAX"))  # some or all processes got the signal
        if not number and iteration % self.options.save_interval and iteration % length:
            return
        file = self.save(trainer)
        if number and iteration < length * trainer.state.max_epochs:
            idist.barrier()  # a launcher may kill all processes when the first exits
            if idist.get_rank() == 0:
                name = signal.Signals(number).name
                show(f"{name}: saved {file}; resume=true continues from it; status {PREEMPTED}")
            self.options.release_folders()
            raise SystemExit(PREEMPTED)

    def save(self, trainer: Engine) -> Path:
        """Save the state at this iteration and return the file; all processes must call this."""
        file = self.folder / f"iteration-{trainer.state.iteration:07d}.pt"
        shared = _states({"trainer": trainer, **self.objects})  # on every rank: the record averages losses over ranks
        ranks: Any = idist.all_gather({"random": random_state()} | _states(self.local_objects))
        if idist.get_rank() == 0:
            _write(file, shared | {"ranks": ranks}, self.plan.settings)
            for older in saved_states(self.folder)[: -self.options.keep]:
                older.unlink()
        return file

    def load(self, trainer: Engine, file: Path) -> None:
        """Continue from a file; raise `ArgumentError` if it is past this run's end.

        Random states are restored if the number of processes is the same.
        """
        content, schedule = load(file), self.objects["lr_scheduler"]
        epochs, length = trainer.state.max_epochs, getattr(schedule, "t_total", None)
        for name, item in {"trainer": trainer, **self.objects}.items():
            item.load_state_dict(content[name])
        processes = len(content["ranks"])
        if processes == idist.get_world_size():
            state = content["ranks"][idist.get_rank()]
            next_iteration = Events.ITERATION_STARTED(once=trainer.state.iteration + 1)
            trainer.add_event_handler(next_iteration, set_random_state, state["random"])
            for name, item in self.local_objects.items():
                item.load_state_dict(state[name])
        trainer.state.max_epochs, reached = epochs, trainer.state.iteration
        if reached > trainer.state.epoch_length * epochs:
            raise ArgumentError("iterations", self.options.iterations, f"{file} has reached iteration {reached}")
        if length != getattr(schedule, "t_total", None):  # other --iterations: this run's schedule
            schedule.t_total = length
            schedule.last_epoch -= 1  # the next step uses the new rate
            schedule.step()
        self.steps.begin_after(reached)
        if idist.get_rank() == 0:
            if processes != idist.get_world_size():
                show(f"resume: saved by {processes} processes, now {idist.get_world_size()}: random states start anew")
            show(f"resume: {file}, iteration {reached}")


def _write(file: Path, content: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Write a checkpoint, unless its network contains NaN or infinity."""
    broken = [name for name, value in content["network"].items() if not value.isfinite().all()]
    if broken:
        raise InputError(file, f"not written; tensors with NaN or infinity: {len(broken)}, first {broken[0]}")
    write({**content, "metadata": {**settings, "versions": versions()}}, file)


def _states(objects: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item.state_dict() for name, item in objects.items()}


def random_state() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and PyTorch's generators, in types that `weights_only=True` loads."""
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002, MONAI draws from it
    numpy["state"]["key"] = numpy["state"]["key"].tolist()
    state = {"python": random.getstate(), "numpy": numpy, "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore all generators from a result of `random_state`."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _start_worker(before: Callable[[int], None], number: int) -> None:
    """Initialise a DataLoader worker that ends on SIGTERM only if its parent sends it: SLURM sends it to all."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    Thread(target=_end_with_parent, daemon=True).start()
    before(number)


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
