"""The weighted sum of the proxy tasks' losses, in training and on held-out views."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import nn

from ..errors import ArgumentError, InputError
from .tasks import ProxyTask, paper_tasks


class SSLLoss(nn.Module):
    """Weighted sum of the proxy tasks' losses; in the paper, all weights are 1 (section 2.3).

    Args:
        tasks: Proxy tasks; by default the paper's.
        weights: Task weights, at least 0: a list in the order of the tasks, or a mapping by name (default 1).

    Shapes:
        prediction: output of `SSLHead`; target: targets of `TwoViews`. Output: scalars by name: "total" (to minimise),
        and the unweighted loss of each task.
    """

    def __init__(
        self, tasks: Sequence[ProxyTask] | None = None, weights: Sequence[float] | Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        self.tasks = paper_tasks() if tasks is None else list(tasks)
        names = [task.name for task in self.tasks]
        overrides = {} if weights is None else weights
        is_complete = isinstance(overrides, Mapping) or len(overrides) == len(names)
        given = overrides if isinstance(overrides, Mapping) else dict(zip(names, overrides, strict=False))
        self.weights = dict.fromkeys(names, 1.0) | dict(given)
        is_valid = all(0 <= weight < math.inf for weight in self.weights.values()) and any(self.weights.values())
        if not is_complete or self.weights.keys() != set(names) or not is_valid:
            expected = f"a weight of at least 0 for each of {', '.join(names)}, not all 0"
            raise ArgumentError("loss_weights", weights, expected=expected)

    def forward(self, prediction: Mapping[str, torch.Tensor], target: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        terms = {task.name: task.loss(prediction[task.name], target.get(task.name)) for task in self.tasks}
        weighted = [self.weights[name] * term for name, term in terms.items() if self.weights[name]]
        return {"total": torch.stack(weighted).sum()} | terms


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
