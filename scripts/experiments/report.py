"""The report of a study: the paper's tables and figures beside the study's results, as HTML, Markdown and CSV."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from os import path as os_path
from pathlib import Path
from typing import Any

from common.files import atomic_write, write_csv
from common.pages.templates import render
from scripts.experiments import figures
from scripts.experiments.demographics import demographics
from scripts.experiments.engine import OpenStudy
from scripts.experiments.jobs import StudyJob
from scripts.experiments.networks import Setting, encoders
from scripts.experiments.study import SCORED_TABLES, paper
from scripts.experiments.tables import Cell, Entry, Table, table_of

COLUMNS = (
    *("row", "column", "metric", "unit", "quoted", "paper", "ours", "difference", "ci_low", "ci_high", "sd"),
    *("runs_done", "runs_planned", "baseline", "common_cases", "trainings", "baseline_trainings"),
    *("gain", "gain_low", "gain_high", "p", "p_holm", "stale", "reason"),
    *("record", "evaluation"),
)
SHOWN = (
    *(
        "row",
        "metric",
        "paper",
        "ours",
        "difference",
        "95 % interval",
        "SD",
        "gain (95 % interval)",
        "p (Holm)",
        "runs",
    ),
    "note",
)
DASH = "–"
AVERAGE = "average"


def write_report(
    study: OpenStudy,
    participants: str | None = None,
    participant_columns: Mapping[str, str] | None = None,
    consort: str | None = None,
) -> Path:
    """Write OUTPUT/report (report.html, tables/NAME.md and tables/NAME.csv) and return the page."""
    folder = study.places.output / "report"
    counts = None if participants is None else demographics(participants, participant_columns)
    flow = None if consort is None else figures.flow_chart(consort)
    specs = study.content.get("tables", [])
    names = _names([spec["table"] for spec in specs])
    tables = [
        table_of(spec, name, study) for spec, name in zip(specs, names, strict=True) if spec["table"] in SCORED_TABLES
    ]
    settings = encoders() if any(spec["table"] == 2 for spec in specs) else []
    for table in tables:
        _write_csv(folder / "tables" / f"{table.name}.csv", COLUMNS, _rows(table, folder / "tables"))
        _write(folder / "tables" / f"{table.name}.md", markdown(table))
    if settings:
        _write_plain(folder / "tables" / "table-2", "Table 2", Setting._fields, settings)
    if counts is not None:
        _write_plain(folder / "tables" / "table-7", "Table 7", ("group", "bin", "paper", "ours"), _people(counts))
    page = render(
        Path(__file__).with_name("report.html.j2"),
        {"number": shown, "texts": _texts, "relative": lambda file: _relative(file, folder)},
        title=study.content["title"],
        states=Counter(state.name for state in study.states.values()),
        jobs=len(study.jobs),
        tables=tables,
        columns=SHOWN,
        settings=settings,
        people=None if counts is None else _people(counts),
        asks_people=any(spec["table"] == 7 for spec in specs) or counts is not None,
        paper=paper(),
        cohort=None if counts is None else figures.cohort_chart(counts),
        flow=flow,
        losses=[_losses(spec, study.jobs) for spec in study.content.get("figures", [])],
        bars=[(table, figures.few_shot_chart(table)) for table in tables if table.number == 9],
    )
    _write(folder / "report.html", page)
    return folder / "report.html"


def _names(numbers: Sequence[int]) -> list[str]:
    """File names of the tables; a repeated number gets a count, as in table-9-2."""
    seen: Counter[int] = Counter()
    names = []
    for number in numbers:
        seen[number] += 1
        names.append(f"table-{number}" + (f"-{seen[number]}" if seen[number] > 1 else ""))
    return names


def _losses(spec: Mapping[str, Any], jobs: Mapping[str, StudyJob]) -> dict[str, Any]:
    curves = figures.curves_of(spec["rows"], jobs)
    found = {"training": curves.training, "validation": curves.validation}
    charts = [figures.losses_chart(which, values) for which, values in found.items() if values]
    return {"charts": charts, "lacking": curves.lacking}


def _people(counts: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str, int, int]]:
    groups = paper()[7]["groups"]
    return [
        (group, name, groups[group][name]["study"][0], number)
        for group, bins in counts.items()
        for name, number in bins.items()
    ]


# Numbers in words


def shown(value: float | None, unit: str = "1", digits: int = 4) -> str:
    """Format a figure, with `digits` decimals for a share and two or three otherwise; a dash for None."""
    if value is None or math.isnan(value):
        return DASH
    if unit == "1":
        return f"{value:.{digits}f}"
    return f"{value:.2f}" if abs(value) >= 100 else f"{value:.3f}"


def changed(value: float | None, unit: str = "1") -> str:
    """Like `shown`, with a sign."""
    text = shown(value, unit)
    return text if text == DASH or text.startswith("-") else f"+{text}"


def _p(value: float) -> str:
    return DASH if math.isnan(value) else "< 0.0001" if value < 0.0001 else f"{value:.4f}"


# Files


def _rows(table: Table, folder: Path) -> Iterable[list[Any]]:
    """The lines of a table's CSV: for each row its average, then its columns."""
    for entry in table.entries:
        yield [
            *(entry.row, AVERAGE, entry.metric, entry.unit, entry.quoted, entry.paper, entry.ours, entry.difference),
            *(entry.low, entry.high, entry.sd, entry.done, entry.planned, entry.baseline),
            *(number or None for number in (entry.contrast.cases, *entry.contrast.trainings)),
            *(entry.contrast.gain, entry.contrast.low, entry.contrast.high, entry.contrast.p, entry.p_holm),
            *(int(entry.is_stale), entry.reason, None, None),
        ]
        for cell in entry.cells:
            yield [
                *(entry.row, cell.label, entry.metric, entry.unit, entry.quoted, cell.paper, cell.ours),
                *(_difference(cell), *[None] * 14, int(cell.is_stale), cell.reason),
                *(_relative(cell.record, folder), _relative(cell.page, folder)),
            ]


