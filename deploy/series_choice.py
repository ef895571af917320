"""Choose the series of a DICOM study for each modality.

README.md states the rules under "How series are chosen". If the evidence is unclear, the run stops and lists the
candidates with their evidence. Messages quote no header text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydicom.uid import MRImageStorage

from common.errors import InputError
from deploy.multiframe import ENHANCED_MR
from deploy.series_evidence import Evidence, acquired_at, read_evidence, values_of
from deploy.series_words import WITH
from deploy.study import Series
from deploy.t1_series import ASK, Candidate, Pairs, as_requested, check_pair, choose_enhanced, choose_native, only

MIN_SLICES = 10  # a localiser or a sample has fewer; the thickest clinical series of a brain have about 20


@dataclass
class Choice:
    """The chosen series by modality, the evidence for each in fixed words, and remarks for readers of the result."""

    series: dict[str, Series]
    reasons: dict[str, str]
    remarks: list[str] = field(default_factory=list)


def choose_series(
    study: Sequence[Series], modalities: Sequence[str], requested: Mapping[str, str], one_frame: bool = True
) -> Choice:
    """Choose one series for each modality, in the order of the model's modalities.

    `requested` maps a modality to the number or UID of a series; rules choose the rest. With `one_frame` the chosen
    series must share a frame of reference, as they must unless they are registered. Raises InputError if the evidence
    is missing or unclear.

    Example:
        >>> choose_series([], ["T1"], {})
        Traceback (most recent call last):
            ...
        common.errors.InputError: T1: no series matches among: none; select one with --series=T1=NUMBER
    """
    named = {modality: _requested_series(study, modality, value).uid for modality, value in requested.items()}
    if len(set(named.values())) < len(named):
        raise InputError("--series: one series is given for two modalities; expected a different one for each")
    candidates = {one.series.uid: one for one in _candidates(study)}
    given = {modality: as_requested(candidates[uid], modality) for modality, uid in named.items()}
    pairs = Pairs()
    chosen = _choose(candidates, modalities, given, pairs)
    series = {modality: chosen[modality].series for modality in modalities}
    if one_frame:
        _check_frame(series)
    remarks = [_remark(modality, candidates[uid]) for modality, uid in named.items()]
    remarks += [f"{modality}: {one.note}" for modality, one in chosen.items() if one.note]
    reasons = {modality: chosen[modality].reason for modality in modalities}
    if {"T1", "T1ce"} <= chosen.keys():
        native, enhanced = chosen["T1"], chosen["T1ce"]
        if pair := pairs.reason(native, enhanced):
            reasons["T1ce"] += f"; {pair}"
        remarks += _pair_remarks(native, enhanced, pairs)
    return Choice(series, reasons, [remark for remark in remarks if remark])


def _check_frame(chosen: Mapping[str, Series]) -> None:
    frames = {instance.header.get("FrameOfReferenceUID") for one in chosen.values() for instance in one.instances}
    if len(frames) > 1 or not all(frames):
        names = ", ".join(f"{modality} {one.name}" for modality, one in chosen.items())
        raise InputError(f"--input: {len(frames)} frames of reference among {names}; expected one that all share")


def _candidates(study: Sequence[Series]) -> list[Candidate]:
    evidence = [_evidence(series) for series in study]
    volumes = [one for series, one in zip(study, evidence, strict=True) if is_volume(series)]
    return [
        Candidate(series, one, tuple(one.points(volumes)) if one.kind == "T1" else ())
        for series, one in zip(study, evidence, strict=True)
    ]


def _evidence(series: Series) -> Evidence:
    if unusable := _why_no_volume(series):
        return Evidence(None, unusable)
    times = [time for instance in series.instances if (time := acquired_at(instance.header)) is not None]
    return read_evidence(series.header, min(times, default=None))


def _choose(
    study: Mapping[str, Candidate], modalities: Sequence[str], given: Mapping[str, Candidate], pairs: Pairs
) -> dict[str, Candidate]:
    """Choose the series that the user did not request, from a study by UID."""
    chosen = dict(given)
    taken = {one.series.uid for one in given.values()}
    free = [one for uid, one in study.items() if uid not in taken]
    for modality in modalities:
        if modality not in chosen and modality not in ("T1", "T1ce"):
            found = [one for one in free if one.evidence.kind == modality]
            native = [one for one in found if one.evidence.contrast != WITH]  # FLAIR before agent is preferred
            chosen[modality] = only(modality, native or found, free)
    if "T1ce" in modalities and "T1ce" not in given:
        chosen["T1ce"] = choose_enhanced(free, given.get("T1"), pairs)
    after = [chosen["T1ce"]] if "T1ce" in modalities else [one for one in free if one.contrast == WITH]
    if "T1" in modalities and "T1" not in given:
        chosen["T1"] = choose_native(free, after, pairs)
    if "T1" in modalities and not {"T1", "T1ce"} & set(modalities) <= given.keys():
        check_pair(chosen["T1"], after, pairs, "T1ce" in modalities)
    return chosen


def _remark(modality: str, candidate: Candidate) -> str:
    """A remark if the evidence contradicts a requested series; missing evidence gives none."""
    if candidate.modality in (modality, ASK, None) or (modality == "T1ce" and candidate.contrast is None):
        return ""
    return f"{modality}: {candidate.series.name} was requested; the evidence was: {candidate.reason}"


def _pair_remarks(native: Candidate, enhanced: Candidate, pairs: Pairs) -> list[str]:
    """Remarks on a T1ce chosen by words alone, on weak evidence that needed proof, and on a doubtful requested pair."""
    remarks = []
    voxels = pairs.voxels(native, enhanced)
    silent = {0: "its voxels are not brighter than those of the T1", None: "voxels could not be compared"}.get(voxels)
    if pairs.contradict(native, enhanced):
        remarks.append(f"T1ce: {pairs.reason(native, enhanced)}, unlike a T1ce")
    elif native.weak or enhanced.weak:
        remarks.append(f"T1 and T1ce: weak evidence, confirmed because {pairs.reason(native, enhanced)}")
    alone = len([point for point in enhanced.points if point.says == WITH]) == 1 and enhanced.evidence.contrast == WITH
    if alone and silent:
        remarks.append(f"T1ce: {enhanced.series.name} was chosen by its words alone; {silent}")
    if not native.points and silent:
        remarks.append(f"T1: nothing says that {native.series.name} is native; for the T1ce, {silent}")
    return remarks


def _requested_series(study: Sequence[Series], modality: str, value: str) -> Series:
    found = [series for series in study if value in (str(series.number), series.uid)]
    if len(found) != 1:
        problem = f"{len(found)} series match" if found else "no such series"
        raise InputError(f"--series={modality}={value}: {problem}; expected the number or UID of one series")
    if unusable := _why_no_volume(found[0]):
        raise InputError(
            f"--series={modality}={value}: {unusable}; expected {MIN_SLICES} or more MR images in one orientation"
        )
    return found[0]


def parse_series_option(text: str | int, modalities: Sequence[str]) -> dict[str, str]:
    """Parse `--series`, such as "T1=5,T1ce=9", into modality -> number or UID, both as text.

    For a model with one modality, the number alone is enough.
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
    """Whether a series can be a volume of a head (`_why_no_volume` lists the conditions)."""
    return not _why_no_volume(series)


def _why_no_volume(series: Series) -> str:
    """The reason why a series cannot be a volume of a head, in fixed words; empty if it can."""
    header = series.header
    if header.get("SOPClassUID") not in (MRImageStorage, *ENHANCED_MR) or header.get("Modality") != "MR":
        return "not MR"
    if any("LOCALI" in str(value).upper() for value in values_of(header, "ImageType")):
        return "a localiser"
    orientations = {
        tuple(round(float(cosine), 2) for cosine in values_of(instance.header, "ImageOrientationPatient"))
        for instance in series.instances
    }
    positions = {tuple(values_of(instance.header, "ImagePositionPatient")) for instance in series.instances}
    if () in orientations | positions:
        return "images without position or orientation"
    if len(orientations) > 1:
        return f"{len(orientations)} orientations"
    return "" if len(positions) >= MIN_SLICES else f"only {len(positions)} positions"
