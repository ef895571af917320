"""Table 7: the people of a cohort by age, sex and ethnicity, in the paper's groups."""

import csv
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from common.errors import ArgumentError, InputError
from common.files import check_regular, reporting_path_errors
from scripts.experiments.study import paper

# Column names; the first one in the file is used. The numbers are UK Biobank's data fields
COLUMNS = {
    "age": ("age", "age_at_recruitment", "21022-0.0", "p21022"),
    "sex": ("sex", "gender", "31-0.0", "p31"),
    "ethnicity": ("ethnicity", "race", "ethnic_background", "21000-0.0", "p21000_i0", "p21000"),
}
GROUPS = {"age": "Age at recruitment", "sex": "Gender", "ethnicity": "Race"}
AGES = ((45, "≤ 45"), (50, "45-49"), (55, "50-54"), (60, "55-59"), (65, "60-64"), (math.inf, "≥ 65"))  # below, bin
SEXES = {"0": "Female", "1": "Male", "f": "Female", "m": "Male", "female": "Female", "male": "Male"}
# UK Biobank's data coding 1001: codes by their first digit, and the terms of its lowest level
ETHNICITIES = {
    "White": ("1", "white", "british", "irish", "any other white background"),
    "Mixed": ("2", "mixed", "white and black caribbean", "white and black african", "white and asian"),
    "Asian": ("3", "5", "asian", "asian or asian british", "indian", "pakistani", "bangladeshi", "chinese"),
    "Black": ("4", "black", "black or black british", "caribbean", "african"),
    "Other": ("6", "other", "other ethnic group"),
}
OTHERS = {f"any other {group.lower()} background": group for group in ("Mixed", "Asian", "Black")}
WORDS = {word: group for group, words in ETHNICITIES.items() for word in words} | OTHERS
UNANSWERED = ("", "na", "nan", "n/a", "-1", "-3", "do not know", "prefer not to answer")


def demographics(file: str, columns: Mapping[str, str] | None = None) -> dict[str, dict[str, int]]:
    """Count the people of a CSV or TSV file, one person per line, in the paper's groups and order.

    The paper's first age bin, up to 45, is read as below 45. Chinese counts as Asian.
    """
    if columns is not None and not (isinstance(columns, Mapping) and columns.keys() <= COLUMNS.keys()):
        raise ArgumentError(f"participant_columns={columns}: expected names of {', '.join(COLUMNS)}")
    path = Path(str(file)).expanduser()
    counts: dict[str, Counter[str]] = {name: Counter() for name in COLUMNS}
    with reporting_path_errors(f"participants={file}"):
        try:
            check_regular(path)
            with path.open(newline="", encoding="utf-8-sig") as content:
                rows = csv.DictReader(content, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
                places = _places(file, rows.fieldnames or (), columns or {})
                for row in rows:
                    for name, column in places.items():
                        counts[name][_bin(file, rows.line_num, name, row[column])] += 1
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"participants={file}: no table ({error}); expected CSV or TSV in UTF-8") from error
        except OSError as error:
            raise InputError(f"participants={file}: {error.strerror}; expected a CSV or TSV file") from error
    groups = paper()[7]["groups"]
    return {group: {name: counts[key][name] for name in groups[group]} for key, group in GROUPS.items()}


def _places(file: str, header: object, columns: Mapping[str, str]) -> dict[str, str]:
    known = [str(name) for name in header]  # type: ignore[attr-defined]
    found = {}
    for name, usual in COLUMNS.items():
        wanted = (str(columns[name]),) if name in columns else usual
        here = [column for column in known if column in wanted or column.lower() in wanted]
        if not here:
            raise InputError(f"participants={file}: no column for {name}; expected one of {', '.join(wanted)}")
        found[name] = here[0]
    return found


def _bin(file: str, line: int, name: str, value: str | None) -> str:
    text = (value or "").strip().lower().removesuffix(".0")
    if text in UNANSWERED:
        return "Unanswered"
    found: str | None = None
    if name == "age":
        found = _age(text)
    elif name == "sex":
        found = SEXES.get(text)
    else:
        found = WORDS.get(text[0] if text.isdecimal() else text)
    if found is None:
        raise InputError(f"participants={file}: line {line}: {name}={value!a:.60}: expected a value of docs/reports.md")
    return found


def _age(text: str) -> str | None:
    try:
        age = float(text)
    except ValueError:
        return None
    return next(name for below, name in AGES if age < below) if 0 <= age <= 130 else None