def _difference(cell: Cell) -> float | None:
    return None if cell.ours is None or cell.paper is None else cell.ours - cell.paper


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    known = (["" if value is None or value != value else value for value in row] for row in rows)
    write_csv(path, [columns, *known])


def markdown(table: Table) -> str:
    """A table in Markdown: its averages, then the places where the paper contradicts itself."""
    lines = [f"# Table {table.number}: {table.title}", ""]
    lines += [_escaped(table.note), ""] if table.note else []
    lines += _markdown_table(SHOWN, [_texts(entry) for entry in table.entries])
    lines += ["", "In the paper:", "", *(f"* {text}" for text in table.inconsistent)] if table.inconsistent else []
    return "\n".join(lines) + "\n"


def _texts(entry: Entry) -> list[str]:
    """An entry as text, one string for each of `SHOWN`."""
    interval = DASH if math.isnan(entry.low) else f"{shown(entry.low, entry.unit)} to {shown(entry.high, entry.unit)}"
    contrast = entry.contrast
    against = f"against {entry.baseline}" if entry.baseline else ""
    if entry.baseline and contrast.cases:
        trainings = " and ".join(map(str, contrast.trainings))
        against += f", {contrast.cases} common cases, {trainings} trainings"
    quoted = f"the paper quotes {entry.quoted}" if entry.quoted and entry.planned else ""
    return [
        *(entry.row, entry.label if entry.unit == "1" else f"{entry.label} ({entry.unit})"),
        *(shown(entry.paper, entry.unit, entry.digits), shown(entry.ours, entry.unit)),
        *(changed(entry.difference, entry.unit), interval, shown(entry.sd, entry.unit), _gain(entry), _p(entry.p_holm)),
        *(f"{entry.done} of {entry.planned}", "; ".join(text for text in (against, entry.reason, quoted) if text)),
    ]


def _gain(entry: Entry) -> str:
    """The gain, with its interval if it has one."""
    gain, *limits = (
        changed(value, entry.unit) for value in (entry.contrast.gain, entry.contrast.low, entry.contrast.high)
    )
    return gain if DASH in limits else f"{gain} ({' to '.join(limits)})"


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    def line(cells: Sequence[Any]) -> str:
        return f"| {' | '.join(_escaped(str(cell)) for cell in cells)} |"

    return [line(head), f"|{'---|' * len(head)}", *map(line, rows)]


def _escaped(text: str) -> str:
    """Text for a Markdown cell: on a single line, with markup escaped."""
    plain = " ".join(text.split()).replace("\\", "\\\\")
    for sign in "|<>[]`*_":
        plain = plain.replace(sign, f"\\{sign}" if sign not in "<>" else {"<": "&lt;", ">": "&gt;"}[sign])
    return plain


def _write_plain(stem: Path, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    _write_csv(stem.with_suffix(".csv"), columns, rows)
    _write(stem.with_suffix(".md"), "\n".join([f"# {title}", "", *_markdown_table(columns, rows)]) + "\n")


def _relative(file: Path | None, folder: Path) -> str | None:
    return None if file is None else Path(os_path.relpath(file, folder)).as_posix()


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write_text(content, encoding="utf-8")
