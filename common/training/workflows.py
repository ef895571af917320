"""Handlers of all training, evaluation and inference runs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.handlers import LrScheduleHandler, ValidationHandler
from torch import nn

from ..data.datasets import Steps
from ..errors import show
from ..weights.surgery import Report
from .averaging import Average
from .checkpoints import BestModel, EarlyStop, RunStates
from .handlers import Forecast, Progress
from .plan import Plan
from .records import TrainingRecord
from .step import Step
from .trackers import Tracking, name_of_run, separate

NEAR_CHANCE = 0.95  # a loss above this fraction of the chance level is reported as no better than chance


def training_handlers(
    plan: Plan,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    lr_scheduler: Any,
    step: Step,
    steps: Steps,
    validator: Engine,
    weights_report: Report,
    average: Average | None = None,
    handlers: Sequence[Any] = (),
    views: Any = None,
    best_metric: str | None = None,
    loss: Any = None,
) -> list[Any]:
    """Return the handlers of a training run: saved states, schedule, validation, `model.pt`, `run.json`, TensorBoard.

    Args:
        plan: Plan of the run.
        network: Network, not wrapped for several processes.
        optimizer: Optimiser of the network.
        lr_scheduler: Learning-rate schedule, stepped once an iteration.
        step: The trainer's `iteration_update`.
        steps: Training data, as optimiser steps.
        validator: Evaluator, run after each epoch of the trainer.
        weights_report: Report of the loaded weights.
        average: Moving average of the weights, to validate and save; None: the network itself.
        handlers: Further handlers and trackers, such as the `MLFlowHandler` of `--tracking mlflow`.
        views: `TwoViews` of self-supervised training, which also validates before the first step; None otherwise.
        best_metric: Held-out loss that selects `model.pt` in self-supervised training; None: the validator's key
            metric, a score.
        loss: `SSLLoss` of self-supervised training, for its chance levels; None otherwise.

    Returns:
        Handlers, in the order of attachment.
    """
    output, models = Path(plan.options.output_dir), Path(plan.options.ckpt_dir)
    plan.settings["network"] = type(network).__name__
    if loss is not None:
        plan.settings["tasks"] = [task.name for task in loss.tasks]
    average = average or Average(network)
    best = BestModel(plan, average.network, validator, best_metric)
    trackers, other_handlers = separate(handlers)
    results = {"model": models / "model.pt", "record": output / "run.json", "pictures": output / "pictures"}
    record = TrainingRecord(plan, validator, weights_report, trackers, [results["model"], results["record"]])
    held_out = len(validator.data_loader.dataset) * plan.crops_per_volume
    chance = {} if loss is None else loss.chance(min(plan.options.batch_size, held_out))
    objects = {"network": network, "optimizer": optimizer, "lr_scheduler": lr_scheduler, "step": step}
    objects |= {"record": record, "best": best}
    if average.decay:
        objects["average"] = average
    if plan.options.patience is not None:
        objects["early_stop"] = EarlyStop(plan.options.patience, best)
    return [
        RunStates(plan, objects, steps, validator, {} if views is None else {"views": views}),
        Forecast(plan),
        LrScheduleHandler(lr_scheduler, epoch_level=False, print_lr=False),
        average,
        Progress(plan.settings["bundle"]),
        best,
        *([objects["early_stop"]] if "early_stop" in objects else []),
        record,
        *other_handlers,
        ValidationHandler(1, validator, exec_at_start=views is not None and plan.resumed_from is None),
        Conclusion(
            lambda engine: best_validation(record, best, chance, engine.state.iteration),
            results | {"TensorBoard": output / "tensorboard"},
        ),
    ]


def prediction_handlers(
    handlers: Sequence[Any], output_dir: str, name: str, figures: Any, results: Mapping[str, str]
) -> list[Any]:
    """Return the Ignite handlers of an evaluation or inference, in the order of attachment.

    These are progress, `handlers`, trackers, which get the .json, .csv and .npz files, and a printed summary.

    Args:
        handlers: The config's own handlers and trackers.
        output_dir: Folder of the results.
        name: Name of the bundle.
        figures: Handler whose method `figures(engine)` returns the lines of the summary.
        results: Files and folders in `output_dir` by name; the summary prints their paths.
    """
    paths = {key: Path(output_dir) / path for key, path in results.items()}
    files = [path for path in paths.values() if path.suffix in (".json", ".csv", ".npz")]
    trackers, other_handlers = separate(handlers)
    tracking = Tracking(trackers, name_of_run(name, output_dir), files)
    return [Progress(name), *other_handlers, tracking, Conclusion(figures.figures, paths)]


class Conclusion:
    """Print the summary of a successful run, and the paths of its results.

    Args:
        figures: Function that returns the lines of an engine's summary; if there are none, no paths are printed.
        results: Files and folders by name; missing ones are not printed.
    """

    def __init__(self, figures: Callable[[Engine], Sequence[str]], results: Mapping[str, Path]) -> None:
        self.figures, self.results = figures, results

    def attach(self, engine: Engine) -> None:
        """Print after the run of `engine`, on the main process."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if lines := self.figures(engine):
            paths = {name: path.resolve() for name, path in self.results.items() if path.exists()}
            width = max(map(len, paths), default=0)
            show(*lines, *(f"{name:<{width}}  {path}" for name, path in paths.items()))


def best_validation(record: TrainingRecord, best: BestModel, chance: Mapping[str, float], iterations: int) -> list[str]:
    """Return lines about a run's best validation, with warnings about losses close to chance."""
    curves = record.content["validation"]["metrics"]
    for index, iteration in enumerate(record.content["validation"]["iteration"]):
        if iteration and curves[best.name][index] == best.best:
            break
    else:
        return [f"no model was saved: {best.name} was never finite"]
    lines = [f"best validation: {best.name} {best.best:.4f} at iteration {iteration:,} of {iterations:,}"]
    if best.best == 0:
        lines.append(f"warning: {best.name} 0: nothing was learnt; a lower learning_rate or more iterations may help")
    for name, level in chance.items():
        if name in curves and (curves[name][index] or 0) > NEAR_CHANCE * level:
            lines.append(
                f"warning: {name} {curves[name][index]:.4f}: no better than chance ({level:.4f}); "
                "more iterations, a lower learning_rate or a larger batch_size may help"
            )
    return lines
