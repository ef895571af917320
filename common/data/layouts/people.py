"""Tell the person from the visit in a subject's name, such as P01_v2."""

import re
from collections import defaultdict
from collections.abc import Mapping

from ...errors import shortened

ENTITIES = re.compile(r"(?:^|_)(?:ses|acq|ce|rec|run|dir|echo|part|inv|mod|space|res|desc|label)-[A-Za-z0-9]+(?=_|$)")
# Persons at the start of a name: BIDS, the Cancer Genome Atlas, CPTAC, OASIS, ADNI, BraTS since 2023, UK Biobank
PERSON = re.compile(
    r"(?:ses-[A-Za-z0-9]+_)?(?P<person>(?:(?!_ses-).)*?(?<![A-Za-z0-9])(?:sub-(?=[A-Za-z]*\d)[A-Za-z0-9]+(?=_|$)|"
    r"(?:TCGA-\w\w-\w{4}|C3[LN]-\d{5}|OAS\d_\d{4}|\d{3}_S_\d{4,5}|BraTS-[A-Za-z]+-\d+)(?=[_-]|$))|"
    r"\d+(?=(?:_\d+)?_\d+_\d+$))"
)
VISIT = re.compile(  # a visit that says so: v2, ses_1, week-000-1, baseline, 2019-03-04
    r"(?P<person>.+?)[_.-]+(?:"
    r"(?:v|vis|visit|t|tp|time|time_?point|ses|sess|session|scan|exam|mri?|mr_d|month|week|day|year|fu|follow[_-]?up)"
    r"[_.-]?\d+(?:[_.-]\d+)*[a-z]?|"
    r"baseline|bl|follow[_-]?up|fu|pre|post|(?:pre|post)[_-]?op|initial|nifti|(?:19|20)\d\d[_.-]?\d\d[_.-]?\d\d)",
    re.IGNORECASE,
)
NUMBERED = re.compile(r"(?P<person>.+)[_.-][mwdy]?\d+[a-z]?", re.IGNORECASE)  # a visit if the person has a number, too
COUNTED = re.compile(  # words before a person's number
    r"(?:.*[_-])?(?:sub|subj|subject|pat|patient|patientid|case|id|participant|control|volunteer|"
    r"train|training|val|validation|test|testing)",
    re.IGNORECASE,
)
START = re.compile(r"(.+)[_-][^_-]+")  # names that differ in the last part may be of one person,
LETTER = re.compile(r"(.*\d)(?:[A-Za-z]|(?:v|t|tp|ses)\d+)", re.IGNORECASE)  # as those that differ in P01a, P01v2
NO_PERSON = re.compile(  # BraTS20, BraTS2021, 3T
    r"[Bb]ra[Tt][Ss]\d\d(?!\d)|[A-Za-z]{3,}(?:19|20)\d\d(?!\d)|(?<!\d)\d(?:\.\d)?T(?![A-Za-z0-9])"
)
APART = "(.+)"  # pattern for --person: each visit is a person
JOINED = {True: r"(.*?\d.*?|\D+)([_-][^_-]+|[A-Za-z]+\d*)?$", False: r"(.+?)([_-][^_-]+)?$"}  # by number in the person


def person_of(subject: str) -> str:
    """Return the person in a subject's name, which may name a visit; docs/reference/data.md lists the rules.

    Example:
        >>> [person_of(name) for name in ("BraTS-GLI-00007-001", "P01_v2", "GBM-00001_11", "BraTS2021_00000")]
        ['BraTS-GLI-00007', 'P01', 'GBM-00001', 'BraTS2021_00000']
    """
    if person := PERSON.match(subject):
        return person["person"]
    name = ENTITIES.sub("", subject.partition("_ses-")[0]).lstrip("_") or subject
    while visit := VISIT.fullmatch(name):
        name = visit["person"]
    visit = NUMBERED.fullmatch(name)
    if visit and _has_number(visit["person"]) and not COUNTED.fullmatch(visit["person"]):
        return visit["person"]
    return name


def visit_name(folders: list[str]) -> str:
    """Return the name of a visit from its folders, such as P01/baseline, so that `person_of` finds the person.

    Example:
        >>> [visit_name(path.split("/")) for path in ("sub_1/ses_2", "P01/late", "baseline/P01", "HGG/a")]
        ['sub_1_ses_2', 'P01_ses-late', 'P01_ses-baseline', 'HGG_a']
    """
    is_above = is_visit(folders[0]) or re.fullmatch(r"(?:19|20)\d\d", folders[0])  # baseline/P01, 2020/P01
    if len(folders) > 1 and is_above and not is_visit(folders[1]):
        return f"{'_'.join(folders[1:])}_ses-{folders[0].removeprefix('ses-')}"
    *above, last = folders
    name, person = "_".join(folders), "_".join(above)
    is_person = PERSON.match(last) or re.match(
        r"(?:p|sub|subj|subject|pat|patient|case|id)[_-]?\d", last, re.IGNORECASE
    )
    is_open = _has_number(person) and person_of(name) == name and not is_person
    return f"{person}_ses-{last}" if is_open else name


def is_visit(word: str) -> bool:
    """Whether a part of a name states a visit, such as v2, baseline or ses-01."""
    visit = VISIT.fullmatch(f"P_{word}")
    return word.startswith("ses-") or (visit is not None and visit["person"] == "P")


def describe_people(person_in: Mapping[str, str]) -> str:
    """Describe the people of subjects if visits share a person, or names leave open whether they do; else "".

    The text has a value of --person for the opposite reading. `person_in` maps a subject's name to the person.
    """
    visits, starts = defaultdict(list), defaultdict(list)
    for subject, person in sorted(person_in.items()):
        visits[person].append(subject)
    for person in visits:
        part = LETTER.fullmatch(person) or (None if PERSON.match(person) else START.fullmatch(person))
        if part and not COUNTED.fullmatch(part[1]):
            starts[part[1]].append(person)
    alike = {start: people for start, people in starts.items() if len(people) > 1}
    numbered = [start for start in alike if _has_number(start)]
    shared = sorted((names for names in visits.values() if len(names) > 1), key=_is_stated)
    if not (shared or numbered or len(alike) > 1):
        return ""
    line = f"{len(visits)} in {len(person_in)} subjects"
    if shared:
        names = shared[0]
        line += f", such as {person_in[names[0]]} ({shortened(names, most=3)})"
        line += "" if _is_stated(names) else f"; if these are different people: --person='{APART}'"
    if numbered or len(alike) > 1:
        first, second, *_ = alike[start := [*numbered, *alike][0]]
        line += f"; if {first} and {second} are one person: --person='{JOINED[_has_number(start)]}'"
    return line


def _has_number(name: str) -> bool:
    """Whether a name has a number that may be a person's."""
    return bool(re.search(r"\d", NO_PERSON.sub("", name)))


def _is_stated(names: list[str]) -> bool:
    """Whether names state that they are visits, rather than end with any number."""
    return bool(PERSON.match(names[0]) or not NUMBERED.fullmatch(names[0]) or VISIT.fullmatch(names[0]))
