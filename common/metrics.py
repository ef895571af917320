"""What a validation measures: the terms of the self-supervised loss, and Dice by region."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from monai.handlers import IgniteMetricHandler
from monai.metrics import DiceMetric

from common.losses import SSLLoss
from common.preflight import InputError
from common.transforms import regions

__all__ = ["LossTerms", "RegionDice"]


class LossTerms(Metric):
    """The mean of each term of the self-supervised loss over the views of a run, and their sum.

    The contrastive term is defined where a batch has two crops or more, and its mean is over such batches. Under the
    name that it is attached by, `engine.state.metrics` gets the total; under their own names, the terms. Across ranks
    the sums are reduced.

    Args:
        loss: the loss whose terms are meant.

    Raises:
        InputError: no batch had two crops.
    """

    TERMS = SSLLoss.TERMS

    def __init__(self, loss: SSLLoss, device: str | torch.device = "cpu") -> None:
        self.loss = loss
        super().__init__(output_transform=lambda output: (output,), device=device)  # Ignite unpacks mappings

    @reinit__is_reduced
    def reset(self) -> None:
        self._sums = torch.zeros(len(self.TERMS), dtype=torch.float64, device=self._device)
        self._views = torch.zeros(len(self.TERMS), dtype=torch.float64, device=self._device)

    @reinit__is_reduced
    def update(self, outputs: tuple[Mapping[str, Any]]) -> None:
        (output,) = outputs
        terms = self.loss(output["pred"], output["label"])
        views = len(output["image"])
        weights = torch.tensor([views if term != "contrastive" or views > 2 else 0 for term in self.TERMS])
        weights = weights.to(self._views)
        self._sums += weights * torch.stack([terms[name] for name in self.TERMS]).to(self._sums)
        self._views += weights

    @sync_all_reduce("_sums", "_views")
    def compute(self) -> dict[str, float]:
        if not self._views.all():
            raise InputError(
                "split validation: no batch with two crops, as telling views apart needs; expected more cases"
            )
        terms = dict(zip(self.TERMS, (self._sums / self._views).tolist(), strict=True))
        return {"total": sum(terms.values())} | terms

    def completed(self, engine: Engine, name: str) -> None:
        terms = self.compute()
        engine.state.metrics |= terms | {name: terms["total"]}


class RegionDice(IgniteMetricHandler):
    """Dice of each region of a label convention, the mean over cases (paper, Table 4).

    Under the name that it is attached by, `engine.state.metrics` gets the mean over regions; under their own names, the
    regions. `engine.state.metric_details[name]` holds [cases, regions]. Dice is 1 where prediction and reference are
    both empty, 0 where one of them is.

    Args:
        convention: brats2021, brats2023 or atlas.
        output_transform: gives (predictions, references), lists of [R, H, W, D] of 0 and 1.
    """

    def __init__(self, convention: str, output_transform: Callable[[Any], Any]) -> None:
        self.regions = list(regions(convention))
        dice = DiceMetric(include_background=True, reduction="mean_batch", ignore_empty=False)
        super().__init__(metric_fn=dice, output_transform=output_transform)

    def completed(self, engine: Engine, name: str) -> None:
        means = torch.atleast_1d(torch.as_tensor(self.compute())).tolist()
        engine.state.metrics |= {name: sum(means) / len(means)} | dict(zip(self.regions, means, strict=True))
