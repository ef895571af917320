"""The checks and handlers that all trainings, evaluations and inferences of the bundles share."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.handlers import LrScheduleHandler, MLFlowHandler, ValidationHandler
from torch import nn

from ..data.datasets import Steps
from ..data.scan_checks import check_headers
from ..weights.surgery import Report
from .checkpoints import BestModel, RunStates
from .handlers import Forecast, Progress
from .plan import Plan
from .records import RunRecord, Sink, TrainingRecord
from .sinks import BestValidation, Curves, Ending, TensorBoard, UnlearningWarning
from .step import Step
from .tracking import MLflow


def check(plan: Plan, network: nn.Module, cases: Sequence[Sequence[Mapping[str, Any]]], weights_report: Report) -> None:
    """Check the scans of a training before its first step; compile the network if asked.

    Args:
        plan: Plan of the training.
        network: Network on its device, with its initial weights.
        cases: Cases of training and validation on this process.
        weights_report: Report of the loaded weights; as an argument it ensures that they are loaded before random
            numbers are drawn or the network is copied to other processes.

    Raises:
        InputError: a file is unreadable or too large, or the scans' preparation differs from the pretrained network's
            training data.
    """
    check_headers([case for split in cases for case in split], plan.options.largest_volume)
    plan.measure()
    if plan.options.compile:
        network.compile()


def training_handlers(
    plan: Plan,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    lr_scheduler: Any,
    step: Step,
    steps: Steps,
    validator: Engine,
    weights_report: Report,
    handlers: Sequence[Any] = (),
    views: Any = None,
    best_metric: str | None = None,
    loss: Any = None,
) -> list[Any]:
    """The handlers of a training: states to resume from, schedule, validation, `model.pt`, `run.json` and its sinks.

    Args:
        plan: Plan of the training.
        network: Network without the wrapper for several processes.
        optimizer: Optimiser of the training.
        lr_scheduler: Learning-rate schedule, stepped once an iteration.
        step: The trainer's `iteration_update`.
        steps: Data of the training.
        validator: Evaluator, which runs after each epoch.
        weights_report: Report of the loaded weights.
        handlers: Further handlers and sinks; an `MLFlowHandler` becomes a sink.
        views: Views of a self-supervised training, which also validates before its first step.
        best_metric: Held-out loss that selects `model.pt` of a self-supervised training; None for the validator's key
            metric, a score.
        loss: Loss of a self-supervised training; its chance level is compared with the result.

    Returns:
        The handlers in the order in which they must be attached.
    """
    output, models = Path(plan.options.output_dir), Path(plan.options.ckpt_dir)
    plan.settings["network"] = type(network).__name__
    best = BestModel(plan, network, validator, lower_is_better=best_metric is not None, metric=best_metric)
    results = {"model": models / "model.pt", "record": output / "run.json", "pictures": output / "pictures"}
    results |= {"curves": output / "progress.png", "TensorBoard": output / "tensorboard"}
    chance = {} if loss is None else loss.chance(min(plan.options.batch_size, len(validator.data_loader.dataset)))
    sinks = [
        TensorBoard(output),
        Curves(output, best),
        *([] if views is None else [UnlearningWarning(plan)]),
        *_trackers(handlers, [models / "model.pt", output / "run.json"]),
        *(handler for handler in handlers if isinstance(handler, Sink)),
        BestValidation(best, results, chance),
    ]
    record = TrainingRecord(plan, validator, weights_report, sinks)
    objects = {"network": network, "optimizer": optimizer, "lr_scheduler": lr_scheduler, "step": step}
    objects |= {"record": record, "best": best}
    return [
        RunStates(plan, objects, steps, validator, {} if views is None else {"views": views}),
        Forecast(plan, network),
        LrScheduleHandler(lr_scheduler, epoch_level=False, print_lr=False),
        Progress(plan.settings["bundle"]),
        best,
        record,
        ValidationHandler(1, validator, exec_at_start=views is not None and plan.resumed_from is None),
        *(handler for handler in untracked(handlers) if not isinstance(handler, Sink)),
    ]


def prediction_handlers(
    handlers: Sequence[Any], output_dir: str, settings: Mapping[str, Any], figures: Any, results: Mapping[str, str]
) -> list[Any]:
    """The handlers of an evaluation or inference: the given ones, progress, the last lines of output, MLflow.

    Args:
        handlers: Handlers of the run; an `MLFlowHandler` among them logs the settings and the metrics.
        output_dir: Folder of the results.
        settings: Settings of the run, with `bundle`.
        figures: Handler with a method `figures`, which returns the lines to print from the engine.
        results: Files and folders in `output_dir` by name; MLflow gets the tables and records among them.

    Returns:
        The handlers in the order in which they must be attached.
    """
    folder = Path(output_dir)
    places = {name: folder / place for name, place in results.items()}
    files = [place for place in places.values() if place.suffix in (".json", ".csv", ".npz")]
    return [
        Progress(settings["bundle"]),
        *untracked(handlers),
        Told(RunRecord(output_dir, settings, "predict"), [*_trackers(handlers, files), Ending(figures, places)]),
    ]


def untracked(handlers: Sequence[Any]) -> list[Any]:
    """Remove the `MLFlowHandler`s that `--tracking mlflow` adds; see `MLflow`."""
    return [handler for handler in handlers if not isinstance(handler, MLFlowHandler)]


def _trackers(handlers: Sequence[Any], files: Sequence[Path]) -> list[MLflow]:
    return [MLflow(handler, files) for handler in handlers if isinstance(handler, MLFlowHandler)][:1]


class Told:
    """Send an evaluation's or inference's settings, and finally its metrics, to sinks, on the main process."""

    def __init__(self, record: RunRecord, sinks: Sequence[Sink]) -> None:
        self.record, self.sinks = record, sinks

    def attach(self, engine: Engine) -> None:
        """Attach the sinks to `engine`."""
        for sink in self.sinks if idist.get_rank() == 0 else ():
            engine.add_event_handler(Events.STARTED, partial(sink.begin, self.record))
            engine.add_event_handler(Events.EPOCH_COMPLETED, partial(self._add, sink))
            engine.add_event_handler(Events.COMPLETED, sink.end)

    def _add(self, sink: Sink, engine: Engine) -> None:
        sink.add("", engine.state.iteration, engine.state.metrics)
