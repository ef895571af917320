"""The paper's tables of scores beside those of a study."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.metrics.protocols import protocol
from scripts.evaluate.compare import adjusted, more_is_better
from scripts.experiments.engine import State
from scripts.experiments.jobs import Job
from scripts.experiments.rows import Contrast, Run, Scores, contrast, estimate, interval, runs_of, scores_of, spread
from scripts.experiments.study import axes_of, names_of, paper

__all__ = ["Cell", "Entry", "Table", "table_of"]

NO_CONTRAST = Contrast(0, (0, 0), math.nan)
ABSENT = "not in this study"
WORDS = "Dice, of cases with the region"  # in place of Dice; DIFF-23


@dataclass(frozen=True)
class Cell:
    """A column of a row, such as a fold: one run.

    Attributes:
        label: of the column, as in the paper, or the study's own where the paper has no such column.
        paper: the paper's figure; None if it has none.
        ours: None if there is none.
        reason: why there is none, or why it is stale.
        record, page: files of the run, if they exist.
    """

    label: str
    paper: float | None
    ours: float | None = None
    is_stale: bool = False
    reason: str = ""
    record: Path | None = None
    page: Path | None = None


@dataclass(frozen=True)
class Entry:
    """A row of a table in one metric. Numbers that do not exist are NaN, or None for figures.

    Attributes:
        row: its name in the paper, or in the study.
        digits: decimals of the paper's figures.
        quoted: where the paper took the row from; empty if it measured it.
        ours: mean over the runs that are done, of each run's mean over its cases.
        low, high: 95 % bootstrap interval of `ours`.
        sd: sample standard deviation over the runs.
        done, planned: numbers of runs.
        baseline: the best of the baselines, which `contrast` compares with; empty if there is none to compare with.
        p_holm: the contrast's p, corrected for all tests of the table.
    """

    row: str
    metric: str
    label: str
    unit: str
    quoted: str
    paper: float | None
    ours: float | None = None
    low: float = math.nan
    high: float = math.nan
    sd: float = math.nan
    done: int = 0
    planned: int = 0
    is_stale: bool = False
    reason: str = ""
    baseline: str = ""
    contrast: Contrast = NO_CONTRAST
    p_holm: float = math.nan
    cells: tuple[Cell, ...] = ()
    digits: int = 4

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.ours is None or self.paper is None else self.ours - self.paper


@dataclass(frozen=True)
class Table:
    """A table of the paper with a study's results; `name` is that of its files."""

    number: int
    name: str
    title: str
    note: str
    entries: tuple[Entry, ...]
    inconsistent: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class _Found:
    """A row's runs, and the scores of those that have some."""

    runs: Sequence[Run]
    scores: Sequence[Scores]
    of_run: Mapping[int, Scores]


def table_of(
    spec: Mapping[str, Any],
    name: str,
    study: Mapping[str, Any],
    jobs: Mapping[str, Job],
    states: Mapping[str, State],
) -> Table:
    """A table of scores.

    Args:
        spec: of the table in the study.
        name: of its files.
        study: its content.
        jobs: of the study.
        states: of the jobs.

    """
    printed = paper()[spec["table"]]
    rows = spec["rows"]
    runs = {row: runs_of(values, jobs, states) for row, values in rows.items()}
    entries: list[Entry] = []
    for metric, label in printed["metrics"].items():
        measured = spec.get("metric", metric) if metric == "dice" else metric
        found = {row: _found(of_row, measured, spec.get("regions")) for row, of_row in runs.items()}
        names = [*printed["systems"], *_new(rows, printed)]
        entries += [_entry(row, metric, label, spec, study, found) for row in names]
        if measured != metric:
            entries = [
                replace(entry, metric=measured, label=WORDS) if entry.metric == metric else entry for entry in entries
            ]
    tested = [place for place, entry in enumerate(entries) if not math.isnan(entry.contrast.p)]
    for place, p in zip(tested, adjusted([entries[place].contrast.p for place in tested]), strict=True):
        entries[place] = replace(entries[place], p_holm=p)
    return Table(
        spec["table"], name, printed["title"], spec.get("note", ""), tuple(entries), tuple(printed["inconsistent"])
    )


def _new(rows: Mapping[str, Any], printed: Mapping[str, Any]) -> list[str]:
    return [row for row in rows if row not in printed["systems"]]


