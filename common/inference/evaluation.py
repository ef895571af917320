"""Score an evaluation, and write metrics.csv and summary.json for people, and cases.json, the record, for programs.

docs/reference/evaluation.md defines each column and key.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from ..data.modalities import images_of, missing_in
from ..data.regions import display_order, regions_of
from ..data.volumes import is_made_up
from ..errors import aligned, show
from ..files import move_aside, write_csv, write_json
from ..made import origin_of
from ..metrics.cards import PRESENT, Protocol, Scores, by_metric
from ..metrics.protocols import protocol as protocol_of
from ..metrics.statistics import FEWEST, RESAMPLES, describe
from .outputs import files_of

CASES, METRICS, SUMMARY, PAGE, SLICES = "cases.json", "metrics.csv", "summary.json", "evaluation.html", "slices"
RESULTS = (METRICS, CASES, PAGE, SLICES, SUMMARY)
PREDICTIONS, EARLIER = "predictions", "earlier"
RUN_FILES = ("run.json", PREDICTIONS, "pictures", "tensorboard")
COLUMNS = ("case", "region", "metric", "value", "unit")

Record = dict[str, Any]  # content of cases.json


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
        cohort = settings["cohort"]
        name = settings["bundle"] if cohort == "unnamed" else cohort
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


def new_record(name: str, convention: str, protocol: Protocol, made: Mapping[str, Any]) -> Record:
    """Return the record of an evaluation without cases."""
    rules = {"protocol": protocol.name, "settings": dict(protocol.settings)}
    return {"name": name, "label_convention": convention, **rules, "made": dict(made), "cases": {}}


def entry_of(
    folder: Path,
    scores: Mapping[str, Scores],
    prediction: Path | None,
    reference: str | Path,
    images: Iterable[tuple[str, Path]] = (),
) -> dict[str, Any]:
    """Return a case's entry in the record of an evaluation in `folder`; an infinite HD95 becomes None."""
    entry: dict[str, Any] = {"prediction": prediction and _path(folder, prediction)}
    entry |= {"reference": _path(folder, Path(reference)), "regions": {}}
    for region in display_order(scores):
        values, volumes, lesions = scores[region].values, scores[region].volumes, []
        for lesion in scores[region].lesions:
            lesions.append(asdict(lesion) | {"hd95": lesion.hd95 if math.isfinite(lesion.hd95) else None})
        entry["regions"][region] = {"values": values, "volumes_mm3": volumes, "lesions": lesions}
    modalities = {name: _path(folder, file) for name, file in images}
    return entry | ({"modalities": modalities} if modalities else {})


def _path(folder: Path, file: Path) -> str:
    """Return a file's path: relative if the file is in the folder, which may be moved, else absolute."""
    path, root = file.parent.resolve() / file.name, folder.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def set_aside(folder: Path, *names: str) -> None:
    """Move files of an earlier run, `names` included, to FOLDER/earlier-TIME, so that the results of two never mix."""
    for file in (folder / name for name in (*names, *RESULTS)):
        if file.exists():
            (folder / EARLIER).mkdir(exist_ok=True)
            file.rename(folder / EARLIER / file.name)
    move_aside(folder / EARLIER)


def write(folder: Path, record: Record, protocol: Protocol) -> None:
    """Write metrics.csv, cases.json and, last, summary.json; print the means by region and metric."""
    rows = [
        (case, region, metric, scores["values"][metric], unit)
        for case, entry in record["cases"].items()
        for region, scores in entry["regions"].items()
        for metric, unit in protocol.units.items()
    ]
    write_csv(folder / METRICS, [COLUMNS, *rows])
    write_json(folder / CASES, record)
    summary = summarise(record, protocol)
    write_json(folder / SUMMARY, summary)
    missing = f", {len(summary['missing'])} without prediction counted as empty" if summary["missing"] else ""
    means = [("region", "metric", "mean", "unit", "cases")]
    for region, by_name in summary["regions"].items():
        for name, statistics in by_name.items():
            mean = "-" if statistics["mean"] is None else f"{statistics['mean']:.4g}"
            means.append((region, name, mean, statistics["unit"], statistics["n"]))
    show(f"cases scored by {protocol.name}: {summary['cases']}{missing}", "", *aligned(means, right=(2, 4)))
    show("", f"results: {folder.resolve()}")


def regions_in(record: Record) -> list[str]:
    """Return the regions of an evaluation, in display order."""
    return list(next(iter(record["cases"].values()))["regions"])


def summarise(record: Record, protocol: Protocol) -> dict[str, Any]:
    """Return the content of summary.json: protocol, number of cases, missing predictions, and statistics by region."""
    cases, regions, lesions = record["cases"], {}, {}
    for region in regions_in(record):
        entries = [entry["regions"][region] for entry in cases.values()]
        scores = [Scores(entry["values"], (), entry["volumes_mm3"]) for entry in entries]
        regions[region] = {
            name: {**describe(values), "unit": protocol.units.get(name, "1")}
            for name, values in by_metric(scores, protocol).items()
        }
        lesions[region] = count_lesions([lesion for entry in entries for lesion in entry["lesions"]])
    return {
        "protocol": protocol.name,
        **protocol.settings,
        "cases": len(cases),
        "missing": [name for name, entry in cases.items() if entry["prediction"] is None],
        "interval": f"ci95: percentile bootstrap of the mean, {RESAMPLES} resamples; null below {FEWEST} cases",
        "regions": regions,
        "lesions": lesions,
    }


def count_lesions(lesions: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count the reference lesions, those large enough to be scored, those of them that are found, and false lesions."""
    scored = [lesion for lesion in lesions if lesion["is_reference"] and lesion["is_scored"]]
    references = sum(lesion["is_reference"] for lesion in lesions)
    found = sum(lesion["is_found"] for lesion in scored)
    return {"reference": references, "scored": len(scored), "found": found, "false": len(lesions) - references}
