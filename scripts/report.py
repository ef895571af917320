"""One self-contained HTML page about a folder of runs: `python -m scripts.report RUN_DIR`.

Every run leaves a `run.json` (`common.records.RunRecord`). This module reads all of them below a folder, pairs the
training of a bundle with its evaluation, tells from the weights that were loaded how the stages follow each other,
and writes `RUN_DIR/report.html`. The page loads nothing: style, charts and pictures are part of it.
"""

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
from numpy.typing import NDArray

from common.files import whole
from common.preflight import InputError
from scripts import cli, report_charts
from scripts.pages import png_uri, render

__all__ = ["Run", "Stage", "exemplars", "read_runs", "region_statistics", "report", "stages_of"]

TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
NUMBER = {"type": ["number", "null"]}
TEXTS = {"type": "array", "items": TEXT}
CURVES = {"type": "object", "additionalProperties": {"type": "array", "items": NUMBER}}
SCORES_OF_CASE = {"type": "object", "additionalProperties": NUMBER}

# What `run.json` may hold. Every part but the first two may be absent or null: a run can be interrupted.
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
            "properties": {"regions": TEXTS, "cases": {"type": "object", "additionalProperties": SCORES_OF_CASE}},
        },
        "pictures": TEXTS,
    },
}


def report(run_dir: str) -> None:
    """Write RUN_DIR/report.html: one page with the stages, losses, pictures, weights and scores of a folder of runs.

    The page loads nothing from elsewhere and can be sent as it is. It is replaced only once the new one is complete.

    Args:
        run_dir: the folder that holds the runs, each a folder with a `run.json`, at any depth; or one such folder.
    """
    folder = Path(str(run_dir))
    page = _page(folder, stages_of(read_runs(folder)))
    target = folder / "report.html"
    with whole(target) as file:
        file.write_text(page, encoding="utf-8")
    print(target)


@dataclass(frozen=True)
class Run:
    """One `run.json` and the folder it lies in; what an interrupted run did not record is empty."""

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
        """When the run began, None where that was not recorded."""
        return datetime.fromisoformat(self.started) if self.started else None

    @property
    def losses(self) -> dict[str, list[float | None]]:
        """Training loss by the name of its term."""
        return self.train.get("loss", {})

    @property
    def metrics(self) -> dict[str, list[float | None]]:
        """Metrics on the held-out subjects by name, one value per validation."""
        return self.validation.get("metrics", {})

    @property
    def other_metrics(self) -> dict[str, list[float | None]]:
        """The metrics that are no held-out loss: Dice and its regions."""
        return {name: values for name, values in self.metrics.items() if name not in self.losses and values}

    @property
    def mean_score(self) -> float:
        """The mean over the regions of their mean over the cases, NaN without scores."""
        return _mean(row["mean"] for row in region_statistics(self.scores))

    @property
    def trend(self) -> tuple[str, float | None, float | None] | None:
        """Name, first and last value of the metric that sums up the validation."""
        for name in ("total", *self.metrics):
            if values := self.metrics.get(name):
                return name, values[0], values[-1]
        return None

    def picture(self, name: str) -> Path | None:
        """The picture called `name` (without folder or suffix), None where the run has none."""
        return next((self.folder / path for path in self.pictures if Path(path).stem == name), None)


@dataclass
class Stage:
    """A run, the evaluation of what it trained, and the stages that started from its weights."""

    run: Run
    evaluation: Run | None = None
    children: list["Stage"] = field(default_factory=list)

    @property
    def scored(self) -> Run | None:
        """The run that holds this stage's scores, None where no subject was scored."""
        return next((run for run in reversed(self.runs) if run.scores.get("cases")), None)

    @property
    def runs(self) -> list[Run]:
        """The run and, where there is one, its evaluation."""
        return [self.run, self.evaluation] if self.evaluation else [self.run]


def read_runs(folder: Path) -> list[Run]:
    """All runs at and below a folder, in the order in which they started.

    Raises:
        InputError: the folder does not exist or holds no `run.json`, or one of them is malformed.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one that holds run.json files")
    paths = sorted(folder.rglob("run.json"))
    if not paths:
        raise InputError(f"{folder}: no run.json in or below it; expected the folder of at least one run")
    return sorted(map(_read_run, paths), key=lambda run: run.start.timestamp() if run.start else math.inf)


def _read_run(path: Path) -> Run:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); expected the record of a run") from None
    if isinstance(content, dict):
        content = {name: value for name, value in content.items() if value is not None}
    problem = next(jsonschema.Draft202012Validator(SCHEMA).iter_errors(content), None)
    if problem:
        expected = f"{problem.validator} {json.dumps(problem.validator_value)}"
        raise InputError(f"{path}: {problem.json_path} is {json.dumps(problem.instance):.80}; expected {expected:.120}")
    known = {name.name for name in fields(Run)} - {"folder"}
    run = Run(path.parent, **{name: value for name, value in content.items() if name in known})
    _check(run, path)
    return run


def _check(run: Run, path: Path) -> None:
    """What a schema cannot say: dates, curves as long as their axis, pictures inside the folder."""
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
    """Pair each training with the evaluation that lies in its folder, and link the stages by the weights they loaded.

    Args:
        runs: in the order in which they started.
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
    """The one earlier stage that the weights' path names: by its folder, else by its bundle."""
    if not run.weights.get("source"):
        return None
    source = Path(run.weights["source"])
    inside = [stage for stage in earlier if source.resolve().is_relative_to(stage.run.folder.resolve())]
    named = inside or [stage for stage in earlier if stage.run.bundle in source.parts]
    return named[0] if len(named) == 1 else None


