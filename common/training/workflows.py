"""Handlers of all training, evaluation and inference runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from ignite.handlers.base_logger import BaseLogger
from monai.handlers import LrScheduleHandler, MLFlowHandler, ValidationHandler
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..data.datasets import Steps
from ..errors import show
from ..weights.surgery import Report
from .plan import Plan
from .records import TrainingRecord
from .states import BestModel, RunStates
from .step import Step


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
    objects = {"network": network, "optimizer": optimizer, "lr_scheduler": lr_scheduler, "step": step}
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
        *([ProgressBar(desc=plan.settings["bundle"], disable=None)] if plan.processes.is_main else []),
        best,
        record,
        *tracked(handlers, plan.name, **tracking),
        ValidationHandler(1, validator, exec_at_start=views is not None and plan.resumed_from is None),
        Conclusion(best, {"model": model, "record": output / "run.json", "TensorBoard": output / "tensorboard"}),
    ]


def prediction_handlers(
    handlers: Sequence[Any], output_dir: str, name: str, figures: Any, results: Mapping[str, str]
) -> list[Any]:
    """Return the handlers of an evaluation or inference, in the order of attachment; `name` is that of the bundle.

    At the end, the lines of `figures.figures(engine)` and the paths of `results` in `output_dir` by name are printed.
    """
    paths = {key: Path(output_dir) / path for key, path in results.items()}
    files = [path for path in paths.values() if path.suffix in (".json", ".csv", ".npz")]
    others = tracked(handlers, f"{name} {Path(output_dir).resolve()}", artifacts=files)
    return [ProgressBar(desc=name, disable=None), *others, Conclusion(figures, paths)]


def tracked(handlers: Sequence[Any], name: str, interval: int = 1, **attributes: Any) -> list[Any]:
    """Name the runs of MONAI's `MLFlowHandler`s and set their attributes; return all handlers but Ignite's loggers.

    An evaluator's metrics are logged in steps of `interval` iterations.
    """
    for handler in handlers:
        if isinstance(handler, MLFlowHandler):
            handler.run_name = handler.run_name or name  # without a name, it would continue any unfinished run
            handler.global_epoch_transform = lambda epoch: epoch * interval
            vars(handler).update(attributes)
    return [handler for handler in handlers if not isinstance(handler, BaseLogger)]


class Conclusion:
    """Print the lines of `figures.figures(engine)` after a run without an error, and the paths of existing results."""

    def __init__(self, figures: Any, results: Mapping[str, Path]) -> None:
        self.figures, self.results = figures, results

    def attach(self, engine: Engine) -> None:
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if lines := self.figures.figures(engine):
            paths = {name: path.resolve() for name, path in self.results.items() if path.exists()}
            width = max(map(len, paths), default=0)
            show(*lines, *(f"{name:<{width}}  {path}" for name, path in paths.items()))
