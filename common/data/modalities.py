"""Modalities: names, spellings in file names, and modalities that cases lack."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError

AGENT = (  # words for contrast agent
    *("ce", "gd", "gad", "gado", "gadolinium", "gadavist", "gadovist", "dotarem", "magnevist", "multihance"),
    *("prohance", "km", "kontrast", "kontrastmittel", "contrast", "agent", "enhanced", "enh", "injected"),
    *("postcontrast", "postce", "postgd", "postgad", "postgado", "postkm", "c+", "+c"),
)
ANY = "MR"  # the channel of a network for scans of any sequence
UNCLEAR = "T1 or T1ce"  # "post" beside T1: after contrast agent, or after surgery
# Modality -> spellings in lower case, without separators; the cohorts' spellings come first
SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "FLAIR": ("flair", "t2f", "t2flair", "t2wflair", "flairw"),
    "T1ce": (
        *("t1ce", "t1c", "t1gd", "t1post", "t1contrast", "t1km", "t1gad", "t1gado", "t1+", "t1+c", "t1+gd", "cet1"),
        *("gdt1", "t1wce", "t1wc", "t1cw", "t1wgd", "t1wpost", "t1w+", "t1w+c", "t1w+gd", "cet1w", "gdt1w"),
    ),
    "T1": ("t1", "t1n", "t1w", "t1pre", "t1wpre", "t1native", "t1mprage", "t1wmprage", "mprage"),
    "T2": ("t2", "t2w", "t2tse", "t2wtse"),
    "PD": ("pd", "pdw"),
    "T2star": ("t2star", "t2starw"),
    "SWI": ("swi",),
    "DWI": ("dwi",),
    "ADC": ("adc",),
}
WORDS = {word: modality for modality, words in SPELLINGS.items() for word in words}
SUFFIX = re.compile(r"\.(?:nii(?:\.gz)?|mg[hz])$", re.IGNORECASE)
MOST = 3  # words in the longest spelling, as in T1_w_ce
_END = re.compile(r"[_.\- ]?([^_.\- ]*)$")
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
_ENTITIES = re.compile(r"((?:(?:sub|ses)-[^_]*_)*)(.*)", re.DOTALL)  # values of the first may be any word


def modality_of(text: str) -> str | None:
    """Return the modality that a text such as "T1-Gd" spells; None if it spells no modality.

    Example:
        >>> modality_of("T1-Gd"), modality_of("Flair"), modality_of("brain")
        ('T1ce', 'FLAIR', None)
    """
    return WORDS.get(re.sub(r"[_.\- ]", "", text.lower()))


def split_name(name: str) -> tuple[str, str | None]:
    """Split a file name without extension into its beginning and the modality at its end (None if there is none).

    Words are separated by `_`, `-`, `.` or a space; the longest spelling wins. A word for contrast agent beside T1
    makes T1ce, and is left out of the beginning; "post" alone makes `UNCLEAR`.

    Example:
        >>> [split_name(name) for name in ("S1_T2_FLAIR", "S1_Gd_T1", "S1_post_T1", "S1")]
        [('S1', 'FLAIR'), ('S1', 'T1ce'), ('S1_post', 'T1 or T1ce'), ('S1', None)]
    """
    start, rest = _ENTITIES.findall(name)[0]
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
    return (start + before).rstrip("_.- ") if modality else name, modality


def in_folders(modality: str | None, folders: Sequence[str]) -> str | None:
    """Return the modality of an image in folders that may state contrast agent; only a T1 changes.

    Example:
        >>> [in_folders("T1", ["P1", name]) for name in ("Gd", "post", "post-op")]
        ['T1ce', 'T1 or T1ce', 'T1']
    """
    if modality not in ("T1", UNCLEAR):
        return modality
    stated = {modality, *(split_name(name if modality_of(name) else f"{name}_T1")[1] for name in folders)}
    return next(name for name in ("T1ce", UNCLEAR, "T1") if name in stated)


def _split(name: str) -> tuple[str, str | None]:
    ends = [len(name)]
    while len(ends) <= MOST and ends[-1] > 0:
        match = _END.search(name[: ends[-1]])
        ends.append(match.start() if match else 0)
    for end in reversed(ends[1:]):
        if modality := modality_of(name[end:]):
            return name[:end], modality
    return name, None


def check_order(files: Sequence[str | Path | None], modalities: Sequence[str]) -> None:
    """Raise `InputError` if a file's name states a modality that is neither its own nor that of the file in its place.

    Example:
        >>> check_order(["P1_FLAIR_to_T1.nii", "P1_T1.nii"], ["FLAIR", "T1"])
        >>> check_order(["P1_T1.nii", "P1_scan.nii"], ["FLAIR", "T1"])
        Traceback (most recent call last):
        common.errors.InputError: P1_T1.nii: its name says T1; expected FLAIR here
    """
    if len(modalities) < 2:
        return
    stated: dict[str, str | None] = {}
    for file, modality in zip(files, modalities, strict=True):
        path = Path(file or "")
        stated[modality] = in_folders(split_name(SUFFIX.sub("", path.name))[1], [path.parent.name])
    for file, (modality, name) in zip(files, stated.items(), strict=True):
        if name in stated and name not in (modality, stated[name]):
            raise InputError(str(file), f"its name says {name}", f"{modality} here")


def missing_in(case: Mapping[str, Any], modalities: Sequence[str]) -> tuple[str, ...]:
    """Return the modalities that a case lacks: those whose file is None.

    Example:
        >>> missing_in({"image": [None, "t1.nii.gz"]}, ["FLAIR", "T1"])
        ('FLAIR',)
    """
    return tuple(name for name, file in zip(modalities, case["image"], strict=True) if file is None)


def count_missing(cases: Sequence[Mapping[str, Any]], modalities: Sequence[str]) -> dict[str, str]:
    """Count the cases by their missing modalities, as in {"T2, FLAIR": "3 of 20"}; complete cases are omitted."""
    counts = Counter(", ".join(missing_in(case, modalities)) for case in cases)
    return {names: f"{count} of {len(cases)}" for names, count in counts.most_common() if names}


def images_of(case: Mapping[str, Any], modalities: Sequence[str]) -> tuple[tuple[str, Path], ...]:
    """Return (modality, file) for each image that a case has; `modalities` are in channel order."""
    return tuple((name, Path(file)) for name, file in zip(modalities, case["image"], strict=True) if file)


def first_image(case: Mapping[str, Any]) -> str:
    """Return the path of a case's first image."""
    return next(file for file in case["image"] if file)
