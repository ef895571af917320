"""Read the records of runs (`run.json`, see `common.training.RunRecord`) and link them to stages."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.files import check_schema, valid_json
from common.inference.publishing import is_earlier

MLFLOW = {"mlruns", "mlartifacts"}  # folders with MLflow's copies of records
TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
COUNTS = {"type": "array", "items": COUNT}
POSITIVE = {"type": "number", "minimum": 0}
NUMBER = {"type": ["number", "null"]}
TEXTS = {"type": "array", "items": TEXT}
OBJECT = {"type": "object"}


def _by_name(values: dict[str, Any]) -> dict[str, Any]:
    return OBJECT | {"additionalProperties": values}


def _of(**properties: Any) -> dict[str, Any]:
    return OBJECT | {"properties": properties}


CURVES = _by_name({"type": "array", "items": NUMBER})
FATES = dict.fromkeys(("matched", "changed", "missing", "unexpected"), COUNT)
SHARES = _by_name({"type": "array", "items": {"type": "number"}})
SCORES = _of(regions=TEXTS, cases=_by_name(_by_name(NUMBER)), mean_present=_by_name(NUMBER), n_present=_by_name(COUNT))

# The content of `run.json`: default for an interrupted run, and schema
FIELDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "bundle": (None, TEXT),
    "workflow": (None, {"enum": ["train", "evaluate"]}),
    "finished": (False, {"type": "boolean"}),
    "command": ("", TEXT),
    "started": ("", TEXT),
    "seconds": (math.nan, POSITIVE),
    "peak_memory_gib": (math.nan, POSITIVE),
    "peak_gpu_memory_gib": (None, POSITIVE),
    "device": ("", TEXT),
    "world_size": (1, COUNT),
    "versions": ({}, _by_name(TEXT)),
    "git_commit": ("", TEXT),
    "config": ({}, OBJECT),
    "weights": ({}, _of(source={"type": ["string", "null"]}, tensors=_by_name(TEXTS), shares=SHARES, **FATES)),
    "train": ({}, _of(iteration=COUNTS, loss=CURVES)),
    "validation": ({}, _of(iteration=COUNTS, metrics=CURVES)),
    "scores": ({}, SCORES | {"required": ["regions", "cases"]}),
    "pictures": ([], TEXTS),
}
SCHEMA = _of(**{name: schema for name, (_, schema) in FIELDS.items()}) | {"required": ["bundle", "workflow"]}


class Run:
    """A `run.json` and its folder; `FIELDS` lists the attributes, with the defaults for an interrupted run."""

    def __init__(self, folder: Path, content: Mapping[str, Any]) -> None:
        self.folder = folder
        self.__dict__ |= {name: content.get(name, default) for name, (default, _) in FIELDS.items()}

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    @property
    def start(self) -> datetime | None:
        """Start of the run; None if it was not recorded."""
        return datetime.fromisoformat(self.started) if self.started else None

    @property
    def losses(self) -> dict[str, list[float | None]]:
        """Training losses by term."""
        return self.train.get("loss", {})

    @property
    def metrics(self) -> dict[str, list[float | None]]:
        """Metrics on held-out subjects by name, one value per validation."""
        return self.validation.get("metrics", {})

    @property
    def other_metrics(self) -> dict[str, list[float | None]]:
        """Metrics except held-out losses and counts of cases: the Dice of all regions and of each."""
        apart = {*self.losses, *(name for name in self.metrics if name.endswith("_n_present"))}
        return {name: values for name, values in self.metrics.items() if name not in apart and values}

    @property
    def shares(self) -> dict[str, str]:
        """Each modality's share in the response of a changed layer, as text, by the layer's name."""
        names = self.config.get("modalities") or []
        return {
            layer: ", ".join(f"{name} {share:.0%}" for name, share in zip(names, shares, strict=False))
            for layer, shares in self.weights.get("shares", {}).items()
        }

    @property
    def values(self) -> dict[str, NDArray[np.float64]]:
        """The finite scores of the cases by region."""
        cases = self.scores.get("cases", {}).values()
        return {region: finite(case.get(region) for case in cases) for region in self.scores.get("regions", ())}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """By region: mean, sample standard deviation (`sd`), median, extremes and number of the finite scores.

        `mean_present` and `n_present` cover cases with the region in the reference. Undefined statistics are NaN;
        numbers that an older run did not record are None.
        """
        means, counts = (self.scores.get(name, {}) for name in ("mean_present", "n_present"))
        rows = []
        for region in self.values:
            values = self.values[region]
            row: dict[str, Any] = {"region": region, "n": len(values)}
            for name, function in (("mean", np.mean), ("median", np.median), ("min", np.min), ("max", np.max)):
                row[name] = float(function(values)) if len(values) else math.nan
            row["sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
            rows.append(row | {"mean_present": mean([means.get(region)]), "n_present": counts.get(region)})
        return rows

    @property
    def exemplars(self) -> dict[str, str]:
        """The best, median (the worse of two) and worst case by the mean over its regions, each case once."""
        means = {case: mean(values.values()) for case, values in self.scores["cases"].items()}
        ranked = sorted((value, case) for case, value in means.items() if not math.isnan(value))
        last = len(ranked) - 1
        places = {"Best": last, "Median": last // 2, "Worst": 0} if last >= 2 else {"Best": last, "Worst": 0}
        chosen: dict[str, str] = {}
        for label, place in places.items():
            if ranked and ranked[place][1] not in chosen.values():
                chosen[label] = ranked[place][1]
        return chosen

    @property
    def trend(self) -> tuple[str, float | None, float | None] | None:
        """Name, first and last value of the main validation metric."""
        for name in ("total", *self.metrics):
            if values := self.metrics.get(name):
                return name, values[0], values[-1]
        return None

    def picture(self, name: str) -> Path | None:
        """The picture with this name (without folder and suffix); None if there is none."""
        return next((self.folder / path for path in self.pictures if Path(path).stem == name), None)


@dataclass
class Stage:
    """A run, the evaluation of its weights, and the stages that started from them."""

    run: Run
    evaluation: Run | None = None
    children: list["Stage"] = field(default_factory=list)

    @property
    def scored(self) -> Run | None:
        """The run with this stage's scores; None if no subject was scored."""
        return next((run for run in reversed(self.runs) if run.scores.get("cases")), None)

    @property
    def runs(self) -> list[Run]:
        """The run and, if there is one, its evaluation."""
        return [self.run, self.evaluation] if self.evaluation else [self.run]


