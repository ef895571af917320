"""Choose a series of a DICOM study for each modality, by the rules in docs/explanation/dicom-series.md.

If the evidence is unclear, an error lists the candidates with their evidence. Messages quote no header text. A T1ce
needs a statement: by its name, its header, the site's table of series names, or the user.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from common.errors import InputError

from ..study import Series
from .evidence import ASK, DOUBTS, MIN_SLICES, TABLE, Candidate, Evidence, candidates_of, is_same_scan, why_no_volume
from .words import POST, UNCLEAR, WITH, WITHOUT, Names

MODALITIES = ("FLAIR", "T1ce", "T1", "T2")  # that the rules recognise
HELD = ("contrast", "coverage")  # a person should look before such a result is used
PAIR = ("T1ce", "T1")
DOUBT = "the evidence is doubtful"
NO_AGENT_STATED = "no series states contrast agent in its name or header"
LATE = "scanned after contrast agent"
THIN = 1.5  # mm, largest voxel edge of a thin 3D scan; the consensus protocol for brain tumours asks for 1.5 or less
VOLUME = f"{MIN_SLICES} or more MR images in one orientation"
ONE_INJECTION = 3600.0  # s, longest time between scans after the same injection; lesions enhance for about an hour


class Remark(NamedTuple):
    """A remark on a result; `result.json` lists those of the kinds in `HELD` as `held`."""

    kind: str  # contrast, coverage, series, precondition, prepared, quality, spacing or cleanup
    text: str


@dataclass
class Choice:
    """For each modality, the chosen series and its evidence in predefined phrases; remarks for readers of results."""

    series: dict[str, Series]
    reasons: dict[str, str]
    remarks: list[Remark] = field(default_factory=list)


def choose_series(
    study: Sequence[Series],
    modalities: Sequence[str],
    requested: Mapping[str, str],
    one_frame: bool = True,
    names: Names = (),
) -> Choice:
    """Choose one series for each modality, in the order of the model's modalities.

    `requested` maps modalities to the number or UID of a series; the rules choose the remaining series. With
    `one_frame`, needed unless registration follows, the chosen series must share a frame of reference. `names` is the
    site's table of series names. Raise InputError for an invalid request, or if evidence is missing or unclear.
    """
    named = {modality: _requested_series(study, modality, value).uid for modality, value in requested.items()}
    if len(set(named.values())) < len(named):
        raise InputError("--series: the same series is given for two modalities; expected a different series for each")
    candidates = {candidate.series.uid: candidate for candidate in candidates_of(study, names)}
    pinned = {modality: _as_requested(candidates[uid], modality) for modality, uid in named.items()}
    chosen = _choose(candidates, modalities, pinned)
    series = {modality: chosen[modality].series for modality in modalities}
    if one_frame:
        _check_frame(series)
    texts = [_remark(modality, candidates[uid]) for modality, uid in named.items()]
    texts += [f"{modality}: {scan.note}" for modality, scan in chosen.items() if scan.note]
    remarks = [Remark("series", text) for text in texts if text]
    for modality, scan in series.items():  # the models were trained on lossless images
        if any(instance.header.get("LossyImageCompression") == "01" for instance in scan.instances):
            remarks.append(Remark("quality", f"{modality}: {scan.name} was compressed with loss"))
    if enhanced := chosen.get("T1ce"):
        remarks += [Remark("contrast", text) for text in _contrast_remarks(enhanced, chosen.get("T1"))]
    return Choice(series, {modality: chosen[modality].reason for modality in modalities}, remarks)


def parse_series_option(text: str, modalities: Sequence[str]) -> dict[str, str]:
    """Parse `--series`, such as "T1=5,T1ce=9"; return the number or UID of each modality's series as text."""
    requested: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        modality, _, value = (word.strip() for word in part.partition("="))
        if not value or modality not in modalities or modality in requested:
            expected = f"MODALITY=NUMBER, at most once for each of {', '.join(modalities)}"
            raise InputError(f"--series={text}: expected {expected}")
        requested[modality] = value
    return requested


