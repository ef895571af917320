"""What the names of files, folders and subjects state, the modality and the person; and the files of a case.

A case is a dictionary with "subject", "image" (a file per modality, None if missing) and, optionally, "label" (a file).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import read_json

ANY = "MR"  # the channel of a network for scans of any sequence
UNCLEAR = "T1 or T1ce"  # "post" beside T1: after contrast agent, or after surgery
VOCABULARY = read_json(Path(__file__).with_name("names.json"))
AGENT: Sequence[str] = VOCABULARY["contrast agent"]
# Modality -> spellings in lower case, without separators; the cohorts' spellings come first
SPELLINGS: Mapping[str, Sequence[str]] = VOCABULARY["spellings"]
WORDS = {word: modality for modality, words in SPELLINGS.items() for word in words}
SUFFIX = re.compile(r"\.(?:nii(?:\.gz)?|mg[hz])$", re.IGNORECASE)
MOST = 3  # words in the longest spelling, as in T1_w_ce
_WORD = re.compile(r"(?:^|[_.\- ])[^_.\- ]*")
_STATED = re.compile(  # contrast agent among the words of a name, with what denies or introduces it
    r"(?:^|[_.\- ])(?:(?:acq|ce)-)?(?:(?P<denied>pre|no|non|not|without|wo|sans|ohne)[_.\- ]?)?"
    rf"(?:(?:post|after|with|w)[_.\- ])?(?:{'|'.join(map(re.escape, AGENT))})"
    r"(?=$|[_.\- ])(?P<late>[_.\- ]pre(?=$|[_.\- ]))?",
    re.IGNORECASE,
)
_LONG = "|".join(word for word in AGENT if word.isalpha() and word not in ("ce", "km", "agent"))
_COMPOUND = re.compile(  # contrast agent within a value of BIDS, which holds no separators: acq-T1gd, ce-GADOVIST
    rf"(?:^|_)(?:acq|desc|rec)-(?!(?i:pre|no|without))(?:(?i:{_LONG})[A-Za-z0-9]*|[A-Za-z0-9]*?"
    rf"(?:(?i:{_LONG}|t1ce|t1c|3dce)|(?<=[a-z0-9])CE))(?=_|$)|(?:^|_)ce-(?!(?i:pre|no|without|0))[A-Za-z0-9]+(?=_|$)"
)
_UNENHANCED = re.compile(r"(?:^|_)ce-[A-Za-z0-9]+(?=_|$)")
_POST = re.compile(
    r"(?:^|[_.\- ])post(?=$|[_.\- ])(?!.(?:op|surg|resect|treat|therap|radi|rt|chemo))"
    r"|(?:acq|desc|rec)-[a-z0-9]*post(?=_|$)",
    re.IGNORECASE,
)
_MOVED = re.compile(r"(?is)(.+)[_.\- ](?:to|2|in)")  # before the target in a registered scan's name, FLAIR_to_T1
_PERSON_AND_VISIT = re.compile(r"((?:(?:sub|ses)-[^_]*_)*)(.*)", re.DOTALL)  # their values may be any word

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


def modality_of(text: str) -> str | None:
    """Return the modality that a text such as "T1-Gd" spells; None if it spells no modality."""
    return WORDS.get(re.sub(r"[_.\- ]", "", text.lower()))


def split_name(name: str) -> tuple[str, str | None]:
    """Split a file name without extension into its beginning and the modality at its end (None if there is none).

    The longest spelling wins. A word for contrast agent makes a T1 a T1ce; "post" alone makes it `UNCLEAR`.
    """
    start, rest = _PERSON_AND_VISIT.findall(name)[0]
    plain = _UNENHANCED.sub("", _COMPOUND.sub("", rest))
    before, modality = _split(_STATED.sub("", plain).lstrip("_.- "))
    if modality == "T1" and _split(before)[1] == "T1ce":  # T1ce_mprage
        before, modality = _split(before)
    if modality not in ("T1", "T1ce"):
        before, modality = _split(rest)
    elif _COMPOUND.search(rest) or any(not (match["denied"] or match["late"]) for match in _STATED.finditer(plain)):
        modality = "T1ce"
    elif _POST.search(rest):
        modality = UNCLEAR
    moved = _MOVED.fullmatch((start + before).rstrip("_.- ")) if modality else None
    if moved and split_name(moved[1])[1]:
        return split_name(moved[1])
    return (start + before).rstrip("_.- ") if modality else name, modality


def _split(name: str) -> tuple[str, str | None]:
    for start in [word.start() for word in _WORD.finditer(name)][-MOST:]:
        if modality := modality_of(name[start:]):
            return name[:start], modality
    return name, None


def in_folders(modality: str | None, folders: Sequence[str]) -> str | None:
    """Return the modality of an image in folders that may state contrast agent, such as "Gd"; only a T1 changes."""
    if modality not in ("T1", UNCLEAR):
        return modality
    stated = {modality, *(split_name(name if modality_of(name) else f"{name}_T1")[1] for name in folders)}
    return next(name for name in ("T1ce", UNCLEAR, "T1") if name in stated)


def check_order(files: Sequence[str | Path | None], modalities: Sequence[str]) -> None:
    """Raise `InputError` if a file's name states a modality that is neither its own nor that of the file in its place.

    P1_FLAIR_to_T1 is a sound name of a FLAIR beside P1_T1; P1_T1 is not that of a FLAIR beside P1_scan.
    """
    if len(modalities) < 2:
        return
    paths = [Path(file or "") for file in files]
    kinds = [in_folders(split_name(SUFFIX.sub("", path.name))[1], [path.parent.name]) for path in paths]
    stated = dict(zip(modalities, kinds, strict=True))
    for file, (modality, name) in zip(files, stated.items(), strict=True):
        if name in stated and name not in (modality, stated[name]):
            raise InputError(str(file), f"its name says {name}", f"{modality} here")


def person_of(subject: str) -> str:
    """Return the person in a subject's name, P01 in P01_v2, by the rules in docs/reference/data.md."""
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


def files_in(case: Mapping[str, Any]) -> list[str]:
    """Return the files that a case has: its images, then its label map."""
    return [str(file) for file in (*case["image"], case.get("label")) if isinstance(file, str | Path) and str(file)]


def missing_in(case: Mapping[str, Any], modalities: Sequence[str]) -> tuple[str, ...]:
    """Return the modalities that a case lacks."""
    return tuple(name for name, file in zip(modalities, case["image"], strict=True) if file is None)


def count_missing(cases: Sequence[Mapping[str, Any]], modalities: Sequence[str]) -> dict[str, str]:
    """Count the cases by their missing modalities, as in {"T2, FLAIR": "3 of 20"}; complete cases are omitted."""
    counts = Counter(", ".join(missing_in(case, modalities)) for case in cases)
    return {names: f"{count} of {len(cases)}" for names, count in counts.most_common() if names}


def images_of(case: Mapping[str, Any], modalities: Sequence[str]) -> tuple[tuple[str, Path], ...]:
    """Return (modality, file) for each image that a case has."""
    return tuple((name, Path(file)) for name, file in zip(modalities, case["image"], strict=True) if file)
