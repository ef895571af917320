"""What MLflow gets of a run that MONAI's option `--tracking mlflow` is asked to track, and the logger of W&B."""

import atexit
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import WandBLogger
from monai.handlers import MLFlowHandler
from monai.utils import optional_import

from ..errors import InputError, one_line, show
from .records import TrainingRecord

__all__ = ["Tracking", "WandBRun"]

MOST_PARAMETERS, LONGEST = 100, 6000  # that MLflow takes at a time; characters of a value


class Tracking:
    """Complete what MONAI's `MLFlowHandler` tracks: settings, all losses and metrics, files. List it last.

    `--tracking mlflow` adds such a handler to those of the trainer, of the validator and of an evaluator. This one
    takes their place, because alone they log one loss, write to each other's runs if several take place at a time, and
    upload files that are not complete. Where there is none, nothing is tracked.

    A training that is resumed continues its run; a setting that has changed is then a tag, `resumed.NAME`. A server
    that cannot be reached ends a run before its first step; later a line says so, and the run goes on without it.

    Args:
        handlers: of the engine that is tracked.
        settings: parameters of the run, `bundle` among them.
        files: uploaded in the end, those that exist.
        record: of a training, whose losses and metrics are logged; without one, they are the engine's metrics.
        validation: handlers of a training's validator.

    Raises:
        InputError: MLflow cannot begin the run.
    """

    def __init__(
        self,
        handlers: Sequence[Any],
        settings: Mapping[str, Any],
        files: Sequence[str],
        record: TrainingRecord | None = None,
        validation: Sequence[Any] = (),
    ) -> None:
        self.settings, self.files, self.record = settings, files, record
        self._handlers = [handler for handler in handlers if isinstance(handler, MLFlowHandler)]
        self._validation = [handler for handler in validation if isinstance(handler, MLFlowHandler)]
        self._run = ""  # its id, while it is tracked
        self._logged = {"train": 0, "validation": 0}  # points of the record

    def attach(self, engine: Engine) -> None:
        """Track the run of `engine`, in the process where MONAI's handler is enabled."""
        for handler in self._handlers:
            _detach(handler, engine)
        if self.record:
            for handler in self._validation:
                _detach(handler, self.record.validator)
        if self._handlers:
            engine.add_event_handler(Events.STARTED, self._start)
            during, after = Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED  # the latter once in an evaluation
            engine.add_event_handler(during | after if self.record else after, self._log)
            engine.add_event_handler(Events.COMPLETED, self._finish)
            atexit.register(self._abandon)

    def _start(self, engine: Engine) -> None:
        """Begin the run in MLflow, or continue it."""
        handler = self._handlers[0]
        began = self.record.content["started"] if self.record else datetime.now(UTC).isoformat(timespec="milliseconds")
        handler.run_name = handler.run_name or f"{self.settings['bundle']} {began}"
        try:
            handler.start(engine)
            self._run = handler.cur_run.info.run_id
            handler.client.update_run(self._run, status="RUNNING")
            self._log_settings()
        except Exception as error:  # of MLflow, of its database or of the network
            raise InputError(f"tracking of run {handler.run_name}: {one_line(error)}") from error
        if self.record:  # what was measured before the state that this run continues from has been logged
            for section in self._logged:
                iterations = self.record.content[section]["iteration"]
                self._logged[section] = sum(iteration < engine.state.iteration for iteration in iterations)

    def _log_settings(self) -> None:
        """Log the settings as parameters, which MLflow never changes, and those that a resumed run changed as tags."""
        entities, _ = optional_import("mlflow.entities")
        client = self._handlers[0].client
        known = client.get_run(self._run).data.params
        weights = {"pretrained": self.record.content["weights"]["source"]} if self.record else {}
        shown = {name: str(value)[:LONGEST] for name, value in {**self.settings, **weights}.items()}
        new = [entities.Param(name, value) for name, value in shown.items() if name not in known]
        for first in range(0, len(new), MOST_PARAMETERS):
            client.log_batch(self._run, params=new[first : first + MOST_PARAMETERS])
        for name, value in shown.items():
            if known.get(name, value) != value:
                client.set_tag(self._run, f"resumed.{name}", value)

    def _log(self, engine: Engine) -> None:
        """Log what has been measured since the last time."""
        if self.record is None:
            self._send(engine.state.metrics, engine.state.iteration)
            return
        for step, values in _new_points(engine, self.record, self._logged):
            self._send(values, step)

    def _send(self, values: Mapping[str, Any], step: int) -> None:
        entities, _ = optional_import("mlflow.entities")
        now = int(1000 * time.time())  # milliseconds
        numbers = {_allowed(name): value for name, value in values.items() if isinstance(value, int | float)}
        metrics = [entities.Metric(name, value, now, step) for name, value in numbers.items()]
        self._try("log_batch", metrics=metrics)

    def _finish(self) -> None:
        """Upload the files, MONAI's config of the run among them, and end the run."""
        for file in (*self._handlers[0].artifacts, *self.files):
            if file and Path(file).exists():
                self._try("log_artifact", file)
        self._try("set_terminated", "FINISHED")
        self._run = ""

    def _abandon(self) -> None:
        """End the run of a process that ends without having finished."""
        has_failed = getattr(sys, "last_value", None) is not None  # an exception, no signal
        self._try("set_terminated", "FAILED" if has_failed else "KILLED")
        self._run = ""

    def _try(self, action: str, *arguments: Any, **options: Any) -> None:
        """Let MLflow's client do something with the run; if it cannot, the run is no longer tracked."""
        if not self._run:
            return
        try:
            getattr(self._handlers[0].client, action)(self._run, *arguments, **options)
        except Exception as error:  # a run is worth more than its tracking
            show(f"warning: no longer tracked by MLflow: {one_line(error)}", error=True)
            self._run = ""