def _check_frame(chosen: Mapping[str, Series]) -> None:
    frames = {instance.header.get("FrameOfReferenceUID") for series in chosen.values() for instance in series.instances}
    if len(frames) > 1 or not all(frames):
        names = ", ".join(f"{modality} {series.name}" for modality, series in chosen.items())
        problem = f"{len(frames)} frames of reference" if all(frames) else "images without FrameOfReferenceUID"
        raise InputError(f"--input: {problem} among {names}; expected a single shared frame of reference")


def _choose(
    study: Mapping[str, Candidate], modalities: Sequence[str], requested: Mapping[str, Candidate]
) -> dict[str, Candidate]:
    """Return the requested series, and choose from `study` (candidates by UID) for the remaining modalities.

    T1 is chosen last, as it must fit the T1ce.
    """
    chosen = dict(requested)
    for modality in sorted(modalities, key=lambda name: PAIR.index(name) if name in PAIR else -1):
        if modality not in chosen:
            taken = {scan.series.uid for scan in chosen.values()}
            rest = [scan for uid, scan in study.items() if uid not in taken]
            rest = [scan for scan in rest if not any(is_same_scan(scan, other) for other in chosen.values())]
            after = [chosen["T1ce"]] if modality == "T1" and "T1ce" in chosen else []
            chosen[modality] = _select(modality, _fitting(modality, rest, after), [*rest, *after])
    return chosen


def _fitting(modality: str, study: Sequence[Candidate], after: Sequence[Candidate]) -> list[Candidate]:
    """Return the series that fit a modality best.

    A T1 must not be scanned after the T1ce (`after`) or any other T1 that may have contrast agent.
    """
    t1 = [scan for scan in study if scan.kind == "T1"]
    if modality == "T1ce":
        stated = [scan for scan in t1 if scan.contrast == WITH]
        return [scan for scan in stated if scan.says == WITH] or stated  # an agent may be entered before a native scan
    if modality == "T1":
        enhanced = [*after, *(scan for scan in t1 if scan.may_be_enhanced)]
        natives = [scan for scan in t1 if scan.contrast in (None, WITHOUT)]
        natives = [scan for scan in natives if not any(_is_later(scan, other) for other in enhanced)]
        return [scan for scan in natives if scan.contrast == WITHOUT] or natives
    fit = [scan for scan in study if scan.kind == modality]
    read = [scan for scan in fit if scan.source != "name and times"]
    without = [[scan for scan in group if scan.says not in (WITH, POST)] for group in (read, fit)]
    return without[0] or read or without[1] or fit  # scans without agent are preferred


def _is_later(scan: Candidate, other: Candidate) -> bool:
    return scan.acquired is not None and other.acquired is not None and scan.acquired > other.acquired


def _select(modality: str, fitting: Sequence[Candidate], study: Sequence[Candidate]) -> Candidate:
    """Return the best of the original (not reformatted) series in `fitting`; without originals, the only series.

    Of a scan with and without the scanner's corrections, the corrected series is taken. Raise an error that lists
    candidates and evidence if no series is clearly best, or if T1ce were scanned more than `ONE_INJECTION` apart.
    """
    matching = [scan for scan in fitting if not scan.reformat] or fitting
    corrected = [
        scan
        for scan in matching
        if not any(is_same_scan(scan, other) and other.correction > scan.correction for other in matching)
    ]
    times = [scan.acquired for scan in fitting if scan.acquired is not None]
    several_injections = modality == "T1ce" and times and max(times) - min(times) > ONE_INJECTION
    best = corrected[0] if len(corrected) == 1 else None if several_injections else _best(corrected)
    if best:
        others = ", ".join(scan.series.name for scan in matching if is_same_scan(scan, best))
        note = f"{best.series.name} was taken, the scanner's correction of {others}" if others else ""
        return replace(best, note="; ".join(filter(None, (best.note, note))))
    if fitting:
        raise _question(modality, f"{len(matching)} series match", matching)
    t1 = [scan for scan in study if scan.kind == "T1"]
    problem = "no series matches among"
    if modality == "T1ce":
        problem = DOUBT if any(scan.contrast == UNCLEAR for scan in t1) else NO_AGENT_STATED
    elif modality == "T1" and t1:
        problem = LATE if any(scan.contrast in (None, WITHOUT) for scan in t1) else DOUBT
    first = modality in PAIR  # list T1 first
    raise _question(modality, problem, sorted(study, key=lambda scan: first and scan.kind != "T1"))


