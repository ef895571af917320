"""Scores of regions in validations and evaluations."""

import math
from collections.abc import Iterable
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events

from .. import metrics
from ..data.regions import display_order, regions_of
from ..data.scan_checks import check_grid


class RegionScores:
    """Metric of Ignite: scores of each case and each region of a label convention by a protocol (`common.metrics`).

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
        self.cases: dict[str, dict[str, metrics.Scores]] = {}

    def attach(self, engine: Engine, name: str) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self.cases.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._average, name)

    def _score(self, engine: Engine) -> None:
        for output, item in zip(engine.state.output, engine.state.batch, strict=True):
            name, prediction, reference = item["subject"], output["pred"], output["label"]
            affine = np.asarray(reference.affine)
            grid = prediction.shape[1:], np.asarray(getattr(prediction, "affine", affine))
            check_grid(f"prediction of {name}", grid, (reference.shape[1:], affine), "its label map")
            masks, truths = (dict(zip(self.regions, channels, strict=True)) for channels in (prediction, reference))
            self.cases[name] = self.protocol.score(masks, truths, reference.affine)

    def _average(self, engine: Engine, name: str) -> None:
        parts: Any = idist.all_gather(self.cases)
        merged = {case: scores for part in parts for case, scores in part.items()}
        cases = {case: merged[case] for case in sorted(merged)}
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
