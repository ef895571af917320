"""The paper's tables, with a study's scores beside the paper's."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from common.metrics.cards import DICE
from common.metrics.protocols import protocol
from common.metrics.statistics import holm
from scripts.experiments.engine import OpenStudy
from scripts.experiments.rows import RowContrast, RowRun, RowScores, contrast, estimate, interval, runs_of, spread
from scripts.experiments.study import axes_of, names_of, paper

NO_CONTRAST = RowContrast(0, (0, 0), math.nan)
ABSENT = "not in this study"
PRESENT_LABEL = "Dice, of cases with the region"  # instead of Dice; DIFF-23


@dataclass(frozen=True, kw_only=True)
class PaperValue:
    """A value in the paper and in the study (`ours`), None if unknown; `reason` explains a missing or stale `ours`."""

    label: str
    paper: float | None
    ours: float | None = None
    is_stale: bool = False
    reason: str = ""

    @property
    def difference(self) -> float | None:
        """Our value minus the paper's; None if either is missing."""
        return None if self.ours is None or self.paper is None else self.ours - self.paper


@dataclass(frozen=True, kw_only=True)
class Cell(PaperValue):
    """A row's run in a column, such as a fold; `label` names the paper's column, or else the run's values."""

    record: Path | None = None
    page: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Entry(PaperValue):
    """A row of a table in a single metric: the study's mean, interval and test; unknown statistics are NaN.

    `ours` is the mean over finished runs of each run's mean over cases.

    Attributes:
        quoted: source of a row that the paper quotes.
        low: lower limit of the 95 % bootstrap interval of `ours`; `high` is the upper limit.
        sd: sample standard deviation over runs.
        done: number of finished runs, of `planned` runs.
        baseline: best baseline, with which `contrast` compares the row.
        p_holm: p-value of the contrast, corrected for all tests of the table.
        cells: values in the columns of the paper's table, such as folds.
        digits: number of decimals in the paper.
    """

    row: str
    metric: str
    unit: str
    quoted: str
    low: float = math.nan
    high: float = math.nan
    sd: float = math.nan
    done: int = 0
    planned: int = 0
    baseline: str = ""
    contrast: RowContrast = NO_CONTRAST
    p_holm: float = math.nan
    cells: tuple[Cell, ...] = ()
    digits: int = 4


@dataclass(frozen=True)
class Table:
    """A table of the paper with a study's results; `inconsistent` lists contradictions in the paper's table."""

    number: int
    name: str  # of its CSV file, without suffix
    title: str
    note: str
    entries: tuple[Entry, ...]
    inconsistent: tuple[str, ...]


def table_of(spec: Mapping[str, Any], name: str, study: OpenStudy) -> Table:
    """Return a table of the paper filled with the study's scores."""
    printed = paper()[spec["table"]]
    entries: list[Entry] = []
    for metric, label in printed["metrics"].items():
        measured = spec.get("metric", metric) if metric == DICE.name else metric
        runs = {row: runs_of(definition, study, measured) for row, definition in spec["rows"].items()}
        for row in dict.fromkeys([*printed["systems"], *runs]):
            entry = _entry(row, metric, label, spec, study, runs)
            entries.append(entry if measured == metric else replace(entry, metric=measured, label=PRESENT_LABEL))
    tested = [index for index, entry in enumerate(entries) if not math.isnan(entry.contrast.p)]
    for index, p in zip(tested, holm([entries[index].contrast.p for index in tested]), strict=True):
        entries[index] = replace(entries[index], p_holm=p)
    return Table(
        spec["table"], name, printed["title"], spec.get("note", ""), tuple(entries), tuple(printed["inconsistent"])
    )


