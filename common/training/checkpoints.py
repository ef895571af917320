"""Checkpoints and exact resume: the best network, and states from which a stopped run continues bit for bit."""

import math
import operator
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping
from torch import nn

from ..data.datasets import Steps
from ..errors import ArgumentError, InputError, check_number, choice, show
from ..files import move_aside, values_in
from ..weights.records import versions
from ..weights.storage import load, write
from .plan import Plan
from .random_states import random_state, set_random_state
from .resume import iteration_of, saved_states
from .signals import PREEMPTED, StopRequest


class BestModel:
    """Save the network and the run's settings as `model.pt` whenever a validation is better than all before.

    `loss` names the metric to minimise; None: the validator's key metric is maximised. A validation before the first
    iteration does not count. Raise `ArgumentError` if a validation lacks the metric, and `InputError` if the network
    contains NaN or infinity.
    """

    def __init__(self, plan: Plan, network: nn.Module, validator: Engine, loss: str | None = None) -> None:
        self.file, self.network, self.validator = Path(plan.options.ckpt_dir) / "model.pt", network, validator
        self.loss = loss
        self.metadata = plan.settings | {"versions": versions()}
        self.is_better = operator.gt if loss is None else operator.lt  # false for NaN
        self.best = -math.inf if loss is None else math.inf

    def attach(self, trainer: Engine) -> None:
        """Save the network during the run of `trainer`."""
        self.validator.add_event_handler(Events.EPOCH_COMPLETED, self.save, trainer)

    @property
    def name(self) -> str:
        """Name of the metric that selects the checkpoint."""
        return self.loss or str(self.validator.state.key_metric_name)

    def save(self, trainer: Engine) -> None:
        """Save the network if the latest validation is the best so far."""
        metric = choice("best_metric", self.name, self.validator.state.metrics)
        if trainer.state.iteration == 0 or not self.is_better(metric, self.best):
            return
        self.best = metric
        if idist.get_rank() == 0:
            _refuse_nan(self.network, self.file)
            reached = {"iteration": trainer.state.iteration, self.name: metric}
            weights = self.network.state_dict()
            weights = {key: tensor.contiguous() for key, tensor in weights.items()}  # not channels-last
            write({"network": weights, "metadata": self.metadata | {"reached": reached}}, self.file)

    def state_dict(self) -> float:
        """Return the best metric so far."""
        return self.best

    def load_state_dict(self, state: float) -> None:
        """Restore the best metric from the resumed run."""
        self.best = state
        if math.isfinite(state) and not self.file.is_file() and idist.get_rank() == 0:
            show(f"warning: {self.file}: missing; the next validation better than {state:.4f} writes it again")


class EarlyStop(EarlyStopping):
    """End the run after `patience` validations in a row without a new best score; a resumed run continues the count."""

    def __init__(self, patience: int, best: BestModel) -> None:
        sign = -1 if best.loss else 1
        super().__init__(patience, lambda _: sign * best.best, Engine(lambda *_: None))
        self.validator = best.validator

    def attach(self, trainer: Engine) -> None:
        """End the run of `trainer`. List this handler after `RunStates`, which restores the count of a resumed run."""
        self.trainer = trainer
        trainer.add_event_handler(Events.STARTED, self._end_if_stopped)
        self.validator.add_event_handler(Events.COMPLETED, self)

    def _end_if_stopped(self, trainer: Engine) -> None:
        if self.counter >= self.patience:
            trainer.terminate()


