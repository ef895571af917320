"""Who is a person, by the names of subjects or the option `--person`."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from common.data.datalists import SPLITS, person_in
from common.data.names import COUNTED, NUMBERED, PERSON, VISIT, has_number
from common.errors import InputError, shortened, show

START = re.compile(r"(.+)[_-][^_-]+")  # names that differ in the last part may be of one person,
LETTER = re.compile(r"(.*\d)(?:[A-Za-z]|(?:v|t|tp|ses)\d+)", re.IGNORECASE)  # as those that differ in P01a, P01v2
APART = "(.+)"  # pattern for --person: each visit is a person
JOINED = {True: r"(.*?\d.*?|\D+)([_-][^_-]+|[A-Za-z]+\d*)?$", False: r"(.+?)([_-][^_-]+)?$"}  # by number in the person


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
    alike = sorted((start for start in starts if len(starts[start]) > 1), key=lambda start: not has_number(start))
    is_open = bool(alike) and (has_number(alike[0]) or len(alike) > 1)
    shared = sorted((names for names in visits.values() if len(names) > 1), key=_is_stated)
    line = f"{len(visits)} in {len(person_of)} subjects"
    if shared:
        line += f", such as {person_of[shared[0][0]]} ({shortened(shared[0], most=3)})"
        line += "" if _is_stated(shared[0]) else f"; if these are different people: --person='{APART}'"
    if is_open:
        first, second, *_ = starts[alike[0]]
        line += f"; if {first} and {second} are one person: --person='{JOINED[has_number(alike[0])]}'"
    return line


def _is_stated(names: list[str]) -> bool:
    """Whether names state that they are visits, rather than end with any number."""
    return bool(PERSON.match(names[0]) or not NUMBERED.fullmatch(names[0]) or VISIT.fullmatch(names[0]))


def people_in(content: Mapping[str, Any]) -> str:
    """Describe the people of a datalist, as `describe_people`."""
    entries = [entry for name in SPLITS for entry in content.get(name, [])]
    return describe_people({entry["subject"]: person_in(entry) for entry in entries})


def with_people(content: Mapping[str, Any], pattern: str | None) -> dict[str, Any]:
    """Return a datalist with the people that `pattern` finds (`person_finder`; None: its own); print who they are."""
    find, joined = person_finder(pattern), dict(content)
    for name in SPLITS:
        if name in content and pattern is not None:
            joined[name] = [{**entry, "person": find(entry["subject"])} for entry in content[name]]
    show(f"people: {people_in(joined)}")
    return joined


def person_finder(pattern: str | None) -> Callable[..., str]:
    """Return a function from a subject's name to the person: the first group of `pattern`, a regular expression.

    Without a group, the match is the person; without a pattern, the function's second argument, `usual`. The function
    raises an InputError for a name without a person.
    """
    form = re.compile(pattern or "")

    def find(subject: str, usual: str = "") -> str:
        match = form.match(subject)
        person = usual if pattern is None else match and match[min(1, form.groups)]
        if not person:
            raise InputError(f"--person={pattern}", f"finds no person in the subject {subject}")
        return person

    return find
