"""Read the records of runs (`run.json`, see `common.training.RunRecord`) and link them to stages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import check_schema, valid_json
from common.inference.publishing import is_earlier
from scripts.report.scores import mean, region_statistics

__all__ = ["Run", "Stage", "read_runs", "stages_of"]

MLFLOW = {"mlruns", "mlartifacts"}  # folders in which MLflow keeps copies of records
TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
NUMBER = {"type": ["number", "null"]}
TEXTS = {"type": "array", "items": TEXT}
CURVES = {"type": "object", "additionalProperties": {"type": "array", "items": NUMBER}}
SCORES_OF_CASE = {"type": "object", "additionalProperties": NUMBER}

# The content of `run.json`. A run can be interrupted, so only the first two parts are required.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["bundle", "workflow"],
    "properties": {
        "bundle": TEXT,
        "workflow": {"enum": ["train", "evaluate"]},
        "finished": {"type": "boolean"},
        "command": TEXT,
        "started": TEXT,
        "seconds": {"type": "number", "minimum": 0},
        "peak_memory_gib": {"type": "number", "minimum": 0},
        "peak_gpu_memory_gib": {"type": "number", "minimum": 0},
        "device": TEXT,
        "world_size": COUNT,
        "versions": {"type": "object", "additionalProperties": TEXT},
        "git_commit": TEXT,
        "config": {"type": "object"},
        "weights": {
            "type": "object",
            "properties": {
                "source": {"type": ["string", "null"]},
                **dict.fromkeys(("matched", "changed", "missing", "unexpected"), COUNT),
                "tensors": {"type": "object", "additionalProperties": TEXTS},
                "shares": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "number"}}},
            },
        },
        "train": {"type": "object", "properties": {"iteration": {"type": "array", "items": COUNT}, "loss": CURVES}},
        "validation": {
            "type": "object",
            "properties": {"iteration": {"type": "array", "items": COUNT}, "metrics": CURVES},
        },
        "scores": {
            "type": "object",
            "required": ["regions", "cases"],
            "properties": {
                "regions": TEXTS,
                "cases": {"type": "object", "additionalProperties": SCORES_OF_CASE},
                "mean_present": SCORES_OF_CASE,
                "n_present": {"type": "object", "additionalProperties": COUNT},
            },
        },
        "pictures": TEXTS,
    },
}


@dataclass(frozen=True)
class Run:
    """A `run.json` and its folder; parts that an interrupted run did not record are empty."""

    folder: Path
    bundle: str
    workflow: str
    finished: bool = False
    command: str = ""
    started: str = ""
    seconds: float = math.nan
    peak_memory_gib: float = math.nan
    peak_gpu_memory_gib: float | None = None
    device: str = ""
    world_size: int = 1
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)

    @property
    def start(self) -> datetime | None:
        """Start of the run, None if it was not recorded."""
        return datetime.fromisoformat(self.started) if self.started else None

    @property
    def losses(self) -> dict[str, list[float | None]]:
        """Training loss by term."""
        return self.train.get("loss", {})

    @property
    def metrics(self) -> dict[str, list[float | None]]:
        """Metrics on held-out subjects by name, one value per validation."""
        return self.validation.get("metrics", {})

    @property
    def other_metrics(self) -> dict[str, list[float | None]]:
        """The metrics that are neither held-out losses nor counts of cases: Dice of all regions and of each."""
        apart = {*self.losses, *(name for name in self.metrics if name.endswith("_n_present"))}
        return {name: values for name, values in self.metrics.items() if name not in apart and values}

    @property
    def shares(self) -> dict[str, str]:
        """Each modality's share of the response of a changed layer, in words, by the layer's name."""
        names = self.config.get("modalities") or []
        return {
            layer: ", ".join(f"{name} {share:.0%}" for name, share in zip(names, shares, strict=False))
            for layer, shares in self.weights.get("shares", {}).items()
        }

    @property
    def mean_score(self) -> float:
        """The mean over the regions of the mean over all cases, NaN without scores."""
        return mean(row["mean"] for row in region_statistics(self.scores))

    @property
    def mean_score_present(self) -> float:
        """The mean over the regions of the mean over the cases that have the region, NaN if it was not recorded."""
        return mean(row["mean_present"] for row in region_statistics(self.scores))

    @property
    def trend(self) -> tuple[str, float | None, float | None] | None:
        """Name, first and last value of the main validation metric."""
        for name in ("total", *self.metrics):
            if values := self.metrics.get(name):
                return name, values[0], values[-1]
        return None

    def picture(self, name: str) -> Path | None:
        """The picture of a name (without folder and suffix), None if the run has none."""
        return next((self.folder / path for path in self.pictures if Path(path).stem == name), None)


@dataclass
class Stage:
    """A run, the evaluation of its weights, and the stages that started from them."""

    run: Run
    evaluation: Run | None = None
    children: list["Stage"] = field(default_factory=list)

    @property
    def scored(self) -> Run | None:
        """The run with this stage's scores, None if no subject was scored."""
        return next((run for run in reversed(self.runs) if run.scores.get("cases")), None)

    @property
    def runs(self) -> list[Run]:
        """The run and, if there is one, its evaluation."""
        return [self.run, self.evaluation] if self.evaluation else [self.run]