def _new_points(engine: Engine, record: TrainingRecord, known: dict[str, int]) -> list[tuple[int, dict[str, Any]]]:
    """What a training has measured since the last call, by iteration: `train/TERM`, `validation/METRIC`.

    Args:
        engine: the trainer, whose learning rate comes with the terms.
        record: of the training.
        known: number of points that are not new, of losses and of validations; counted on here.
    """
    found = []
    for section, kind in (("train", "loss"), ("validation", "metrics")):
        measured = record.content[section]
        for place in range(known[section], len(measured["iteration"])):
            values = {f"{section}/{name}": curve[place] for name, curve in measured[kind].items()}
            if section == "train":
                values["train/learning_rate"] = engine.optimizer.param_groups[0]["lr"]
            found.append((measured["iteration"][place], values))
        known[section] = len(measured["iteration"])
    return sorted(found, key=lambda point: point[0])


def _detach(handler: MLFlowHandler, engine: Engine) -> None:
    """Let a handler of MONAI do nothing by itself."""
    for event, action in (
        (Events.STARTED, handler.start),
        (Events.ITERATION_COMPLETED, handler.iteration_completed),
        (Events.EPOCH_COMPLETED, handler.epoch_completed),
        (Events.COMPLETED, handler.complete),
        (Events.COMPLETED, handler.close),
    ):
        if engine.has_event_handler(action, event):
            engine.remove_event_handler(action, event)


def _allowed(name: str) -> str:
    """A metric's name in the characters that MLflow allows; a region's may have others."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)


class WandBRun(WandBLogger):
    """Ignite's logger for Weights & Biases, for one training, which has failed unless `close` is called.

    W&B alone takes a run that a signal or bad input ends for finished, and prints a traceback of bad input.

    Args:
        options: of `wandb.init`.
    """

    def __init__(self, **options: Any) -> None:
        hook = sys.excepthook
        super().__init__(**options)
        sys.excepthook = hook
        atexit.register(self.finish, exit_code=1)  # does nothing after `close`
        self._known = {"train": 0, "validation": 0}  # points of the record

    def follow(self, engine: Engine, record: TrainingRecord) -> None:
        """Send each point of the record of the trainer `engine`, and of the runs that it continues, once."""
        during = Events.ITERATION_COMPLETED | Events.EPOCH_COMPLETED | Events.COMPLETED
        engine.add_event_handler(during, self._send, record)

    def _send(self, engine: Engine, record: TrainingRecord) -> None:
        for step, values in _new_points(engine, record, self._known):
            self.log({name: value for name, value in values.items() if value is not None}, step=step)
