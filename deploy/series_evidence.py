"""Collect evidence on a series' modality: words, echo and repetition times, contrast agent and time of the scan.

Evidence is stated in fixed words because it appears in messages and results; header text is never quoted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydicom.dataset import Dataset

from deploy.series_words import OTHER, UNCLEAR, WITH, WITHOUT, read_words

OTHER_IMAGES = {  # values of ImageType
    *("LOCALIZER", "SUB", "MIP", "MINIP", "ADC", "DIFFUSION", "TRACEW", "PERFUSION", "PHASE", "PHASE MAP", "P"),
    *("T1 MAP", "T2 MAP", "MAP", "FA", "MOSAIC", "ANGIO", "SCREEN SAVE"),
}
OTHER_IMAGE_STEMS = ("SUBTR", "MAX_IP", "MIN_IP", "PROJECTION")  # such as SUBTRACTION_M, PROJECTION IMAGE
HEAD_STEMS = ("HEAD", "BRAIN", "SKULL", "CRAN", "CEREB", "ENCEPH", "ENCEF", "KOPF", "SCHAEDEL", "NEURO")
NO_BODY_PART = {"", "UNKNOWN", "UNDEFINED", "OTHER", "NONE", "NA", "N/A"}
# Times in ms. Chosen from usual protocols: T1 has TE up to 30 (T1 FLAIR), T2 and FLAIR from 60. Fluid (T1 4.3 s) is
# nulled at TI = T1 ln(2 / (1 + exp(-TR / T1))): 1.8 s at TR 5 s, 2.5 s at 9 s; FLAIR is left a margin below that.
LONG_ECHO, NULLS_FLUID, LONG_INVERSION = 45.0, 1200.0, 1500.0
REFORMATS = {"MPR", "REFORMATTED", "RESAMPLED_MPR", "CPR"}
NO_AGENT = {"", "none", "no", "n", "0", "na", "n/a", "nil", "keine", "kein", "nein", "nessuno", "ninguno", "aucun"}
NO_AGENT |= {"geen", "brak", "unknown", "false", "-", "not applicable", "nihil", "yok", "ingen"}
ALIKE = 0.3  # relative tolerance of times; chosen: half the least step between kinds (MPRAGE to spin echo)
LEAST_ECHO = 3.0  # ms, least tolerance of echo times; chosen: in and out of phase differ by 1.1 ms at 3 T
NEAR, FAR = 60.0, 4 * 3600.0  # s from the injection: nearer is undecided, farther is an entry error or a different day


@dataclass(frozen=True)
class Point:
    """A reason to believe that a T1 was scanned with or without contrast agent.

    `says` is "with", "without" or "unclear"; a `clear` point is sufficient on its own.
    """

    says: str
    clear: bool
    text: str


@dataclass(frozen=True)
class Evidence:
    """The evidence in the header of a series."""

    kind: str | None  # "T1", "T2" or "FLAIR"; None if unknown or something else
    source: str  # "words" or "times"; without a kind the reason, in fixed words
    contrast: str | None = None  # by words: "with", "without" or "unclear"; None if they do not mention agent
    agent: bool = False  # the header names a contrast agent
    acquired: float | None = None  # start of the scan, seconds on a clock that all series of a study share
    injected: float | None = None  # start of the injection, on the same clock
    reformat: bool = False  # computed from another series

    def points(self, study: Sequence["Evidence"]) -> list[Point]:
        """Reasons to believe that this T1 was scanned with or without agent.

        `study` is the evidence of all volumes of the study, including this one.
        """
        found = []
        if self.contrast:
            text = "its words are unclear" if self.contrast == UNCLEAR else f"its words say {self.contrast} agent"
            found.append(Point(self.contrast, self.contrast != UNCLEAR, text))
        injected = min((one.injected for one in study if one.injected is not None), default=None)
        if injected is not None and self.acquired is not None and NEAR < abs(self.acquired - injected) < FAR:
            says, order = (WITH, "after") if self.acquired > injected else (WITHOUT, "before")
            found.append(Point(says, True, f"scanned {order} the injection"))
        if self.agent and all(one.agent for one in study):
            found.append(Point(UNCLEAR, False, "its header names an agent, as those of all series do"))
        elif self.agent:
            found.append(Point(WITH, False, "its header names an agent"))
        elif any(one.agent and one.kind == "T1" for one in study):
            found.append(Point(WITHOUT, False, "its header names no agent"))
        return found


def read_evidence(header: Dataset, acquired: float | None = None) -> Evidence:
    """Read the evidence in an image's header; `acquired` is the start of the series (default: of this image)."""
    description, protocol = (read_words(str(header.get(name) or "")) for name in ("SeriesDescription", "ProtocolName"))
    words = description if description.kind else protocol
    kind, source = (words.kind, "words") if words.kind else (_kind_from_times(header), "times")
    if kind == OTHER:
        return Evidence(None, "its words name another image or part of the body")
    if kind is None:
        return Evidence(None, "neither words nor times say what it is")
    if other := _other_image(header, kind):
        return Evidence(None, other)
    if source == "words" and _contradicts(header, kind):
        return Evidence(None, "its words and its times contradict each other")
    if kind != "T1" and words.unread and source == "words" and _kind_from_times(header) != kind:
        return Evidence(None, f"a word of its name is unknown, and its times do not confirm that it is {kind}")
    contrast = description.contrast
    if contrast is None and protocol.contrast:
        named_twice = description.kind is not None  # a protocol name may describe the whole examination
        contrast = UNCLEAR if named_twice and protocol.contrast == WITH else protocol.contrast
        contrast = contrast if protocol.kind == kind else None
    elif contrast and protocol.contrast and protocol.kind == kind and protocol.contrast != contrast:
        contrast = UNCLEAR
    silent = description.contrast is None and protocol.kind == kind
    if description.unread or (silent and protocol.unread):
        contrast = UNCLEAR
    return Evidence(
        kind=kind,
        source=source,
        contrast=contrast,
        agent=_names_agent(header),
        acquired=acquired_at(header) if acquired is None else acquired,
        injected=_seconds(header, "ContrastBolusStartTime"),
        reformat=bool(REFORMATS & _image_types(header)),
    )