def region_statistics(scores: dict[str, Any]) -> list[dict[str, Any]]:
    """Mean, sample standard deviation (`sd`), median, extremes and number of finite scores, one row per region.

    Statistics that are not defined (no score; one score, for `sd`) are NaN.
    """
    rows = []
    for region in scores["regions"]:
        values = _finite(case.get(region) for case in scores["cases"].values())
        row: dict[str, Any] = {"region": region, "n": len(values)}
        for name, function in (("mean", np.mean), ("median", np.median), ("min", np.min), ("max", np.max)):
            row[name] = float(function(values)) if len(values) else math.nan
        row["sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        rows.append(row)
    return rows


def exemplars(scores: dict[str, Any]) -> dict[str, str]:
    """The best, the median and the worst case by the mean over its regions, each case once.

    Of an even number the median is the worse of the two in the middle. Cases without any finite score are left out.
    """
    means = {case: _mean(values.values()) for case, values in scores["cases"].items()}
    ranked = sorted((mean, case) for case, mean in means.items() if not math.isnan(mean))
    last = len(ranked) - 1
    places = {"Best": last, "Median": last // 2, "Worst": 0} if last >= 2 else {"Best": last, "Worst": 0}
    chosen: dict[str, str] = {}
    for label, place in places.items():
        if ranked and ranked[place][1] not in chosen.values():
            chosen[label] = ranked[place][1]
    return chosen


def _finite(values: Any) -> NDArray[np.float64]:
    array = np.array([math.nan if value is None else value for value in values], dtype=float)
    return array[np.isfinite(array)]


def _mean(values: Any) -> float:
    """The mean of the finite values, NaN where there are none."""
    finite = _finite(values)
    return float(finite.mean()) if len(finite) else math.nan


def _facts(runs: Sequence[Run]) -> dict[str, dict[str, list[str]]]:
    """Versions, commit and machine: for each fact its values, and for each value the bundles that it holds for."""
    facts: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        described = {
            **run.versions,
            "git commit": run.git_commit or "not recorded",
            "device": run.device or "not recorded",
            "processes": str(run.world_size),
        }
        for name, value in described.items():
            bundles = facts.setdefault(name, {}).setdefault(value, [])
            if run.bundle not in bundles:
                bundles.append(run.bundle)
    return facts


def _label(run: Run) -> str:
    return f"{run.bundle} (evaluation)" if run.workflow == "evaluate" else run.bundle


def _duration(seconds: float) -> str:
    """`12.3 s`, `4 min 05 s`, `2 h 07 min`."""
    if math.isnan(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = round(seconds) // 60, round(seconds / 60) // 60
    return f"{hours} h {round(seconds / 60) % 60:02} min" if hours else f"{minutes} min {round(seconds) % 60:02} s"


def _number(value: float | None) -> str:
    return f"{value:.3f}" if value is not None and math.isfinite(value) else "–"


def _gibibytes(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f} GiB"


def _embedded(picture: Path) -> dict[str, Any] | None:
    """A PNG as a data URI with its width and height in pixels, None where the file does not exist."""
    if not picture.is_file():
        return None
    content = picture.read_bytes()
    if content[:8] != b"\x89PNG\r\n\x1a\n" or len(content) < 24:
        raise InputError(f"{picture}: begins with {content[:8]!r}; expected a PNG picture")
    width, height = struct.unpack(">II", content[16:24])  # the header's place is fixed by the format
    return {"uri": png_uri(content), "width": width, "height": height}


def _page(folder: Path, stages: Sequence[Stage]) -> str:
    filters: dict[str, Any] = {
        "duration": _duration,
        "gibibytes": _gibibytes,
        "number": _number,
        "embedded": _embedded,
        "mean": _mean,
    }
    runs = [run for stage in stages for run in stage.runs]
    children = {id(child) for stage in stages for child in stage.children}
    return render(
        "report.html.j2",
        filters,
        title=folder.resolve().name,
        stages=stages,
        roots=[stage for stage in stages if id(stage) not in children],
        numbers={stage.run.folder: number for number, stage in enumerate(stages, start=1)},
        chained=bool(children),
        begun=min((run.start for run in runs if run.start), key=datetime.timestamp, default=None),
        seconds=float(sum(_finite(run.seconds for run in runs))) or math.nan,
        memory=max(_finite(run.peak_memory_gib for run in runs), default=math.nan),
        interrupted=[_label(run) for run in runs if not run.finished],
        embedded_cohort=any(run.config.get("cohort") == "embedded" for run in runs),
        facts=_facts(runs),
        charts=report_charts,
        exemplars=exemplars,
        region_statistics=region_statistics,
    )


if __name__ == "__main__":
    cli.run(report, "report")
