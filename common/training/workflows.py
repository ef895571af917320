"""What every training, and every evaluation or inference, of the bundles does besides its config's own steps."""

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

__all__ = ["check", "prediction_handlers", "training_handlers", "untracked"]


def check(plan: Plan, network: nn.Module, cases: Sequence[Sequence[Mapping[str, Any]]], weights_report: Report) -> None:
    """Check the scans of a training before its first step; compile the network if asked.

    Args:
        plan: of the training.
        network: on its device, with its initial weights.
        cases: of training and validation, on this process.
        weights_report: makes sure that the weights are in place before anything else draws random numbers or copies
            the network to other processes.

    Raises:
        InputError: a file is unreadable or too large, or the scans are prepared otherwise than those of the pretrained
            network.
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
        plan: of the training.
        network: without the wrapper of several processes.
        optimizer: of the training.
        lr_scheduler: its schedule, by iterations.
        step: its `iteration_update`.
        steps: its data.
        validator: its evaluator, which runs after each epoch.
        weights_report: how the pretrained weights fitted the network.
        handlers: more of them, and more sinks; an `MLFlowHandler` becomes a sink.
        views: of a self-supervised training, which validates before its first step, too.
        best_metric: of a self-supervised training: the held-out loss that chooses `model.pt`; None for the validator's
            key metric, a score.
        loss: of a self-supervised training, whose chance level the end is compared with.

    Returns:
        In the order in which they have to be attached.
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
    """The handlers of an evaluation or inference: its own, progress, the last lines of its output, MLflow.

    Args:
        handlers: its own; an `MLFlowHandler` among them is told the settings and the metrics.
        output_dir: folder of the results.
        settings: of the run, `bundle` among them.
        figures: has `figures`, which gives the lines to print from the engine.
        results: files and folders in `output_dir` by name; MLflow gets the tables and records among them.

    Returns:
        In the order in which they have to be attached.
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
    """Handlers without the `MLFlowHandler`s that `--tracking mlflow` adds; see `MLflow`."""
    return [handler for handler in handlers if not isinstance(handler, MLFlowHandler)]


def _trackers(handlers: Sequence[Any], files: Sequence[Path]) -> list[MLflow]:
    return [MLflow(handler, files) for handler in handlers if isinstance(handler, MLFlowHandler)][:1]


class Told:
    """Tell sinks of an evaluation or inference, on the main process: its settings, and its metrics in the end."""

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