def same_kind(one: Dataset, other: Dataset) -> bool:
    """Whether two T1 series were scanned alike, so that their voxels are comparable. Missing values count as different.

    Example:
        >>> spin_echo, mprage = Dataset(), Dataset()
        >>> spin_echo.EchoTime, spin_echo.RepetitionTime = 9, 500
        >>> mprage.EchoTime, mprage.RepetitionTime, mprage.InversionTime = 3, 2300, 900
        >>> same_kind(spin_echo, spin_echo), same_kind(spin_echo, mprage)
        (True, False)
    """
    for keyword, least in (("EchoTime", LEAST_ECHO), ("RepetitionTime", 0.0), ("InversionTime", 0.0)):
        first, second = _number(one, keyword), _number(other, keyword)
        if first is None or second is None:
            if keyword == "InversionTime" and first is second:
                continue  # neither uses inversion
            return False
        if abs(first - second) > max(ALIKE * max(first, second), least):
            return False
    alike = all(
        set(values_of(one, keyword)) == set(values_of(other, keyword))
        for keyword in ("ScanningSequence", "MRAcquisitionType")
    )
    return alike and _fat_suppressed(one) == _fat_suppressed(other)


def _fat_suppressed(header: Dataset) -> bool:
    text = f"{header.get('SeriesDescription') or ''} {header.get('ProtocolName') or ''}".lower()
    options = " ".join(map(str, values_of(header, "ScanOptions"))).upper()
    return bool(re.search(r"(?<![a-z])(?:fs|fat|sf|spir|spair|water|chess)|fatsat|thrive", text)) or "FS" in options


