"""The record of a run, `run.json`: command, settings, versions, time, memory, measurements; trackers of runs."""

import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar, TensorboardLogger
from ignite.handlers.base_logger import BaseLogger
from monai.handlers import MLFlowHandler

from ..errors import show
from ..files import move_aside, write_json
from ..made import origin_of
from ..weights.surgery import Report
from .plan import Plan

RESULTS = ("run.json", "summary.json", "metrics.csv", "volumes.csv", "embeddings.npz")  # files for MLflow


def peak_resident() -> float:
    """Return this process's peak resident memory in GiB; `ru_maxrss` would start at its parent's peak."""
    return int(re.findall(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)[0]) / 2**20


class RunRecord:
    """Write `run.json` on rank 0: command, settings, versions, time and peak memory.

    `workflow` is train or evaluate, `made` the provenance from `common.made.origin_of` (by default, of `settings`).
    """

    def __init__(
        self, output_dir: str, settings: Mapping[str, Any], workflow: str, made: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = Path(output_dir)
        self.content: dict[str, Any] = {
            "bundle": settings["bundle"],
            "workflow": workflow,
            **(origin_of(settings) if made is None else made),
            "seconds": 0.0,
            "device": "cuda" if torch.cuda.is_initialized() else "cpu",
            "tf32": os.environ.get("NVIDIA_TF32_OVERRIDE") != "0",  # off by default (DIFF-21)
            "world_size": idist.get_world_size(),
            "config": dict(settings),
        }
        self._start = time.monotonic()

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.write())
        engine.add_event_handler(Events.COMPLETED, lambda: self.write(finished=True))

    def write(self, finished: bool = False) -> None:
        """Write the current record, with the peak memory of all processes, which must all call this."""
        self.content["finished"] = finished
        self.content["seconds"] = round(time.monotonic() - self._start, 1)
        peaks = {"peak_memory_gib": peak_resident()}
        if torch.cuda.is_available():
            peaks["peak_gpu_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        for name, value in peaks.items():
            peak = round(float(idist.all_reduce(value, op="MAX")), 3)
            self.content[name] = max(peak, self.content.get(name, 0))
        self.content["pictures"] = sorted(str(p.relative_to(self.folder)) for p in self.folder.glob("pictures/*.png"))
        if idist.get_rank() == 0:
            write_json(self.folder / "run.json", self.content)


class TrainingRecord(RunRecord):
    """Record of a training run, with the weights report, the losses and the metrics of each validation.

    The length of the run is printed at its start, its time after ten steps, and the metrics of each validation.
    Losses are averaged over all processes and over up to a thousand equal intervals; validations and saved states also
    end an interval. Each interval has a learning rate and the seconds per step, without validations; `latest` has the
    values of the last. TensorBoard and the loggers of Ignite among `handlers`, such as `WandBLogger`, get the same.
    """

    POINTS = 1000  # largest number of equal intervals
    TIMED = 10  # steps, after a first step that also fills caches

    def __init__(self, plan: Plan, validator: Engine, report: Report, handlers: Sequence[Any] = ()) -> None:
        super().__init__(plan.options.output_dir, plan.settings, "train")
        self.plan, self.validator, self.report = plan, validator, report
        self.loggers = [handler for handler in handlers if isinstance(handler, BaseLogger)]
        self.content["weights"] = report.content()
        self.content["train"] = {"iteration": [], "loss": {}}
        self.content["validation"] = {"iteration": [], "metrics": {}}
        self.latest: dict[str, float] = {}
        self._terms: list[dict[str, torch.Tensor]] = []  # of each step of the interval

    def attach(self, engine: Engine) -> None:
        self._trainer = engine
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_interval)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        self.validator.add_event_handler(Events.EPOCH_COMPLETED, self._record_validation, engine)
        if idist.get_rank() == 0:
            bar = ProgressBar(desc=self.content["bundle"], disable=None)  # None: none in a log file
            bar.attach(engine, output_transform=lambda output: {"loss": output["loss"].item()})
        super().attach(engine)

    def is_due(self, trainer: Engine, iteration: int) -> bool:
        """Return whether an interval ends with this iteration."""
        length, steps = trainer.state.epoch_length, trainer.state.max_epochs * trainer.state.epoch_length
        return iteration % math.ceil(steps / self.POINTS) == 0 or iteration % length == 0

    def _begin(self, trainer: Engine) -> None:
        if idist.get_rank() != 0:
            return
        if not self.plan.resumed_from:
            show(*self.report.lines())
            for name in ("run.json", "pictures", "tensorboard"):
                move_aside(self.folder / name)
        steps, first = _steps_left(trainer), trainer.state.iteration + 1
        epochs = steps / self.plan.length.iterations * self.plan.length.epochs
        cases, every = self.plan.training_cases, trainer.state.epoch_length
        show(f"to do: {steps:,} steps, {epochs:,.1f} epochs of {cases:,} cases; a validation every {every:,} steps")
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=first), self._start_timing)
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=first + self.TIMED), self._report_time)
        folder = str(self.folder / "tensorboard" / "curves")
        board = TensorboardLogger(folder, purge_step=first)  # hides later steps
        for logger in (board, *self.loggers):
            due = Events.ITERATION_COMPLETED(event_filter=self.is_due)
            logger.attach_output_handler(trainer, due, "train", output_transform=lambda _: self.latest)
            step = {"global_step_transform": lambda *_: trainer.state.iteration}
            logger.attach_output_handler(self.validator, Events.EPOCH_COMPLETED, "validation", "all", **step)
            trainer.add_event_handler(Events.COMPLETED, logger.close)

    def _start_timing(self, trainer: Engine) -> None:
        self._timed_from, self._waited = time.monotonic(), trainer.state.dataloader.waited

    def _report_time(self, trainer: Engine) -> None:
        passed, waited = time.monotonic() - self._timed_from, trainer.state.dataloader.waited - self._waited
        seconds = passed / self.TIMED
        hours = f"{seconds * _steps_left(trainer) / 3600:.1f} hours left without validations"
        show(f"time: {seconds:.2f} s a step ({waited / passed:.0%} waiting for data); {hours}")

    def _start_interval(self) -> None:
        self._terms, self._interval_start = [], time.monotonic()

    def _add(self, trainer: Engine) -> None:
        self._terms.append(trainer.state.output["terms"])
        if self.is_due(trainer, trainer.state.iteration):
            self._end_interval()

    def _end_interval(self) -> None:
        """Record the mean losses of the interval and start the next; all processes must call this."""
        if not self._terms:
            return
        count, train = len(self._terms) * idist.get_world_size(), self.content["train"]
        sums = {name: sum(terms[name] for terms in self._terms) for name in self._terms[0]}
        means = {name: round(idist.all_reduce(value).item() / count, 6) for name, value in sums.items()}
        rates = {
            "learning_rate": self._trainer.optimizer.param_groups[0]["lr"],
            "seconds_per_step": round((time.monotonic() - self._interval_start) / len(self._terms), 6),
        }
        _append(train["loss"], means)
        _append(train, {"iteration": self._trainer.state.iteration} | rates)
        self.latest = means | rates
        self._start_interval()

    def _record_validation(self, trainer: Engine) -> None:
        metrics, validation = self.validator.state.metrics, self.content["validation"]
        if trainer.state.iteration in validation["iteration"]:
            return
        _append(validation, {"iteration": trainer.state.iteration})
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}  # JSON lacks NaN
        _append(validation["metrics"], finite)
        self.write()
        if idist.get_rank() == 0:
            figures = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if "_present" not in name)
            show(f"iteration {trainer.state.iteration:,}: {figures}")

    def state_dict(self) -> dict[str, Any]:
        """Record the mean losses so far, and return the state to resume from; all processes must call this."""
        self._end_interval()
        names = ("started", "weights", "train", "validation")
        return {name: self.content[name] for name in names} | {"seconds": time.monotonic() - self._start}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.content |= state
        self._start -= state["seconds"]  # the time until the state was saved counts


def _steps_left(trainer: Engine) -> int:
    return trainer.state.epoch_length * trainer.state.max_epochs - trainer.state.iteration


def _append(curves: dict[str, Any], values: Mapping[str, float | None]) -> None:
    for name, value in values.items():
        curves.setdefault(name, []).append(value)


def tracked(
    handlers: Sequence[Any], name: str, interval: int = 1, results: str | None = None, **attributes: Any
) -> list[Any]:
    """Name the runs of MONAI's `MLFlowHandler`s and set their attributes; return all handlers.

    An evaluator's metrics are logged in steps of `interval` iterations. An evaluation or inference has a folder of
    `results`, which completes the name and whose tables and records are logged.
    """
    if results is not None:
        name = f"{name} {Path(results).resolve()}"
        attributes["artifacts"] = [Path(results) / file for file in RESULTS]
    for handler in handlers:
        if isinstance(handler, MLFlowHandler):
            handler.run_name = handler.run_name or name  # without a name, it would continue any unfinished run
            handler.global_epoch_transform = lambda epoch: epoch * interval
            vars(handler).update(attributes)
    return list(handlers)
