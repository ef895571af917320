"""Who is a person, by the names of subjects or the option `--person`."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from common.data.datalists import SPLITS, person_in
from common.errors import InputError, shortened, show


def describe_people(person_of: Mapping[str, str]) -> str:
    """Describe who is taken for a person, with a person of several visits if there is one.

    `person_of` maps a subject's name to the person.

    Example:
        >>> describe_people({"P1_v1": "P1", "P1_v2": "P1", "P2_v1": "P2"})
        "2 in 3 subjects, such as P1 (P1_v1, P1_v2); to change it: --person='(.+)_.+' or the like"
    """
    visits = defaultdict(list)
    for subject, person in sorted(person_of.items()):
        visits[person].append(subject)
    several = [f"{person} ({shortened(names, most=3)})" for person, names in visits.items() if len(names) > 1]
    examples = several[0] if several else shortened([*visits], most=3)
    return (
        f"{len(visits)} in {len(person_of)} subjects, such as {examples}; to change it: --person='(.+)_.+' or the like"
    )


def people_in(content: Mapping[str, Any]) -> str:
    """Describe the people of a datalist, as `describe_people`."""
    entries = [entry for name in SPLITS for entry in content.get(name, [])]
    return describe_people({entry["subject"]: person_in(entry) for entry in entries})


def with_people(content: Mapping[str, Any], pattern: str | None) -> dict[str, Any]:
    """Return a datalist with the people that `pattern` finds (`person_finder`; None: its own); print who they are."""
    joined = dict(content)
    if pattern is not None:
        find = person_finder(pattern)
        for name in SPLITS:
            if name in content:
                joined[name] = [{**entry, "person": find(entry["subject"])} for entry in content[name]]
    show(f"people: {people_in(joined)}")
    return joined


def person_finder(pattern: str) -> Callable[[str], str]:
    """Return a function that takes a subject's name and returns the person: the first group of `pattern`, a regex.

    The function raises an InputError for a name without a match or a person.
    """
    form = re.compile(str(pattern))
    if not form.groups:
        raise InputError(f"--person={pattern}", "no group for the person", "one such as (.+)_v[0-9]+")

    def find(subject: str) -> str:
        match = form.match(subject)
        if not match or not match[1]:
            raise InputError(f"--person={pattern}", f"finds no person in the subject {subject}")
        return match[1]

    return find
