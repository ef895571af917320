"""The report of a study: the paper's tables and figures beside the study's results, as HTML and CSV."""

import math
from collections import Counter
from collections.abc import Iterable
from os import path as os_path
from pathlib import Path
from typing import Any

from common.files import atomic_write, write_csv
from common.made import made_by
from common.pages.templates import render
from scripts.experiments import figures
from scripts.experiments.engine import OpenStudy
from scripts.experiments.rows import evaluated_runs
from scripts.experiments.study import SCORED_TABLES, paper
from scripts.experiments.tables import Entry, Setting, Table, encoders, table_of

COLUMNS = (
    *("row", "column", "metric", "unit", "quoted", "paper", "ours", "difference", "ci_low", "ci_high", "sd"),
    *("runs_done", "runs_planned", "baseline", "common_cases", "trainings", "baseline_trainings"),
    *("gain", "gain_low", "gain_high", "p", "p_holm", "stale", "reason"),
    *("record", "evaluation"),
)
SHOWN = (
    *("row", "metric", "paper", "ours", "difference", "95 % interval", "SD", "gain (95 % interval)", "p (Holm)"),
    *("runs", "note"),
)
DASH = "–"


def write_report(study: OpenStudy) -> Path:
    """Write OUTPUT/report (report.html, tables/NAME.csv and tables/runs.csv) and return the path of the page."""
    folder = study.places.output / "report"
    specs = study.content.get("tables", [])
    seen: Counter[int] = Counter()
    tables: list[Table] = []
    settings: list[Setting] = []
    for spec in specs:
        number = spec["table"]
        seen[number] += 1
        if number in SCORED_TABLES:
            count = f"-{seen[number]}" if seen[number] > 1 else ""
            tables.append(table_of(spec, f"table-{number}{count}", study))
        else:
            settings = encoders()
    for table in tables:
        write_csv(folder / "tables" / f"{table.name}.csv", [COLUMNS, *_rows(table, folder / "tables")])
    if settings:
        write_csv(folder / "tables" / "table-2.csv", [Setting._fields, *settings])
    runs = evaluated_runs(study)
    axes = [*dict.fromkeys(axis for run, _ in runs.values() for axis in run.values)]
    if runs:
        header = ("run", *axes, "dice", "stale", "reason")
        lines = [
            (name, *map(run.values.get, axes), mean, int(run.is_stale), run.reason)
            for name, (run, mean) in runs.items()
        ]
        write_csv(folder / "tables" / "runs.csv", [header, *lines])
    page = render(
        Path(__file__).with_name("report.html.j2"),
        {"number": shown, "texts": _texts, "relative": lambda file: _relative(file, folder)},
        made=made_by({}, any(name.startswith("cohorts/") for name in study.jobs)),
        title=study.content["title"],
        states=Counter(state.name for state in study.states.values()),
        jobs=len(study.jobs),
        graph=figures.graph_chart(study),
        runs=runs,
        axes=axes,
        tables=tables,
        columns=SHOWN,
        settings=settings,
        paper=paper(),
        losses=[figures.loss_charts(spec["rows"], study.jobs) for spec in study.content.get("figures", [])],
        few_shot=[(table, figures.few_shot_chart(table)) for table in tables if table.number == 9],
    )
    with atomic_write(folder / "report.html") as file:
        file.write_text(page, encoding="utf-8")
    return folder / "report.html"


# Text


def shown(value: float | None, unit: str = "1", digits: int = 4) -> str:
    """Format a value: `digits` decimals for a share (unit 1), else two or three; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return DASH
    if unit == "1":
        return f"{value:.{digits}f}"
    return f"{value:.2f}" if abs(value) >= 100 else f"{value:.3f}"


def signed(value: float | None, unit: str = "1") -> str:
    """Format a value as `shown` does, with a sign."""
    text = shown(value, unit)
    return text if text == DASH or text.startswith("-") else f"+{text}"


def _texts(entry: Entry) -> list[str]:
    """Return an entry as text, a string for each column of `SHOWN`."""
    interval = DASH if math.isnan(entry.low) else f"{shown(entry.low, entry.unit)} to {shown(entry.high, entry.unit)}"
    contrast = entry.contrast
    gain = signed(contrast.gain, entry.unit)
    if not math.isnan(contrast.low):
        gain += f" ({signed(contrast.low, entry.unit)} to {signed(contrast.high, entry.unit)})"
    against = f"against {entry.baseline}" if entry.baseline else ""
    if entry.baseline and contrast.cases:
        trainings = " and ".join(map(str, contrast.trainings))
        against += f", {contrast.cases} common cases, {trainings} trainings"
    quoted = f"the paper quotes {entry.quoted}" if entry.quoted and entry.planned else ""
    p = DASH if math.isnan(entry.p_holm) else "< 0.0001" if entry.p_holm < 0.0001 else f"{entry.p_holm:.4f}"
    return [
        *(entry.row, entry.label if entry.unit == "1" else f"{entry.label} ({entry.unit})"),
        *(shown(entry.paper, entry.unit, entry.digits), shown(entry.ours, entry.unit)),
        *(signed(entry.difference, entry.unit), interval, shown(entry.sd, entry.unit), gain, p),
        *(f"{entry.done} of {entry.planned}", "; ".join(text for text in (against, entry.reason, quoted) if text)),
    ]


# Files


def _rows(table: Table, folder: Path) -> Iterable[list[Any]]:
    """Yield the lines of a table's CSV: for each row the average, then the cells."""
    for entry in table.entries:
        yield [
            *(entry.row, "average", entry.metric, entry.unit, entry.quoted, entry.paper, entry.ours, entry.difference),
            *(entry.low, entry.high, entry.sd, entry.done, entry.planned, entry.baseline),
            *(number or None for number in (entry.contrast.cases, *entry.contrast.trainings)),
            *(entry.contrast.gain, entry.contrast.low, entry.contrast.high, entry.contrast.p, entry.p_holm),
            *(int(entry.is_stale), entry.reason, None, None),
        ]
        for cell in entry.cells:
            yield [
                *(entry.row, cell.label, entry.metric, entry.unit, entry.quoted, cell.paper, cell.ours),
                *(cell.difference, *[None] * 14, int(cell.is_stale), cell.reason),
                *(_relative(cell.record, folder), _relative(cell.page, folder)),
            ]


def _relative(file: Path | None, folder: Path) -> str | None:
    return None if file is None else Path(os_path.relpath(file, folder)).as_posix()