def values_of(header: Dataset, keyword: str) -> list[Any]:
    """The values of an attribute as a list; empty if it is missing."""
    value = header.get(keyword)
    return [] if value in (None, "") else [value] if isinstance(value, str | int | float) else list(value)


def _image_types(header: Dataset) -> set[str]:
    return {str(value).strip().upper() for value in values_of(header, "ImageType")}


def _other_image(header: Dataset, kind: str) -> str:
    """The reason why this is not an anatomical head image of this kind, in fixed words; empty if it may be."""
    types = _image_types(header)
    if OTHER_IMAGES & types or any(value.startswith(OTHER_IMAGE_STEMS) for value in types):
        return "its image type names another image"
    body = str(header.get("BodyPartExamined") or "").strip().upper()
    if body not in NO_BODY_PART and not any(stem in body for stem in HEAD_STEMS):
        return "it shows another part of the body"
    if header.get("AngioFlag") == "Y":
        return "angiography"
    sequence = {str(value) for value in values_of(header, "ScanningSequence")}
    if "EP" in sequence:
        return "echo-planar imaging"
    gradient = "GR" in sequence and "SE" not in sequence
    return "T2*, a gradient echo" if kind in ("T2", "FLAIR") and gradient else ""


def _kind_from_times(header: Dataset) -> str | None:
    """Kind from echo, repetition and inversion time; None if times are missing or fit no kind."""
    echo, repetition, inversion = (_number(header, f"{name}Time") for name in ("Echo", "Repetition", "Inversion"))
    if echo is None or repetition is None:
        return None
    if echo >= 60 and repetition >= 2000:
        return "FLAIR" if inversion is not None and inversion >= 1500 else "T2"
    inverted = inversion is not None and 300 <= inversion < 1500
    return "T1" if echo <= 15 and (inverted or 200 <= repetition <= 1000) else None


def _contradicts(header: Dataset, kind: str) -> bool:
    """Whether the scan's times rule out the kind that its words state."""
    echo, inversion = _number(header, "EchoTime"), _number(header, "InversionTime")
    if echo is not None and echo > 0 and (echo >= LONG_ECHO) != (kind in ("T2", "FLAIR")):
        return True
    if inversion is None or inversion <= 0:
        return False
    return inversion < NULLS_FLUID if kind == "FLAIR" else inversion >= LONG_INVERSION if kind == "T2" else False


def _number(header: Dataset, keyword: str) -> float | None:
    value = header.get(keyword)
    return None if value in (None, "") else float(value)


def _names_agent(header: Dataset) -> bool:
    text = str(header.get("ContrastBolusAgent") or "").strip().lower()
    return text not in NO_AGENT and read_words(text).contrast != WITHOUT


def acquired_at(header: Dataset) -> float | None:
    """Time of an image's acquisition in seconds; None if the header does not state it.

    ContentTime counts only for original images, because converters and workstations overwrite it.
    """
    stamp = str(header.get("AcquisitionDateTime") or "")
    if re.match(r"\d{14}", stamp):
        return _clock(stamp[:8], stamp[8:])
    original = "ORIGINAL" in _image_types(header)
    keyword = "AcquisitionTime" if header.get("AcquisitionTime") or not original else "ContentTime"
    return _seconds(header, keyword)


def _seconds(header: Dataset, keyword: str) -> float | None:
    return _clock(str(header.get("AcquisitionDate") or header.get("StudyDate") or ""), str(header.get(keyword) or ""))


def _clock(day: str, time: str) -> float | None:
    """A DICOM date and time in seconds; minutes and seconds are optional. None if either is invalid."""
    found = re.match(r"(\d\d):?(\d\d)?:?(\d\d(?:\.\d+)?)?", time.strip())
    try:
        days = date(int(day[:4]), int(day[4:6]), int(day[6:8])).toordinal()
    except ValueError:
        return None
    if not found:
        return None
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 86400 * days + 3600 * hours + 60 * minutes + seconds
