"""The tables of docs/benchmarks.md, between the marks of each benchmark; the text around them stays."""

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import atomic_write

__all__ = ["dice_text", "table", "update"]

BEGIN, END = "<!-- table: {} -->", "<!-- end -->"
OPTIONAL = {"clock": "by the clock", "peak": "peak memory", "dice": "mean Dice"}  # columns


def update(
    page: Path,
    figures: Mapping[str, Mapping[str, Any]],
    repeats: Mapping[str, int],
    day: date,
    setting: Mapping[str, Any],
) -> None:
    """Replace the table of each benchmark.

    Args:
        page: file with a pair of marks for each benchmark.
        figures: rows by benchmark, comparison and variant, as `python -m scripts.benchmark` prints them.
        repeats: by benchmark.
        day: of the measurement.
        setting: versions and processor, as `timing.setting` returns them.

    Raises:
        InputError: a mark is missing.
    """
    on = "PyTorch {torch}, MONAI {monai}, Python {python}, {processor} with {cores} cores".format_map(setting)
    text = page.read_text(encoding="utf-8")
    for name, works in figures.items():
        begin = BEGIN.format(name)
        place = re.compile(rf"{re.escape(begin)}\n.*?{re.escape(END)}", re.DOTALL)
        found = place.search(text)
        if found is None:
            raise InputError(f"{page}: no '{begin}' with '{END}' after it; expected a place for the table")
        count = repeats[name]
        measured = f"Measured on {day:%Y-%m-%d}, {count} repeat{'' if count == 1 else 's'}. {on}."
        content = "\n".join([begin, "", measured, "", *table(works), "", END])
        text = "".join([text[: found.start()], content, text[found.end() :]])
    with atomic_write(page) as file:
        file.write_text(text, encoding="utf-8")


def table(works: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """The lines of a Markdown table."""
    columns = [key for key in OPTIONAL if any(key in row for rows in works.values() for row in rows.values())]
    titles = ["variant", "seconds", "ratio", *(OPTIONAL[key] for key in columns)]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for work, rows in works.items():
        for variant, row in rows.items():
            name = f"{work.replace('_', '-')}: {variant}" if len(works) > 1 else variant
            cells = [name, f"{row['seconds']:.3g}", _ratio(row)]
            cells += [_cell(row, key) if key in row else "" for key in columns]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(row: Mapping[str, Any], key: str) -> str:
    if key == "dice":
        return dice_text(row["dice"])
    return f"{row['clock']:.3g} s, {_ratio(row, 'clock_')}" if key == "clock" else f"{row['peak']:.1f} GiB"


def dice_text(dice: Mapping[str, float]) -> str:
    """Dice of each region, with as many digits as a difference of 0.001 needs."""
    return ", ".join(f"{region} {value:.5f}" for region, value in dice.items())


def _ratio(row: Mapping[str, Any], kind: str = "") -> str:
    """A ratio, with the spread of its repeats if there is one."""
    ratio, lowest, highest = (row[f"{kind}{name}"] for name in ("ratio", "lowest", "highest"))
    return f"{ratio:.2f} ({lowest:.2f} to {highest:.2f})" if highest > lowest else f"{ratio:.2f}"
