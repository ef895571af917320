"""Read the records of runs (`run.json`, see `common.training.RunRecord`)."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import InputError
from common.files import digest, valid_json, why_no_folder
from common.inference.publishing import SUMMARY, is_published
from common.schemas import array, check_schema, entries, mapping

MLFLOW = {"mlruns", "mlartifacts"}  # folders with MLflow's copies of records
TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
POSITIVE = {"type": "number", "minimum": 0, "maximum": 1e9}
NUMBER = {"type": ["number", "null"]}
TEXTS = array(TEXT)
OBJECT = {"type": "object"}
AXIS = array(COUNT)
CURVE = array(NUMBER, maxItems=100_000, description="up to 100,000 values")
RATES = {"learning_rate": "learning rate", "seconds_per_step": "seconds per step"}  # curves beside the losses
CURVES = mapping(CURVE, maxProperties=100, description="up to 100 curves")  # each takes a moment to draw
FATES = dict.fromkeys(("matched", "changed", "missing", "unexpected"), COUNT)
MEAN = entries({"mean": NUMBER, "n": COUNT})
# Schemas of an evaluation's summary.json
DICE = entries({"dice": MEAN, "dice_present": MEAN})
SCORES = entries(cases=COUNT, regions=mapping(DICE))

# The content of `run.json`: default for an interrupted run, and schema
FIELDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "bundle": (None, TEXT),
    "workflow": (None, {"enum": ["train", "evaluate"]}),
    "finished": (False, {"type": "boolean"}),
    "command": ("", TEXT),
    "started": ("", TEXT),
    "seconds": (math.nan, POSITIVE),
    "peak_memory_gib": (math.nan, POSITIVE),
    "peak_gpu_memory_gib": (math.nan, POSITIVE),
    "device": ("", TEXT),
    "world_size": (1, COUNT),
    "versions": ({}, mapping(TEXT)),
    "git_commit": ("not recorded", TEXT),
    "config": ({}, OBJECT),
    "made_up": (False, {"type": "boolean"}),
    "checkpoints": ({}, mapping(TEXT)),
    "weights": ({}, entries(source={"type": ["string", "null"]}, tensors=mapping(TEXTS), **FATES)),
    "quantities": ({}, mapping(TEXT)),
    "train": ({}, entries(iteration=AXIS, loss=CURVES, **dict.fromkeys(RATES, CURVE))),
    "validation": ({}, entries(iteration=AXIS, metrics=CURVES)),
    "pictures": ([], TEXTS | {"items": TEXT | {"pattern": r"\A[^\0]{1,4000}\Z"}}),
}
SCHEMA = entries(**{name: schema for name, (_, schema) in FIELDS.items()}) | {"required": ["bundle", "workflow"]}


class Run:
    """A `run.json` and its folder; `FIELDS` lists the attributes, with the defaults for an interrupted run.

    `is_outdated` marks an evaluation whose weights were replaced by later training.
    """

    def __init__(self, folder: Path, content: Mapping[str, Any]) -> None:
        self.folder = folder
        self.scores: dict[str, Any] = {}
        self.is_outdated = False
        self.__dict__ |= {name: content.get(name, default) for name, (default, _) in FIELDS.items()}

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    @property
    def start(self) -> datetime | None:
        """Start of the run; None if it was not recorded."""
        return datetime.fromisoformat(self.started) if self.started else None

    @property
    def tensors(self) -> list[int]:
        """Numbers of matched, changed, missing and unexpected tensors of the loaded weights."""
        return [self.weights.get(fate, 0) for fate in FATES]

    @property
    def losses(self) -> dict[str, list[float | None]]:
        """Training losses by term."""
        return self.train.get("loss", {})

    @property
    def metrics(self) -> dict[str, list[float | None]]:
        """Values of each metric on the held-out subjects, one for each validation."""
        return self.validation.get("metrics", {})

    @property
    def other_metrics(self) -> dict[str, list[float | None]]:
        """Validation metrics except losses and those over only the subjects that have the region (`..._present`).

        These are Dice over all subjects, by region and on average, and further metrics of the protocol; in pretraining,
        cosines.
        """
        named = self.metrics.items()
        return {name: values for name, values in named if name not in self.losses and not name.endswith("_present")}


@dataclass
class Stage:
    """A run and, if there is one, the evaluation of its weights."""

    run: Run
    evaluation: Run | None = None

    @property
    def runs(self) -> list[Run]:
        """The run and its evaluation."""
        return [self.run, self.evaluation] if self.evaluation else [self.run]

    @property
    def scored(self) -> Run | None:
        """The run with this stage's scores; None if no subject was scored."""
        return next((run for run in reversed(self.runs) if run.scores.get("cases")), None)


