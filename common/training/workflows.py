"""Handlers of a training; trackers of all runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.handlers import LrScheduleHandler, MLFlowHandler, ValidationHandler
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..data.datasets import Steps
from ..weights.surgery import Report
from .plan import Plan
from .records import TrainingRecord
from .states import BestModel, RunStates
from .step import Step

RESULTS = ("run.json", "summary.json", "metrics.csv", "volumes.csv", "embeddings.npz")  # files for MLflow


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
    loss: Any = None,
) -> list[Any]:
    """Return the handlers of a training run, in the order of attachment.

    They save states and `model.pt`, follow the schedule, validate, and write `run.json` and TensorBoard. `network` is
    not wrapped for several processes. `handlers` are further ones, such as an `MLFlowHandler` or a logger of Ignite.
    Self-supervised training also has `views`, `loss` and the held-out loss `best_metric` that selects `model.pt`, and
    validates before its first step.
    """
    output, model = Path(plan.options.output_dir), Path(plan.options.ckpt_dir) / "model.pt"
    plan.settings["network"] = type(network).__name__
    if loss is not None:
        plan.settings["tasks"] = [task.name for task in loss.tasks]
    best = BestModel(plan, network, validator, best_metric, average)
    record = TrainingRecord(plan, validator, weights_report, handlers)
    objects = {"network": network, "optimizer": optimizer, "lr_scheduler": lr_scheduler, "step": step.scaler}
    objects |= {"record": record, "best": best}
    objects |= {} if average is None else {"average": average}
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
