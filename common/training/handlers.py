"""Handlers and metrics that MONAI and Ignite lack: pictures, loss terms, scores of regions."""

import math
from collections.abc import Callable, Iterable, Mapping
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
from torch.utils.tensorboard import SummaryWriter

from .. import metrics
from ..data.regions import display_order, regions_of
from ..data.scan_checks import check_grid
from ..errors import InputError, one_line, show
from ..files import atomic_write
from ..ssl import COSINE
from ..ssl.tasks import SSLLoss


class Pictures:
    """Draw the inputs and outputs of a validation or an evaluation, as PNG files and in TensorBoard.

    `draw` is a function from the engine's output and batch to RGB pictures by name; see `common.inference.pictures`.
    `last_only` draws only the last batch of a run. `epoch_length` makes TensorBoard's steps count iterations. A failed
    picture does not end the run; a line reports it.
    """

    def __init__(
        self,
        output_dir: str,
        draw: Callable[..., Mapping[str, np.ndarray]],
        last_only: bool = False,
        epoch_length: int = 1,
    ) -> None:
        self.folder, self.draw, self.last_only, self.epoch_length = Path(output_dir), draw, last_only, epoch_length

    def attach(self, engine: Engine) -> None:
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED if self.last_only else Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        try:
            with SummaryWriter(self.folder / "tensorboard" / "pictures") as writer:
                for name, pixels in self.draw(engine.state.output, engine.state.batch).items():
                    with atomic_write(self.folder / "pictures" / f"{name}.png") as file:
                        Image.fromarray(pixels).save(file, format="PNG")
                    writer.add_image(name, pixels, engine.state.epoch * self.epoch_length, dataformats="HWC")
        except Exception as error:
            show(f"warning: {self.folder / 'pictures'}: not drawn: {one_line(error)}", error=True)


class LossTerms(Metric):
    """Mean of each term of the self-supervised loss over all views of a validation, and the weighted sum of the means.

    `engine.state.metrics` gets the total (as `total` and under the metric's name), each term (under the task's name),
    and `ProxyTask.cosine` of each task with embeddings (as `TASK_cosine`). Batches with fewer crops than a task's
    `least_crops` do not count for the task; raise `InputError` if all have fewer.
    """

    def __init__(self, loss: SSLLoss, device: str | torch.device = "cpu") -> None:
        self.loss = loss
        super().__init__(output_transform=lambda output: (output,), device=device)  # Ignite unpacks mappings

    @reinit__is_reduced
    def reset(self) -> None:
        self._sums = torch.zeros(len(self.loss.tasks), 3, dtype=torch.float64, device=self._device)

    @reinit__is_reduced
    def update(self, outputs: tuple[Mapping[str, Any]]) -> None:
        (output,) = outputs
        terms, views = self.loss(output["pred"], output["label"]), len(output["image"])
        for number, task in enumerate(self.loss.tasks):
            if views >= 2 * task.least_crops:
                cosine = task.cosine(output["pred"][task.name])
                for column, value in enumerate((terms[task.name], math.nan if cosine is None else cosine, 1)):
                    self._sums[number, column] += views * torch.as_tensor(value).to(self._sums)

    @sync_all_reduce("_sums")
    def compute(self) -> dict[str, float]:
        terms, cosines = {}, {}
        for task, (total, cosine, views) in zip(self.loss.tasks, self._sums.tolist(), strict=True):
            if not views:
                problem = f"too few cases for a batch of {task.least_crops} crops, which the {task.name} loss needs"
                raise InputError("split validation", problem)
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
    mean Dice over these cases, `REGION_dice_present`. NAME, the metric's name, is the mean of all `REGION`, and
    `NAME_present` of all `REGION_dice_present`, without regions that no reference contains, unless none contains any
    (mean over all cases: DIFF-23). `engine.state.metric_details[NAME]` gets `common.metrics.Scores` by case and region,
    from all processes; a case on several processes counts once.

    The engine's output must be decollated: "pred" and "label", each [R, H, W, D] of 0 and 1 on one grid, the label a
    MetaTensor with an affine. Each item of the engine's batch must have the case's name, "subject".
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
        check_grid(f"prediction of {name}", grid, (reference.shape[1:], affine), "its label map")
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
        overall = {name: _mean(means[region] for region in present or self.regions)}
        overall[f"{name}_present"] = _mean(means[f"{region}_dice_present"] for region in present)
        engine.state.metrics |= overall | means
        engine.state.metric_details[name] = cases


def _mean(values: Iterable[float]) -> float:
    """Return the mean as a Python number; NaN without values."""
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else math.nan