def _remark(modality: str, candidate: Candidate) -> str:
    """Return a remark if the evidence contradicts the modality that the user requested for a series, else ""."""
    if candidate.modality in (modality, ASK, None) or (modality == "T1ce" and candidate.contrast is None):
        return ""
    return f"{modality}: {candidate.series.name} was requested; the evidence was: {candidate.reason}"


def _contrast_remarks(enhanced: Candidate, native: Candidate | None) -> list[str]:
    """Return remarks on a T1ce that was scanned before the T1, and on one that its name alone states."""
    if native and _is_later(native, enhanced):
        return [f"T1ce: {enhanced.series.name} was scanned before {native.series.name}, unlike a T1ce"]
    if enhanced.requested or enhanced.source == TABLE or enhanced.agent:
        return []
    return ["T1ce: its name states contrast agent, its header does not"]


def _requested_series(study: Sequence[Series], modality: str, value: str) -> Series:
    matching = [series for series in study if value in (str(series.number), series.uid)]
    if len(matching) != 1:
        problem = f"{len(matching)} series match" if matching else "no such series"
        raise InputError(f"--series={modality}={value}", problem, "the number or UID of one series")
    if unusable := why_no_volume(matching[0]):
        raise InputError(f"--series={modality}={value}", unusable, VOLUME)
    return matching[0]


def _as_requested(candidate: Candidate, modality: str) -> Candidate:
    """Return a candidate with the user's request for `modality` in place of its evidence."""
    says = {"T1": WITHOUT, "T1ce": WITH}.get(modality)
    evidence = () if says is None else (Evidence(says, True, ""),)
    return replace(candidate, words=None, evidence=evidence, requested=True)


def _best(scans: Sequence[Candidate]) -> Candidate | None:
    """Return the best of several scans with a shared frame of reference; None if no scan is clearly best.

    The best scan is the only 3D scan, if thin, or, without 3D scans, the only axial scan. It must cover a whole brain.
    """
    if len(scans) < 2 or len({str(scan.series.header.get("FrameOfReferenceUID") or "") for scan in scans}) > 1:
        return None
    volumes = [scan for scan in scans if scan.series.header.get("MRAcquisitionType") == "3D"]
    fitting = [scan for scan in volumes or scans if _is_preferred(scan, bool(volumes))]
    if len(volumes) > 1 or len(fitting) != 1:
        return None
    why = f"the only {'3D' if volumes else 'axial'} scan among them"
    return replace(fitting[0], note=f"{len(scans)} series fit; {fitting[0].series.name} was chosen as {why}")


def _is_preferred(scan: Candidate, thin: bool) -> bool:
    """Return whether a scan covers a whole brain, in thin voxels if `thin`, otherwise in axial slices."""
    if scan.brain_grid is None:
        return False
    normal = np.abs(scan.brain_grid.affine[:3, 2])
    return bool(scan.brain_grid.spacing.max() <= THIN if thin else normal.argmax() == 2)


def _question(modality: str, problem: str, candidates: Sequence[Candidate]) -> InputError:
    """Return an error that lists candidates with their evidence, and asks for `--series` if it can help."""
    names = "; ".join(f"{scan.series.name}: {scan.reason}" for scan in candidates)
    reason = f"{problem}: {names or 'none'}"
    if not any(scan.is_volume for scan in candidates):
        return InputError(modality, reason, VOLUME)
    if not any(scan.kind in (modality, modality[:2]) or scan.source in DOUBTS for scan in candidates):
        return InputError(modality, reason, f"a study with a series of {modality}")
    return InputError(modality, f"{reason}; select one with --series={modality}=NUMBER")
