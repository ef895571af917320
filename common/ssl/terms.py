"""Held-out terms of the self-supervised loss."""

import math
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from ..errors import InputError
from .tasks import SSLLoss


class LossTerms:
    """Metric of Ignite: mean of each loss term over all views of a validation, and the weighted sum of the means.

    `engine.state.metrics` gets the total (as `total` and under the metric's name), each term (under the task's name),
    and `ProxyTask.cosine` of each task with embeddings (as `TASK_cosine`). Batches with fewer crops than a task's
    `least_crops` do not count for the task; raise `InputError` if all have fewer.
    """

    def __init__(self, loss: SSLLoss, device: str | torch.device = "cpu") -> None:
        self.loss, self.device = loss, device

    def attach(self, engine: Engine, name: str) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._average, name)

    def _reset(self) -> None:
        self._sums = torch.zeros(len(self.loss.tasks), 3, dtype=torch.float64, device=self.device)

    @torch.no_grad()
    def _add(self, engine: Engine) -> None:
        output = engine.state.output
        terms, views = self.loss(output["pred"], output["label"]), len(output["image"])
        for number, task in enumerate(self.loss.tasks):
            if views >= 2 * task.least_crops:
                cosine = task.cosine(output["pred"][task.name])
                for column, value in enumerate((terms[task.name], math.nan if cosine is None else cosine, 1)):
                    self._sums[number, column] += views * torch.as_tensor(value).to(self._sums)

    def _average(self, engine: Engine, name: str) -> None:
        terms, cosines = {}, {}
        sums: Any = idist.all_reduce(self._sums)
        for task, (total, cosine, views) in zip(self.loss.tasks, sums.tolist(), strict=True):
            if not views:
                problem = f"too few cases for a batch of {task.least_crops} crops, which the {task.name} loss needs"
                raise InputError("split validation", problem)
            terms[task.name] = total / views
            if not math.isnan(cosine):
                cosines[f"{task.name}_cosine"] = cosine / views
        total = sum(self.loss.weights[task] * term for task, term in terms.items())
        engine.state.metrics |= {"total": total} | terms | cosines | {name: total}