def read_runs(folder: Path) -> list[Run]:
    """All runs in a folder and below it, in the order of their starts, without copies of MLflow and earlier results.

    Raises:
        InputError: the folder does not exist or holds no `run.json`, or one of them is malformed.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one that holds run.json files")
    inside = [path.relative_to(folder) for path in sorted(folder.rglob("run.json"))]
    paths = [folder / path for path in inside if not MLFLOW & set(path.parts) and not is_earlier(path)]
    if not paths:
        raise InputError(f"{folder}: no run.json in or below it; expected the folder of at least one run")
    return sorted(map(_read_run, paths), key=lambda run: run.start.timestamp() if run.start else math.inf)


def _read_run(path: Path) -> Run:
    content = valid_json(path, "the record of a run")
    if isinstance(content, dict):
        content = {name: value for name, value in content.items() if value is not None}
    check_schema(content, SCHEMA, str(path), "the record of a run")
    known = {name.name for name in fields(Run)} - {"folder"}
    run = Run(path.parent, **{name: value for name, value in content.items() if name in known})
    _check(run, path)
    return run


def _check(run: Run, path: Path) -> None:
    """Check what the schema cannot: dates, lengths of curves, pictures inside the folder."""
    try:
        _ = run.start
    except ValueError:
        raise InputError(f"{path}: $.started is {run.started!r}; expected a date and time in ISO 8601") from None
    for axis, curves in ((run.train, run.losses), (run.validation, run.metrics)):
        length = len(axis.get("iteration", []))
        for name, values in curves.items():
            if len(values) != length:
                raise InputError(f"{path}: {name!r} has {len(values)} values; expected {length}, one per iteration")
    for picture in run.pictures:
        if not (run.folder / picture).resolve().is_relative_to(run.folder.resolve()):
            raise InputError(f"{path}: picture {picture!r} lies outside the run; expected a path relative to it")


def stages_of(runs: Sequence[Run]) -> list[Stage]:
    """Pair each training with the evaluation in its folder, and link stages by the weights that they loaded.

    Args:
        runs: in the order of their starts.
    """
    stages: list[Stage] = []
    for run in sorted(runs, key=lambda run: run.workflow == "evaluate"):
        trained = next((stage for stage in stages if _evaluates(run, stage)), None)
        if trained:
            trained.evaluation = run
            continue
        stage = Stage(run)
        if origin := _origin(run, stages):
            origin.children.append(stage)
        stages.append(stage)
    return stages


def _evaluates(run: Run, stage: Stage) -> bool:
    same = run.bundle == stage.run.bundle and run.folder.is_relative_to(stage.run.folder)
    return same and run.workflow == "evaluate" and stage.run.workflow == "train" and stage.evaluation is None


def _origin(run: Run, earlier: Sequence[Stage]) -> Stage | None:
    """The single earlier stage that the path of the weights names, by folder or else by bundle."""
    if not run.weights.get("source"):
        return None
    source = Path(run.weights["source"])
    inside = [stage for stage in earlier if source.resolve().is_relative_to(stage.run.folder.resolve())]
    named = inside or [stage for stage in earlier if stage.run.bundle in source.parts]
    return named[0] if len(named) == 1 else None
