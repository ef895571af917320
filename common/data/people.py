"""Tell the person from the visit in a subject's name, such as P01_v2."""

import re

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
NO_PERSON = re.compile(  # BraTS20, BraTS2021, 3T
    r"[Bb]ra[Tt][Ss]\d\d(?!\d)|[A-Za-z]{3,}(?:19|20)\d\d(?!\d)|(?<!\d)\d(?:\.\d)?T(?![A-Za-z0-9])"
)


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
    if visit and has_number(visit["person"]) and not COUNTED.fullmatch(visit["person"]):
        return visit["person"]
    return name


def has_number(name: str) -> bool:
    """Whether a name has a number that may be a person's."""
    return bool(re.search(r"\d", NO_PERSON.sub("", name)))
