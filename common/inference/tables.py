"""Read tables of results in CSV strictly: cell types by column; anything else is refused."""

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..data.datalists import UNPRINTABLE
from ..errors import InputError
from ..files import cell_text, check_regular

# Column name -> parser of a cell, which raises a `ValueError` that says what was expected
Columns = Mapping[str, Callable[[str], Any]]

LONGEST = 2**20  # characters of a line read at once; the csv module refuses fields of 131,072


def read_table(path: Path, columns: Columns, kind: str) -> Iterator[tuple[str, list[Any]]]:
    """Yield position (for messages) and values of each row of a table from `common.files.write_csv`.

    `columns` must match the header exactly; `kind` describes the expected file, such as "the file of an evaluation".
    """
    expected = f"expected {kind}, with the columns {', '.join(columns)}"
    try:
        check_regular(path)
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.reader(iter(partial(file.readline, LONGEST), ""), strict=True)
            if next(lines, []) != list(columns):
                raise InputError(f"{path}: unexpected header row; {expected}")
            for line in lines:
                where = f"{path}: line {lines.line_num}"
                if len(line) != len(columns):
                    raise InputError(f"{where}: {len(line)} columns; {expected}")
                cells = zip(columns.items(), map(cell_text, line), strict=True)
                yield where, [_value(where, name, parse, cell) for (name, parse), cell in cells]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; {expected}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}; {expected}") from error


def _value(where: str, name: str, parse: Callable[[str], Any], cell: str) -> Any:
    try:
        return parse(cell)
    except ValueError as error:
        raise InputError(f"{where}: {name} {cell}; expected {error}") from error


def case_name(cell: str) -> str:
    """The name of a case, which must also be a valid file name."""
    if not cell or UNPRINTABLE.search(cell) or cell != Path(cell).name:
        raise ValueError("a file name of one line in Unicode")
    return cell


def number(cell: str) -> float:
    """A finite number."""
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("a finite number")
    return value


def distance(cell: str) -> float:
    """A finite number, or infinity for an empty cell."""
    return number(cell) if cell else math.inf


def index(cell: str) -> int:
    """The number of a voxel or a lesion."""
    if not (cell.isascii() and cell.isdecimal()):
        raise ValueError("a whole number of at least 0")
    return int(cell)


def one_of(meanings: Mapping[str, Any]) -> Callable[[str], Any]:
    """Parser for one of several words; returns the word's meaning."""

    def parse(cell: str) -> Any:
        if cell not in meanings:
            raise ValueError(" or ".join(meanings))
        return meanings[cell]

    return parse