class RunStates:
    """Save states, `iteration-N.pt`, from which a run continues bit for bit; on a signal, save a state and stop.

    After SIGTERM or SIGUSR1 to any process, the run finishes its iteration or validation, saves, and exits with status
    75. List this handler first: it resumes before other handlers start, and saves after all other
    handlers of an epoch. `objects` have the same state in all processes, `local_objects` a state in each process.
    """

    def __init__(
        self,
        plan: Plan,
        objects: Mapping[str, Any],
        steps: Steps,
        validator: Engine,
        local_objects: Mapping[str, Any] | None = None,
    ) -> None:
        self.plan, self.options, self.folder = plan, plan.options, Path(plan.options.ckpt_dir)
        self.objects, self.local_objects = dict(objects), dict(local_objects or {})
        self.steps, self.validator = steps, validator
        self.metadata = plan.settings | {"versions": versions()}
        self._stop = StopRequest()

    def attach(self, trainer: Engine) -> None:
        """Resume and save the run of `trainer`; raise `ArgumentError` if it is longer than the schedule."""
        epochs, steps = trainer.state.max_epochs, trainer.state.max_epochs * trainer.state.epoch_length
        if steps > self.plan.length.iterations:  # a round of a federated client is shorter
            problem = f"{steps} steps, but the schedule has {self.plan.length.iterations}"
            raise ArgumentError("max_epochs", epochs, problem, "a length set by --iterations and --val_interval")
        trainer.add_event_handler(Events.STARTED, self._start)

    def _start(self, trainer: Engine) -> None:
        self._stop.watch(trainer, self.steps.dataloader, self.validator.data_loader)
        self.plan.begin()  # a federated client starts its trainer in each round
        if trainer.has_event_handler(self._save_or_end):
            return
        if self.plan.resumed_from:
            self.load(trainer, self.plan.resumed_from)
        elif idist.get_rank() == 0:
            move_aside(self.folder / "model.pt")  # left by an earlier run without a saved state
        trainer.add_event_handler(Events.COMPLETED, self.options.release_folders)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._after_iteration)  # attached now to run last
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._save_or_end)

    def _after_iteration(self, trainer: Engine) -> None:
        iteration = trainer.state.iteration
        if iteration % trainer.state.epoch_length:  # the end of an epoch is saved after its validation
            self._save_or_end(trainer, due=iteration % self.options.save_interval == 0)

    def _save_or_end(self, trainer: Engine, due: bool = True) -> None:
        number = int(idist.all_reduce(self._stop.number, op="MAX"))  # some or all processes got the signal
        if not due and not number:
            return
        file = self.save(trainer)
        if number and trainer.state.iteration < trainer.state.epoch_length * trainer.state.max_epochs:
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
            _refuse_nan(self.objects["network"], file)
            write(shared | {"ranks": ranks, "metadata": self.metadata}, file)
            states = saved_states(self.folder)  # later files, if any, are damaged: the resumed run skipped them
            for older in states[: states.index(file) + 1][: -self.options.keep]:
                older.unlink()
        return file

    def load(self, trainer: Engine, file: Path) -> None:
        """Continue from a file; raise `InputError` if it is damaged, past this run's end, or of a different network."""
        content = load(file)
        tensors = filter(torch.is_tensor, values_in([content.get("network"), content.get("optimizer")]))
        if not all(tensor.isfinite().all() for tensor in tensors):
            raise InputError(file, "damaged: tensors contain NaN or infinity")
        try:
            ranks = self._set_state(trainer, content)
        except Exception as error:  # objects raise any exception for a foreign state
            raise InputError(file, f"does not fit this run's network or optimiser ({error!r:.80})") from error
        reached = trainer.state.iteration
        if iteration_of(file) != reached:
            raise InputError(file, f"holds iteration {reached}", f"the name iteration-{reached:07d}.pt")
        if reached > trainer.state.epoch_length * trainer.state.max_epochs:
            raise ArgumentError("iterations", self.options.iterations, f"{file} has reached iteration {reached}")
        self.steps.begin_after(reached)
        if idist.get_rank() == 0:
            if ranks != (now := idist.get_world_size()):
                show(f"resume: {file}: saved with WORLD_SIZE={ranks}, now {now}; random states are not restored")
            show(f"resume: {file}, iteration {reached}")

    def _set_state(self, trainer: Engine, content: Mapping[str, Any]) -> int:
        """Restore the shared states and, if the number of processes is the same, the local state of this process.

        Return the number of processes that wrote the file.
        """
        max_epochs = trainer.state.max_epochs
        groups = _settings(self.objects["optimizer"])
        for name, item in {"trainer": trainer, **self.objects}.items():
            schedule = {key: getattr(item, key) for key in ("t_total", "base_lrs") if hasattr(item, key)}
            item.load_state_dict(content[name])
            if schedule != {key: getattr(item, key) for key in schedule}:  # this run's length or rate differs: keep it
                vars(item).update(schedule)
                item.last_epoch -= 1  # the next step uses the new rate
                item.step()
        trainer.state.max_epochs = max_epochs
        _check_optimizer(self.objects["optimizer"], groups)
        check_number("iteration", trainer.state.iteration, int, 0)
        ranks = [dict(rank) for rank in content["ranks"]]
        if len(ranks) == idist.get_world_size():
            self._set_local_state(trainer, ranks[idist.get_rank()])
        return len(ranks)

    def _set_local_state(self, trainer: Engine, state: Mapping[str, Any]) -> None:
        set_random_state(state["random"])  # now, to detect damage, and again before the next step
        next_iteration = Events.ITERATION_STARTED(once=trainer.state.iteration + 1)
        trainer.add_event_handler(next_iteration, lambda: set_random_state(state["random"]))
        for name, item in self.local_objects.items():
            item.load_state_dict(state[name])


def _refuse_nan(network: nn.Module, file: Path) -> None:
    broken = [name for name, value in network.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise InputError(file, f"not written; tensors with NaN or infinity: {len(broken)}, first {broken[0]}")


def _settings(optimizer: Any) -> list[dict[str, Any]]:
    """Return the constant settings of an optimiser's groups."""
    varying = ("params", "lr", "initial_lr")
    return [{name: value for name, value in group.items() if name not in varying} for group in optimizer.param_groups]


def _check_optimizer(optimizer: Any, groups: list[dict[str, Any]]) -> None:
    """Raise ValueError if the loaded state is of a different optimiser, which would fail at the next step."""
    if (loaded := _settings(optimizer)) != groups:
        raise ValueError(f"an optimiser with {loaded}; expected {groups}")
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(f"{name} of {[*value.shape]} for weights of {[*parameter.shape]}")


def _states(objects: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item.state_dict() for name, item in objects.items()}
