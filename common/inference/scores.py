"""Score the predictions of an engine: a metric of Ignite, and the handler that writes the files of an evaluation."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from ..data.names import images_of, missing_in
from ..data.regions import display_order, regions_of
from ..data.volumes import is_made_up
from ..made import origin_of
from ..metrics.protocols import PRESENT, Protocol, Scores, by_metric
from ..metrics.protocols import protocol as protocol_of
from .evaluation import PREDICTIONS, RUN_FILES, entry_of, new_record, set_aside, write
from .outputs import files_of


class RegionScores:
    """Metric of Ignite: scores of each case and each region of a label convention by a protocol (`common.metrics`).

    `engine.state.metrics` gets for each region the mean Dice over all cases, `REGION` (DIFF-23), and over the cases
    with the region in the reference, `REGION_dice_present`; the number of these, `REGION_n_present`; and the mean of
    each further metric, `REGION_METRIC`. NAME, the metric's name, is the mean of all `REGION`, and `NAME_present` of
    all `REGION_dice_present`, without regions that no reference contains, unless none contains any.
    `engine.state.metric_details[NAME]` gets `Scores` by case and region, from all processes, each case once.

    The engine's output is decollated: "pred" and "label", each [R, H, W, D] of 0 and 1 on one grid, the label a
    MetaTensor. Each item of the engine's batch has "subject", the case's name.
    """

    def __init__(self, convention: str, protocol: str | Protocol = "dice") -> None:
        self.regions = list(regions_of(convention))
        self.protocol = protocol_of(protocol) if isinstance(protocol, str) else protocol
        self.cases: dict[str, dict[str, Scores]] = {}

    def attach(self, engine: Engine, name: str) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self.cases.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._average, name)

    def _score(self, engine: Engine) -> None:
        for output, item in zip(engine.state.output, engine.state.batch, strict=True):
            masks, truths = (dict(zip(self.regions, output[key], strict=True)) for key in ("pred", "label"))
            self.cases[item["subject"]] = self.protocol.score(masks, truths, output["label"].affine)

    def _average(self, engine: Engine, name: str) -> None:
        parts: Any = idist.all_gather(self.cases)
        cases = dict(sorted({case: scores for part in parts for case, scores in part.items()}.items()))
        means: dict[str, float] = {}
        for region in display_order(self.regions):
            values = by_metric([scores[region] for scores in cases.values()], self.protocol)
            means |= {region if metric == "dice" else f"{region}_{metric}": _mean(values[metric]) for metric in values}
            means[f"{region}_n_present"] = len(values[PRESENT])
        present = [region for region in self.regions if means[f"{region}_n_present"]]
        overall = {name: _mean(means[region] for region in present or self.regions)}
        overall[f"{name}_present"] = _mean(means[f"{region}_dice_present"] for region in present)
        engine.state.metrics |= overall | means
        engine.state.metric_details[name] = cases


def _mean(values: Iterable[float]) -> float:
    """Return the mean as a Python number; NaN without values."""
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else math.nan


class EvaluationFiles:
    """Handler that writes the files of an evaluation when the evaluator ends without an error.

    The evaluator's key metric must be a `RegionScores`, and its label maps be in OUTPUT_DIR/predictions. `settings` are
    those of run.json. Results of an earlier evaluation in the folder are moved aside before the run.
    """

    def __init__(
        self, output_dir: str, protocol: Protocol, cases: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
    ) -> None:
        self.folder, self.protocol, self.modalities = Path(output_dir), protocol, settings["modalities"]
        self.cases = {case["subject"]: case for case in cases}
        name = settings["bundle"] if settings["cohort"] == "unnamed" else settings["cohort"]
        made = origin_of(settings, is_made_up(cases[0]["label"]))
        self.record = new_record(name, settings["label_convention"], protocol, made)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda: set_aside(self.folder, *RUN_FILES))
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        for subject, scores in engine.state.metric_details[engine.state.key_metric_name].items():
            case, (prediction,) = self.cases[subject], files_of(subject, self.folder / PREDICTIONS)
            entry = entry_of(self.folder, scores, prediction, case["label"], images_of(case, self.modalities))
            missing = missing_in(case, self.modalities)
            self.record["cases"][subject] = entry | ({"missing_modalities": [*missing]} if missing else {})
        write(self.folder, self.record, self.protocol)
