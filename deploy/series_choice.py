"""Choose the series of a DICOM study that the model takes for each modality, by rules on headers alone.

README.md states the rules in section "How series are chosen". As in study.py, messages quote no description.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from common.errors import InputError
from deploy.multiframe import ENHANCED_MR
from deploy.study import Series

__all__ = ["MIN_SLICES", "choose_series", "is_volume", "modality_of", "parse_series_option"]

MIN_SLICES = 10  # a localiser or a sample has fewer; the thickest clinical series of a brain have about 20

PREFIX = r"(?:\b|\dd|ax|sag|cor|tra)"  # text allowed directly before T1 or T2: T1w, 3DT1, AXT2
NOT_ANATOMY = re.compile(
    r"\b(?:loc|localizer|localiser|scout|survey|calib\w*|asset|dwi|adc|trace\w*|diff\w*|dti|perf\w*|pwi|dsc|dce|asl|swi|"
    rf"swan|tof|angio\w*|mra|bold|fmri|phase|sub|subtraction|mip)\b|{PREFIX}t2 ?(?:\*|star)"
)
T1 = re.compile(rf"{PREFIX}t1|mp2?rage|\b(?:bravo|f?spgr|vibe)\b")
T2 = re.compile(rf"{PREFIX}t2")
FLAIR = re.compile(r"flair|dark ?fluid|\btirm\b")
BEFORE_CONTRAST = re.compile(
    r"\b(?:pre|precontrast|non ?contrast|no contrast|without|w o|nativ\w*|plain|unenhanced|ohne|t1n)\b"
)
AFTER_CONTRAST = re.compile(
    r"\b(?:ce|t1 ?ce|t1 ?c|t1 ?gd|gd|gad\w*|post|postcontrast|contrast|enhanced|km)\b|\+ ?(?:c|gd|gad\w*|km)\b|\bc\+"
)
NO_AGENT = ("", "none", "no", "n", "0")


def choose_series(
    study: Sequence[Series], modalities: Sequence[str], requested: Mapping[str, str]
) -> dict[str, Series]:
    """Choose one series for each modality.

    Args:
        study: all of its series.
        modalities: those that the model takes.
        requested: modality -> number or UID of the series that the user requests; rules choose the others.

    Returns:
        Modality -> series, in the order of `modalities`.

    Raises:
        InputError: no series or several match a modality, a requested series cannot be used, or the chosen series do
            not share one frame of reference.
    """
    named = {modality: _requested_series(study, modality, value) for modality, value in requested.items()}
    taken = {series.uid for series in named.values()}
    if len(taken) < len(named):
        raise InputError("--series: one series is given for two modalities; expected a different one for each")
    others = [(series, _volume_modality(series)) for series in study if series.uid not in taken]
    chosen = {modality: named.get(modality) or _matching_series(others, modality) for modality in modalities}
    frames = {instance.header.get("FrameOfReferenceUID") for series in chosen.values() for instance in series.instances}
    if len(frames) > 1 or not all(frames):
        names = ", ".join(f"{modality} {series.name}" for modality, series in chosen.items())
        raise InputError(f"--input: {len(frames)} frames of reference among {names}; expected one that all share")
    return chosen


def _requested_series(study: Sequence[Series], modality: str, value: str) -> Series:
    found = [series for series in study if value in (str(series.number), series.uid)]
    if len(found) != 1:
        problem = f"{len(found)} series match" if found else "no such series"
        raise InputError(f"--series={modality}={value}: {problem}; expected the number or UID of one series")
    if not is_volume(found[0]):
        raise InputError(
            f"--series={modality}={value}: not a volume; expected {MIN_SLICES} or more MR images in one orientation"
        )
    return found[0]


def _matching_series(candidates: Sequence[tuple[Series, str | None]], modality: str) -> Series:
    """The only candidate with a modality; each candidate is a series and its modality."""
    found = [series for series, its_modality in candidates if its_modality == modality]
    if len(found) > 1:
        names = ", ".join(series.name for series in found)
        raise InputError(f"{modality}: {len(found)} series match: {names}; select one with --series={modality}=NUMBER")
    if not found:
        names = ", ".join(f"{series.name} {its_modality or 'unknown'}" for series, its_modality in candidates) or "none"
        raise InputError(f"{modality}: no series matches among: {names}; select one with --series={modality}=NUMBER")
    return found[0]


def parse_series_option(text: str | int, modalities: Sequence[str]) -> dict[str, str]:
    """Parse `--series` into modality -> number or UID of a series, both as text.

    Args:
        text: such as "T1=5,T1ce=9"; for a model of one modality, the number alone is enough.
        modalities: those that the model takes.

    Raises:
        InputError: the text has another form, an unknown modality, or a modality twice.
    """
    if isinstance(text, int) and len(modalities) == 1:
        return {modalities[0]: str(text)}
    requested = {}
    for part in filter(None, str(text).split(",")):
        modality, separator, value = (word.strip() for word in part.partition("="))
        if not separator or not value or modality not in modalities or modality in requested:
            raise InputError(
                f"--series={text}: expected MODALITY=NUMBER, at most once for each of {', '.join(modalities)}"
            )
        requested[modality] = value
    return requested


def is_volume(series: Series) -> bool:
    """Whether a series can be a volume of a head: MR, no localiser, `MIN_SLICES` or more positions, one orientation."""
    header = series.header
    if header.get("SOPClassUID") not in (MRImageStorage, *ENHANCED_MR) or header.get("Modality") != "MR":
        return False
    if any("LOCALI" in str(value).upper() for value in _values(header, "ImageType")):
        return False
    orientations = {
        tuple(round(float(cosine), 2) for cosine in _values(instance.header, "ImageOrientationPatient"))
        for instance in series.instances
    }
    positions = {tuple(_values(instance.header, "ImagePositionPatient")) for instance in series.instances}
    return len(orientations) == 1 and () not in orientations | positions and len(positions) >= MIN_SLICES


def _values(header: Dataset, keyword: str) -> list[Any]:
    value = header.get(keyword)
    return [] if value in (None, "") else [value] if isinstance(value, str) else list(value)


def _volume_modality(series: Series) -> str | None:
    return modality_of(series.header) if is_volume(series) else None


def modality_of(header: Dataset) -> str | None:
    """Modality of a series: "FLAIR", "T1ce", "T1" or "T2", or None where no rule applies.

    Words of the series description decide, then words of the protocol name, then echo, repetition and inversion time.

    Example:
        >>> header = Dataset()
        >>> header.SeriesDescription = "t1_mprage_sag +C"
        >>> modality_of(header)
        'T1ce'
    """
    texts = [_normalise(header.get(keyword)) for keyword in ("SeriesDescription", "ProtocolName")]
    for text in texts:
        if NOT_ANATOMY.search(text):
            return None
        if weighting := _weighting_from_words(text):
            return _with_contrast(weighting, header, text)
    return _with_contrast(_weighting_from_times(header), header, texts[0])


def _normalise(value: Any) -> str:
    """Text in lower case with single blanks between words; + and * are kept, since they have a meaning."""
    return " ".join(re.sub(r"[^a-z0-9+*]+", " ", str(value or "").lower()).split())


def _weighting_from_words(text: str) -> str | None:
    t1, t2, flair = (pattern.search(text) is not None for pattern in (T1, T2, FLAIR))
    if t1:
        return None if t2 else "T1"  # "T1 FLAIR" is T1-weighted
    if flair:
        return "FLAIR"
    return "T2" if t2 else None


def _weighting_from_times(header: Dataset) -> str | None:
    """Weighting from echo, repetition and inversion time in ms; None if they are missing or fit no weighting."""
    echo, repetition, inversion = (_number(header, f"{name}Time") for name in ("Echo", "Repetition", "Inversion"))
    if echo is None or repetition is None:
        return None
    if echo >= 60 and repetition >= 2000:
        return "FLAIR" if inversion is not None and inversion >= 1500 else "T2"
    inverted = inversion is not None and 300 <= inversion < 1500
    return "T1" if echo <= 15 and (inverted or 200 <= repetition <= 1000) else None


def _number(header: Dataset, keyword: str) -> float | None:
    value = header.get(keyword)
    return None if value in (None, "") else float(value)


def _with_contrast(weighting: str | None, header: Dataset, text: str) -> str | None:
    """T1ce for a T1 after contrast agent, else the weighting itself.

    Words overrule the header, because some scanners keep the agent in it after it was entered once.
    """
    if weighting != "T1" or BEFORE_CONTRAST.search(text):
        return weighting
    has_agent = _normalise(header.get("ContrastBolusAgent")) not in NO_AGENT
    return "T1ce" if has_agent or AFTER_CONTRAST.search(text) else "T1"