def read_runs(folder: Path) -> list[Run]:
    """All runs in a folder and below it by start time, without MLflow's copies and earlier results.

    Raises an InputError if the folder does not exist or holds no `run.json`, or if a record is malformed.
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
    run = Run(path.parent, content)
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
    return run


def finite(values: Iterable[float | None]) -> NDArray[np.float64]:
    """The finite values, without None and NaN."""
    array = np.array([math.nan if value is None else value for value in values], dtype=float)
    return array[np.isfinite(array)]


def mean(values: Iterable[float | None]) -> float:
    """The mean of the finite values; NaN if there are none."""
    known = finite(values)
    return float(known.mean()) if len(known) else math.nan


def stages_of(runs: Sequence[Run]) -> list[Stage]:
    """Pair each training with the evaluation in its folder, and link stages by the weights that they loaded.

    `runs` must be in the order of their starts.
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
    """The only earlier stage in the path of the weights, by folder or else by bundle; None if there is no or no unique
    match.
    """
    if not run.weights.get("source"):
        return None
    source = Path(run.weights["source"])
    inside = [stage for stage in earlier if source.resolve().is_relative_to(stage.run.folder.resolve())]
    named = inside or [stage for stage in earlier if stage.run.bundle in source.parts]
    return named[0] if len(named) == 1 else None
