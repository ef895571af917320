"""Update the tables of docs/benchmarks.md, between the marks of each benchmark."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import atomic_write

BEGIN, END = "<!-- table: {} -->", "<!-- end -->"


def update(page: Path, name: str, works: Mapping[str, Any], repeats: int, setting: str) -> None:
    """Replace the table of a benchmark; an InputError if a mark is missing.

    `works` are rows by work and variant; `setting` is the text on versions and processor.
    """
    begin, text = BEGIN.format(name), page.read_text(encoding="utf-8")
    before, mark, rest = text.partition(f"{begin}\n")
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise InputError(f"{page}: no '{begin}' with '{END}' after it; expected a place for the table")
    day = f"Measured on {date.today():%Y-%m-%d}, {repeats} repeat{'' if repeats == 1 else 's'}. {setting}."
    table = ["| variant | seconds | ratio | peak memory |", "|---|---|---|---|"]
    for work, rows in works.items():
        for variant, row in rows.items():
            title = f"{work.replace('_', '-')}: {variant}" if len(works) > 1 else variant
            table.append(f"| {title} | {row_text(row)} |")
    with atomic_write(page) as file:
        file.write_text("\n".join([before + begin, "", day, "", *table, "", END]) + after, encoding="utf-8")


def row_text(row: Mapping[str, float]) -> str:
    """The cells of a variant: seconds, ratio with the spread of its repeats if known, peak memory."""
    lowest, highest = row["lowest"], row["highest"]
    spread = f" ({lowest:.2f} to {highest:.2f})" if highest > lowest else ""
    return f"{row['seconds']:.3g} | {row['ratio']:.2f}{spread} | {row['peak_gib']:.1f} GiB"