def _entry(
    row: str,
    metric: str,
    label: str,
    spec: Mapping[str, Any],
    study: OpenStudy,
    runs: Mapping[str, Sequence[RowRun]],
) -> Entry:
    printed = paper()[spec["table"]]
    system = printed["systems"].get(row, {})
    figures = system.get(metric)
    columns = figures if isinstance(figures, list) else []
    mean = system.get("average") if columns else figures
    quoted = system.get("quoted", "")
    unit, digits = protocol(printed["protocol"]).units[metric], _digits([*columns, mean])
    entry = Entry(row=row, metric=metric, label=label, unit=unit, quoted=quoted, paper=mean, digits=digits)
    if row not in runs:
        reason = f"quoted from the paper ({quoted})" if quoted else ABSENT
        cells = tuple(Cell(label=printed["labels"][n], paper=value, reason=reason) for n, value in enumerate(columns))
        return replace(entry, reason=reason, cells=cells)
    ours, scores = runs[row], _scores(runs[row])
    axis = spec.get("columns")
    values = [] if axis is None else axes_of(study.content, spec["rows"][row]["run"])[axis]
    entry = replace(
        entry,
        done=len(scores),
        planned=len(ours),
        is_stale=any(run.is_stale for run in ours),
        reason=_reason(ours),
        cells=tuple(_cells(ours, axis, values, columns, printed.get("labels", []))),
    )
    if not scores:
        return entry
    low, high = interval(scores)
    entry = replace(entry, ours=estimate(scores), low=low, high=high, sd=spread(scores))
    rising = protocol(printed["protocol"]).metric(metric).more_is_better
    return _tested(entry, names_of(spec["rows"][row].get("baseline", spec.get("baseline"))), runs, rising)


def _digits(figures: Sequence[float | None]) -> int:
    return max((len(repr(value).partition(".")[2]) for value in figures if value is not None), default=4)


def _scores(runs: Sequence[RowRun]) -> list[RowScores]:
    return [run.scores for run in runs if run.scores is not None]


def _reason(runs: Sequence[RowRun]) -> str:
    """Return the first reason, with the number of further reasons; "" if no run has a reason."""
    reasons = [run.reason for run in runs if run.reason]
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{reasons[0]}{more}" if reasons else ""


def _cells(
    runs: Sequence[RowRun], axis: str | None, values: Sequence[Any], columns: Sequence[float], labels: Sequence[str]
) -> list[Cell]:
    """Return a cell for each run, then a cell for each column of the paper beyond the axis values.

    The n-th value of `axis` matches the paper's n-th column: the run's cell also holds the paper's value, if any.
    Without an axis, only runs have cells, without values of the paper.
    """
    cells = []
    for run in runs:
        index = len(columns) if axis is None else values.index(run.values[axis])
        label = " ".join(f"{key} {value}" for key, value in run.values.items()) or "run"
        label, printed = (labels[index], columns[index]) if index < len(columns) else (label, None)
        ours = None if run.scores is None else estimate([run.scores])
        files = {"record": run.record, "page": run.page}
        cells.append(Cell(label=label, paper=printed, ours=ours, is_stale=run.is_stale, reason=run.reason, **files))
    unmatched = range(len(values), len(columns)) if axis else ()
    return cells + [Cell(label=labels[n], paper=columns[n], reason=ABSENT) for n in unmatched]


def _tested(entry: Entry, baselines: Sequence[str], runs: Mapping[str, Sequence[RowRun]], rising: bool) -> Entry:
    """Return `entry` with the test against its best baseline with scores, if any; entries of baselines get no test."""
    candidates = {name: scores for name in baselines if (scores := _scores(runs[name]))}
    if not candidates or entry.row in baselines:
        return entry
    best = max(candidates, key=lambda name: (1 if rising else -1) * estimate(candidates[name]))
    return replace(entry, baseline=best, contrast=contrast(_scores(runs[entry.row]), candidates[best]))


class Setting(NamedTuple):
    """A setting of a model size: its value in the paper and in this repository (`ours`)."""

    row: str
    setting: str
    paper: Any
    ours: Any


def encoders() -> list[Setting]:
    """Return Table 2: encoder settings by size, and parameters of encoder and proxy heads for a single channel."""
    from common.ssl.networks import SSLHead, settings  # late import: `--help` stays fast

    printed = paper()[2]
    rows = []
    for row, system in printed["systems"].items():
        network = SSLHead(in_channels=1, model_size=system["size"])
        size = settings(system["size"])
        ours = {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "heads": list(size.num_heads),
            "blocks": list(size.depths),
            "feature_size": size.feature_size,
            "bottleneck": network.rotation_head.in_features,
        }
        rows += [Setting(row, key, system.get(key, printed["shared"].get(key)), value) for key, value in ours.items()]
    return rows
