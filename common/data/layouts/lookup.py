"""BIDS lookup tables: files dseg.tsv, which name the values of discrete segmentations.

A table applies to label maps in or below its folder that have all its entities in their names; the nearest table wins.
"""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from ...errors import ArgumentError, InputError, show
from ..regions import declaration
from .names import plain_name, stem_of

NONE = ("", "n/a")  # a missing value in BIDS tables


def convention_of(root: str, labels: Sequence[str]) -> str | None:
    """The regions that lookup tables define for label maps, as text, or None; prints the table's path.

    Example:
        >>> convention_of("data", ["derivatives/manual/sub-01/anat/sub-01_dseg.nii.gz"])
        'Gray_Matter=100:ff53bb,White_Matter=101:2f8bbe'
    """
    tables_in = cache(lambda folder: _tables_in(root, folder))
    files = dict.fromkeys(filter(None, (_table_of(label, tables_in) for label in labels)))
    found = {file: _regions(Path(root, file)) for file in files}
    if not found:
        return None
    first, *others = found
    for other in others:
        if set(found[other].split(",")) != set(found[first].split(",")):  # the order of rows has no meaning
            raise InputError(
                f"--root={root}: {first} has the regions {found[first]:.100}, {other} has {found[other]:.100}; "
                f"expected tables that agree, or --regions=REGIONS.yaml"
            )
    show(f"regions from {first}" + (f" and {len(others)} tables like it" if others else ""))
    return found[first]


def _tables_in(root: str, folder: str) -> list[tuple[str, frozenset[str]]]:
    """A folder's tables and the entities in their names, most entities first."""
    names = sorted(path.name for path in Path(root, folder).glob("*dseg.tsv") if not path.name.startswith("."))
    tables = [(f"{folder}/{name}".lstrip("/"), name.removesuffix(".tsv").split("_")) for name in names]
    return sorted(
        ((path, frozenset(parts[:-1])) for path, parts in tables if parts[-1] == "dseg"),
        key=lambda table: -len(table[1]),
    )


def _table_of(label: str, tables_in: Callable[[str], list[tuple[str, frozenset[str]]]]) -> str | None:
    """The table that applies to a label map."""
    *entities, suffix = str(stem_of(Path(label).name)).split("_")
    if suffix != "dseg":
        return None
    for folder in Path(label).parents:
        for path, needed in tables_in("" if folder == Path() else str(folder)):
            if needed <= set(entities):
                return path
    return None


def _regions(file: Path) -> str:
    regions: dict[str, dict[str, object]] = {}
    for number, row in _rows(file):
        index, name, colour = (str(row.get(column) or "").strip() for column in ("index", "name", "color"))
        where = f"{file}: line {number}"
        if not re.fullmatch(r"[0-9]{1,9}", index):
            raise InputError(f"{where}: index={index}: expected a label value, a whole number")
        if int(index) == 0:
            continue
        if name in NONE:
            raise InputError(f"{where}: name={name}: expected the name of the region")
        if colour not in NONE and not re.fullmatch(r"#[0-9A-Fa-f]{6}", colour):
            raise InputError(f"{where}: color={colour}: expected six hexadecimal digits, such as #ff53bb, or n/a")
        if (plain := plain_name(name)) in regions:
            raise InputError(f"{where}: name={name}: there is another {plain}; expected different names")
        regions[plain] = {"labels": int(index), "colour": "" if colour in NONE else colour}
    if not regions:
        raise InputError(f"{file}: only background; expected a region")
    try:
        return declaration(regions)
    except ArgumentError as error:
        raise InputError(f"{file}: {error}; or --regions=REGIONS.yaml, which replaces the table") from error


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """The rows of a table with their line numbers."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "no text in Unicode"
        raise InputError(f"{file}: {why}; expected a BIDS lookup table") from error
    reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    columns = [name.strip() for name in reader.fieldnames or []]
    if not {"index", "name"} <= set(columns):
        found = ", ".join(columns)[:80] or "none"
        raise InputError(f"{file}: columns {found}; expected index and name, separated by tabs")
    reader.fieldnames = columns
    for row in reader:
        yield reader.line_num, row
