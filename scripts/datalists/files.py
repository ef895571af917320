"""Read and write datalists, and tell who is a person, by the names of subjects or the option `--person`."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from common.data.datalists import SPLITS, check
from common.data.names import COUNTED, NUMBERED, PERSON, VISIT, has_number
from common.data.regions import CONVENTIONS, cards_of
from common.errors import InputError, shortened, show
from common.files import read_json, write_json
from scripts.layouts.reading import Subject

START = re.compile(r"(.+)[_-][^_-]+")  # names that differ in the last part may be of one person,
LETTER = re.compile(r"(.*\d)(?:[A-Za-z]|(?:v|t|tp|ses)\d+)", re.IGNORECASE)  # as those that differ in P01a, P01v2
# Patterns for --person that join such names, by whether these have a number
JOINED = {True: r"(.*?\d.*?|\D+)([_-][^_-]+|[A-Za-z]+\d*)?$", False: r"(.+?)([_-][^_-]+)?$"}


def describe_people(person_of: Mapping[str, str]) -> str:
    """Describe the people of subjects; `person_of` maps a subject's name to the person.

    If visits share a person, or names leave open whether they do, the text has --person for the opposite reading.
    """
    visits, starts = defaultdict(list), defaultdict(list)
    for subject, person in sorted(person_of.items()):
        visits[person].append(subject)
    for person in visits:
        part = LETTER.fullmatch(person) or (None if PERSON.match(person) else START.fullmatch(person))
        if part and not COUNTED.fullmatch(part[1]):
            starts[part[1]].append(person)
    line = f"{len(visits)} in {len(person_of)} subjects"
    shared = [names for names in visits.values() if len(names) > 1]
    numbered = [names for names in shared if NUMBERED.fullmatch(names[0])]  # which need not be the number of a visit
    guessed = [names for names in numbered if not (PERSON.match(names[0]) or VISIT.fullmatch(names[0]))]
    if shared:
        names = (guessed or shared)[0]
        line += f", such as {person_of[names[0]]} ({shortened(names, most=3)})"
        line += "; if these are different people, write the datalist with --person='(.+)'" if guessed else ""
    alike = [start for start, people in starts.items() if len(people) > 1]
    likely = [start for start in alike if has_number(start)]
    if likely or len(alike) > 1:
        first, second, *_ = starts[(likely or alike)[0]]
        line += f"; if {first} and {second} are one person, write the datalist with --person='{JOINED[bool(likely)]}'"
    return line


def name_people(subjects: Collection[Subject], pattern: str | None = None) -> None:
    """Print who the people of subjects are; `--person`, a regular expression, first replaces them.

    The person is then the pattern's first group in the subject's name or, without a group, its match. Raise InputError
    for a name without a person.
    """
    for subject in subjects:
        if pattern is not None:
            match = re.match(pattern, subject.name)
            if match is None or not match[min(1, match.re.groups)]:
                raise InputError(f"--person={pattern}", f"finds no person in the subject {subject.name}")
            subject.person = match[min(1, match.re.groups)]
    show(f"people: {describe_people({subject.name: subject.person for subject in subjects})}")


def write(content: Mapping[str, Any], output: str | Path, *inputs: str | Path) -> None:
    """Check a datalist's content, as from `common.data.datalists.read`; write the file, and print the splits' sizes.

    Equal content gives equal bytes. Raise `InputError` if the file is one of `inputs`, or one that is not JSON.
    """
    path = Path(output).expanduser()
    if path.resolve() in [Path(file).expanduser().resolve() for file in inputs]:
        raise InputError(path, "the same file as an input", "a new file")
    if path.is_file():
        read_json(path, "a new file, or a datalist to replace")
    convention = content.get("label_convention")
    if isinstance(convention, str) and convention not in CONVENTIONS:
        regions = ("regions", mapping_of(convention))
        content = dict(regions if item[0] == "label_convention" else item for item in content.items())
    check(content, path)
    write_json(path, content)
    show(f"{path}: {', '.join(f'{len(content[split])} {split}' for split in SPLITS if split in content)}")


def mapping_of(convention: str) -> dict[str, Any]:
    """Convert a label convention to a mapping, as under `regions` in a datalist; see `regions.declaration`."""
    mapping = {}
    for name, (labels, colour, code, _) in cards_of(convention).items():
        stated = {key: value for key, value in (("colour", colour), ("code", code)) if value}
        mapping[name] = {"labels": sorted(labels), **stated} if stated else sorted(labels)
    return mapping