def _found(runs: Sequence[Run], metric: str, regions: Sequence[str] | None) -> _Found:
    """The scores of the runs; a run without what the table asks for is as one without evaluation."""
    read = []
    of_run = {}
    for place, run in enumerate(runs):
        try:
            if run.evaluation is not None:
                of_run[place] = scores_of(run.evaluation, metric, regions)
            read.append(run)
        except InputError as error:
            read.append(replace(run, state="unreadable", reason=f"unreadable: {error}", evaluation=None))
    return _Found(read, list(of_run.values()), of_run)


def _entry(
    row: str,
    metric: str,
    label: str,
    spec: Mapping[str, Any],
    study: Mapping[str, Any],
    found: Mapping[str, _Found],
) -> Entry:
    printed = paper()[spec["table"]]
    system = printed["systems"].get(row, {})
    figures = system.get(metric)
    columns = figures if isinstance(figures, list) else []
    mean = system.get("average") if columns else figures
    quoted = system.get("quoted", "")
    entry = Entry(
        row, metric, label, protocol(printed["protocol"]).units[metric], quoted, mean, digits=_digits([*columns, mean])
    )
    if row not in found:
        reason = f"quoted from the paper ({quoted})" if quoted else ABSENT
        cells = tuple(Cell(printed["labels"][n], value, reason=reason) for n, value in enumerate(columns))
        return replace(entry, reason=reason, cells=cells)
    ours = found[row]
    axis = spec.get("columns")
    values = [] if axis is None else axes_of(study, spec["rows"][row]["run"])[axis]
    entry = replace(
        entry,
        done=len(ours.scores),
        planned=len(ours.runs),
        is_stale=any(run.state == "stale" for run in ours.runs),
        reason=_reason(ours.runs),
        cells=tuple(_cells(ours, axis, values, columns, printed.get("labels", []))),
    )
    if not ours.scores:
        return entry
    low, high = interval(ours.scores)
    entry = replace(entry, ours=estimate(ours.scores), low=low, high=high, sd=spread(ours.scores))
    rising = more_is_better(protocol(printed["protocol"]), metric)
    return _tested(entry, names_of(spec["rows"][row].get("baseline", spec.get("baseline"))), found, rising)


def _digits(figures: Sequence[float | None]) -> int:
    return max((len(repr(value).partition(".")[2]) for value in figures if value is not None), default=4)


def _reason(runs: Sequence[Run]) -> str:
    """The first reason of the runs, and how many others have one."""
    reasons = [run.reason for run in runs if run.reason]
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{reasons[0]}{more}" if reasons else ""


def _cells(
    ours: _Found, axis: str | None, values: Sequence[Any], columns: Sequence[float], labels: Sequence[str]
) -> list[Cell]:
    """One cell for each value of the axis in the study's order, beside the paper's columns in their order.

    Without an axis, one cell for each run, which the paper's columns do not match.
    """
    if axis is None:
        places = [[place] for place in range(len(ours.runs))]
        names = [" ".join(f"{key} {value}" for key, value in run.values.items()) or "run" for run in ours.runs]
        columns = []
    else:
        places = [[n for n, run in enumerate(ours.runs) if run.values[axis] == value] for value in values]
        names = [f"{axis} {value}" for value in values]
        names = [labels[n] if n < len(columns) else name for n, name in enumerate(names)]
    cells = []
    for number, (name, at) in enumerate(zip(names, places, strict=True)):
        runs = [ours.runs[n] for n in at]
        scores = [ours.of_run[n] for n in at if n in ours.of_run]
        cells.append(
            Cell(
                name,
                columns[number] if number < len(columns) else None,
                estimate(scores) if scores else None,
                any(run.state == "stale" for run in runs),
                _reason(runs),
                runs[0].record if runs else None,
                runs[0].page if runs else None,
            )
        )
    rest = range(len(cells), len(columns))
    return cells + [Cell(labels[n], columns[n], reason=ABSENT) for n in rest]


def _tested(entry: Entry, baselines: Sequence[str], found: Mapping[str, _Found], rising: bool) -> Entry:
    """The entry with its test against the best baseline; baselines are not tested against each other."""
    known = [name for name in baselines if found[name].scores]
    if not known or entry.row in baselines:
        return entry
    sign = 1 if rising else -1
    best = max(known, key=lambda name: sign * estimate(found[name].scores))
    return replace(entry, baseline=best, contrast=contrast(found[entry.row].scores, found[best].scores))
