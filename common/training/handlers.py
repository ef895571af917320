"""Handlers and metrics that MONAI and Ignite lack: progress, cost forecast, loss terms, scores, pictures."""

import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from monai.data import MetaTensor
from PIL import Image
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from .. import metrics
from ..bars import tqdm
from ..data.regions import display_order, regions_of
from ..data.scan_checks import grid_problem, raise_problem
from ..drawing import Figure, pixels_of
from ..errors import ArgumentError, InputError, one_line, show
from ..files import atomic_write
from ..ssl import COSINE
from ..ssl.tasks import SSLLoss
from .plan import Plan
from .records import peak_memory


class Forecast:
    """Print the cost of a training run: steps, crops and disk space at the start; time and memory after some steps.

    Raise `ArgumentError` if the disk is too small for the checkpoints, and `InputError` if a batch does not have the
    planned size. The disk space assumes an optimiser with two moments per parameter, such as AdamW.
    """

    STEPS = 10  # number of timed steps, after a first step that also fills caches
    PATIENCE = 0.1  # fraction of the time spent waiting for data, above which advice is printed

    def __init__(self, plan: Plan, network: nn.Module) -> None:
        self.plan, self.network, self.folder = plan, network, Path(plan.options.ckpt_dir)
        self._start = self._waited = 0.0
        self._first = self._last = 0  # iterations after which the timing starts and ends

    def attach(self, engine: Engine) -> None:
        """Print the cost of the training run of `engine`, on the main process."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self._announce)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._time)

    def _announce(self, engine: Engine) -> None:
        plan, options, left = self.plan, self.plan.options, _steps_left(engine)
        self._first = engine.state.iteration + 1
        self._last = self._first + min(self.STEPS, left // 2)
        product = (
            f"batch_size {options.batch_size} x batches {plan.accumulation_steps} x processes {plan.processes.count}"
        )
        batch, per_volume = plan.global_batch_size, plan.crops_per_volume
        crops, plural = left * batch, "s" * (batch > 1)
        note = f", {per_volume} from each volume" if per_volume > 1 else ""
        epochs = f"{crops / per_volume / plan.training_cases:,.1f} epochs of {plan.training_cases:,} cases"
        show(f"to do: {left:,} steps of {batch} crop{plural} ({product}); in all {crops:,} crops{note}; {epochs}")
        files = [*self.folder.glob("iteration-*.pt"), *self.folder.glob("model.pt")]
        existing = sum(file.stat().st_size for file in files)
        needed, free = max(0, self._disk() - existing) / 2**30, shutil.disk_usage(self.folder).free / 2**30
        show(f"disk: {needed:.2f} GiB more for the checkpoints in {self.folder}; {free:.2f} GiB free")
        if needed > free:
            raise ArgumentError("ckpt_dir", self.folder, f"{free:.2f} GiB free; need {needed:.2f} GiB")

    def _disk(self) -> int:
        """Return the bytes of model.pt and the saved states; each new file is written before an old one is deleted."""
        weights = sum(value.nbytes for value in self.network.state_dict().values())
        moments = 2 * sum(value.nbytes for value in self.network.parameters())
        average = weights if getattr(self.plan.options, "average_decay", 0) else 0
        return 2 * weights + (self.plan.options.keep + 1) * (weights + moments + average)

    def _time(self, engine: Engine) -> None:
        if engine.state.iteration == self._first:
            size = self.plan.options.batch_size
            crops = engine.state.output.get("crops", size)
            if crops != size:  # as by `num_samples` in an overlay; the printed and recorded numbers would be wrong
                expected = f"batch_size={size}; to draw several crops of a volume, lower train::dataloader::batch_size"
                raise InputError("train::random_transforms", f"{crops} crops in a batch", expected)
            self._start, self._waited = time.monotonic(), engine.state.dataloader.waited
        elif engine.state.iteration == self._last:
            passed = time.monotonic() - self._start
            seconds = passed / (self._last - self._first)
            left = timedelta(seconds=math.ceil(seconds * _steps_left(engine)))
            to_go = f"about {left} to go; " if left else ""
            memory = ", ".join(f"{value:.2f} GiB" for value in peak_memory().values())
            share = (engine.state.dataloader.waited - self._waited) / passed
            show(
                f"time: {seconds:.2f} s a step ({100 * share:.0f} % waiting for data){self._advice(share)}; "
                f"{to_go}peak memory of one process (RAM, GPU): {memory}"
            )

    def _advice(self, share: float) -> str:
        """Return advice if much of the time is spent waiting for data; otherwise an empty text."""
        if share <= self.PATIENCE:
            return ""
        if not self.plan.options.store:
            return "; python -m scripts.store and --store read crops faster"
        allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        cores = len(allowed) // self.plan.processes.count
        has_more = self.plan.options.num_workers < cores
        return f"; --num_workers={cores} reads more crops at a time" if has_more else ""


def _steps_left(engine: Engine) -> int:
    return engine.state.epoch_length * engine.state.max_epochs - engine.state.iteration


class Progress:
    """Progress bar of the whole run, in steps, with the time left, the latest loss and the latest key metric."""

    def __init__(self, name: str, validator: Any = None) -> None:
        self.name, self.validator = name, validator
        self._bar = tqdm(disable=True)  # until the run starts

    def attach(self, engine: Engine) -> None:
        """Show the progress of `engine`, on the main process."""
        if idist.get_rank() != 0:
            return
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED, lambda: self._bar.close())
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._abandon)

    def _open(self, engine: Engine) -> None:
        self._bar = tqdm(
            total=engine.state.max_epochs * engine.state.epoch_length,
            initial=engine.state.iteration,
            desc=self.name,
            unit="step",
            mininterval=0.5 if sys.stderr.isatty() else 10,  # seconds; a log file needs fewer lines
            dynamic_ncols=True,
        )

    def _abandon(self, engine: Engine, error: Exception) -> None:
        self._bar.close()  # so that the error's message starts on a new line
        raise error

    def _advance(self, engine: Engine) -> None:
        if self._bar.update() and isinstance(engine.state.output, Mapping) and "loss" in engine.state.output:
            figures = {"loss": engine.state.output["loss"].item()} | self._score()
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in figures.items()}, refresh=False)

    def _score(self) -> dict[str, float]:
        """Return the latest key metric; empty before the first validation."""
        state: Any = getattr(self.validator, "state", None)
        name = getattr(state, "key_metric_name", None)
        return {name: state.metrics[name]} if name and name in state.metrics else {}


class Pictures:
    """Draw the inputs and outputs of a validation or an evaluation, as PNG files and in TensorBoard.

    A failed picture does not end the run; only the first failure is reported, in one line.

    Args:
        output_dir: Folder of `pictures`, for the files, and of `tensorboard/pictures`, for the events.
        draw: Function from the engine's output and batch to pictures by file name; see `common.inference.pictures`.
        last_only: Whether to draw only the last batch of a run.
        epoch_length: Iterations per epoch, so that TensorBoard's steps count iterations; 1 for an evaluation.
    """

    def __init__(
        self,
        output_dir: str,
        draw: Callable[[Any, Any], Mapping[str, Figure]],
        last_only: bool = False,
        epoch_length: int = 1,
    ) -> None:
        self.folder = Path(output_dir)
        self.draw, self.last_only, self.epoch_length = draw, last_only, epoch_length
        self._has_warned = False
        self._writer: SummaryWriter | None = None  # opened for the first picture

    def attach(self, engine: Engine) -> None:
        """Draw the outputs of `engine`, on the main process."""
        if idist.get_rank() != 0:
            return
        event = Events.EPOCH_COMPLETED if self.last_only else Events.ITERATION_COMPLETED
        engine.add_event_handler(event, self)
        if not self.last_only:  # close the event file, because an evaluation's folder is moved at the end
            engine.add_event_handler(Events.COMPLETED, self._close)

    def __call__(self, engine: Engine) -> None:
        with self._warning():
            self._draw(engine)

    @contextmanager
    def _warning(self) -> Iterator[None]:
        """Context manager: suppress exceptions, and report the first."""
        try:
            yield
        except Exception as error:
            if not self._has_warned:
                self._has_warned = True
                show(f"warning: {self.folder / 'pictures'}: not drawn: {one_line(error)}", error=True)

    def _draw(self, engine: Engine) -> None:
        for name, figure in self.draw(engine.state.output, engine.state.batch).items():
            pixels = pixels_of(figure, dots=110)
            with atomic_write(self.folder / "pictures" / f"{name}.png") as file:
                Image.fromarray(pixels).save(file, format="PNG")
            step = engine.state.epoch * self.epoch_length
            self._writer = self._writer or SummaryWriter(self.folder / "tensorboard" / "pictures", purge_step=step)
            self._writer.add_image(name, pixels, step, dataformats="HWC")
        if self._writer:
            self._writer.flush()

    def _close(self) -> None:
        with self._warning():
            if self._writer:
                self._writer.close()


class LossTerms(Metric):
    """Mean of each term of the self-supervised loss over all views of a validation, and the weighted sum of the means.

    Means are over the views of all ranks. Batches with fewer crops than a task's `least_crops` do not count for the
    task. `engine.state.metrics` gets the total (as `total` and under the metric's name), each term (under the task's
    name), and `ProxyTask.cosine` of each task with embeddings (as `TASK_cosine`).

    Raises:
        InputError: Every batch had fewer crops than a task needs.
    """

    def __init__(self, loss: SSLLoss, device: str | torch.device = "cpu") -> None:
        self.loss = loss
        super().__init__(output_transform=lambda output: (output,), device=device)  # Ignite unpacks mappings

    @reinit__is_reduced
    def reset(self) -> None:
        self._sums = torch.zeros(2, len(self.loss.tasks), dtype=torch.float64, device=self._device)  # losses, cosines
        self._views = torch.zeros(len(self.loss.tasks), dtype=torch.float64, device=self._device)

    @reinit__is_reduced
    def update(self, outputs: tuple[Mapping[str, Any]]) -> None:
        (output,) = outputs
        terms, tasks = self.loss(output["pred"], output["label"]), self.loss.tasks
        cosines = [task.cosine(output["pred"][task.name]) for task in tasks]
        views = len(output["image"])
        weights = torch.tensor([views if views >= 2 * task.least_crops else 0 for task in tasks]).to(self._views)
        self._sums[0] += weights * torch.stack([terms[task.name] for task in tasks]).to(self._sums)
        self._sums[1] += weights * torch.tensor([math.nan if mean is None else mean for mean in cosines]).to(self._sums)
        self._views += weights

    @sync_all_reduce("_sums", "_views")
    def compute(self) -> dict[str, float]:
        terms, cosines = {}, {}
        for task, total, cosine, views in zip(self.loss.tasks, *self._sums.tolist(), self._views.tolist(), strict=True):
            if not views:
                raise InputError(
                    "split validation",
                    f"too few cases for a batch of {task.least_crops} crops, which the {task.name} loss needs",
                )
            terms[task.name] = total / views
            if not math.isnan(cosine):
                cosines[f"{task.name}{COSINE}"] = cosine / views
        return {"total": sum(self.loss.weights[name] * value for name, value in terms.items())} | terms | cosines

    def completed(self, engine: Engine, name: str) -> None:
        terms = self.compute()
        engine.state.metrics |= terms | {name: terms["total"]}


class RegionScores(Metric):
    """Scores of each case and each region of a label convention by a protocol; see `common.metrics`.

    `engine.state.metrics` gets for each region the mean Dice over all cases, `REGION`; the mean of each further metric
    of the protocol, `REGION_METRIC`; the number of cases with the region in the reference, `REGION_n_present`; and the
    mean Dice over these cases, `REGION_dice_present` (NaN without cases). NAME, the metric's name, is the mean of all
    `REGION`, and `NAME_present` of all `REGION_dice_present`, without regions that no reference contains. If no
    reference contains any region, NAME is the mean over all regions and `NAME_present` is NaN. DIFF-23

    `engine.state.metric_details[NAME]` gets `common.metrics.Scores` by case and region, from all processes. Processes
    may have different numbers of cases; a case on several processes counts once.

    The engine's output must be decollated: "pred" and "label", each [R, H, W, D] of 0 and 1, the label a MetaTensor
    with an affine. Each item of the engine's batch must have the case's name, "subject".

    Raises:
        InputError: A prediction is not on the grid of its label map.
    """

    def __init__(self, convention: str, protocol: str | metrics.Protocol = "dice") -> None:
        self.regions = list(regions_of(convention))
        self.protocol = metrics.protocol(protocol) if isinstance(protocol, str) else protocol
        super().__init__()

    @reinit__is_reduced
    def reset(self) -> None:
        self.cases: dict[str, dict[str, metrics.Scores]] = {}

    def iteration_completed(self, engine: Engine) -> None:
        for output, item in zip(engine.state.output, engine.state.batch, strict=True):
            self.update((item["subject"], output["pred"], output["label"]))

    @reinit__is_reduced
    def update(self, case: tuple[str, torch.Tensor, MetaTensor]) -> None:
        name, prediction, reference = case
        affine = np.asarray(reference.affine)
        grid = prediction.shape[1:], np.asarray(getattr(prediction, "affine", affine))
        raise_problem(grid_problem(f"prediction of {name}", grid, (reference.shape[1:], affine), "its label map"))
        masks, truths = (dict(zip(self.regions, channels, strict=True)) for channels in (prediction, reference))
        self.cases[name] = self.protocol.score(masks, truths, reference.affine)

    def compute(self) -> dict[str, dict[str, metrics.Scores]]:
        parts: Any = idist.all_gather(self.cases)
        merged = {name: scores for part in parts for name, scores in part.items()}
        return {name: merged[name] for name in sorted(merged)}

    def completed(self, engine: Engine, name: str) -> None:
        cases = self.compute()
        means: dict[str, float] = {}
        for region in display_order(self.regions):
            values = metrics.by_metric([scores[region] for scores in cases.values()], self.protocol)
            means |= {region if metric == "dice" else f"{region}_{metric}": _mean(values[metric]) for metric in values}
            means[f"{region}_n_present"] = len(values[metrics.PRESENT])
        present = [region for region in self.regions if means[f"{region}_n_present"]]
        over_present = (means[f"{region}_dice_present"] for region in present)
        overall = {name: _mean(means[region] for region in present or self.regions)}
        overall[f"{name}_present"] = _mean(over_present)
        engine.state.metrics |= overall | means
        engine.state.metric_details[name] = cases


def _mean(values: Iterable[float]) -> float:
    """Return the mean as a Python number; NaN without values."""
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else math.nan