def read_stages(folder: Path) -> list[Stage]:
    """Read training runs with their evaluations, then unmatched evaluations, from a folder and its subfolders.

    Both are in order of start time. The evaluation of a run is in or below its folder and scored its current weights.
    MLflow's copies, unfinished results and results moved aside are skipped. Raises an InputError if the folder does not
    exist or holds no `run.json`, or if a record is malformed.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: {why_no_folder(folder)}; expected a folder that holds run.json files")
    inside = [path.relative_to(folder) for path in sorted(folder.rglob("run.json"))]
    paths = [folder / path for path in inside if not MLFLOW & set(path.parts) and is_published(path)]
    if not paths:
        raise InputError(f"{folder}: no run.json in or below this folder; expected the folder of at least one run")
    runs = sorted(map(read_run, paths), key=lambda run: run.start.timestamp() if run.start else math.inf)
    stages: list[Stage] = []
    for run in sorted(runs, key=lambda run: run.workflow == "evaluate"):
        trained = next((stage for stage in stages if _evaluates(run, stage)), None)
        run.is_outdated = trained is not None and _is_outdated(run, trained.run)
        if trained and not run.is_outdated:
            trained.evaluation = run
        else:
            stages.append(Stage(run))
    return stages


def read_run(path: Path) -> Run:
    """Read and check a `run.json`, with the `summary.json` of an evaluation."""
    content = valid_json(path, "the record of a run")
    if isinstance(content, dict):
        content = {name: value for name, value in content.items() if value is not None}
    check_schema(content, SCHEMA, str(path), "the record of a run")
    run = Run(path.parent, content)
    summary = path.with_name(SUMMARY)
    if run.workflow == "evaluate" and summary.is_file():
        run.scores = valid_json(summary, "the summary of an evaluation", SCORES | {"required": ["cases", "regions"]})
    try:
        _ = run.start and run.start.timestamp()
    except (ValueError, OverflowError):
        raise InputError(f"{path}: $.started is {run.started!r}; expected a date and time in ISO 8601") from None
    rates = {name: run.train[name] for name in RATES if name in run.train}
    for axis, curves in ((run.train, {**run.losses, **rates}), (run.validation, run.metrics)):
        length = len(axis.get("iteration", []))
        for name, values in curves.items():
            if len(values) != length:
                raise InputError(f"{path}: {name!r} has {len(values)} values; expected {length}, one per iteration")
    for picture in run.pictures:
        if not (run.folder / picture).resolve().is_relative_to(run.folder.resolve()):
            raise InputError(f"{path}: picture {picture!r} lies outside the run; expected a path relative to the run")
    return run


def _evaluates(run: Run, stage: Stage) -> bool:
    same = run.bundle == stage.run.bundle and run.folder.is_relative_to(stage.run.folder)
    return same and run.workflow == "evaluate" and stage.run.workflow == "train" and stage.evaluation is None


def _is_outdated(evaluation: Run, training: Run) -> bool:
    """Whether training has replaced the weights since they were evaluated."""
    if evaluation.start and training.start and evaluation.start.timestamp() < training.start.timestamp():
        return True
    weights = {Path(path): sha256 for path, sha256 in evaluation.checkpoints.items()}
    return any(path.is_file() and digest(path) != sha256 for path, sha256 in weights.items())


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean without None values; None if no value is left."""
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None
