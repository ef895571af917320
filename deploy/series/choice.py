"""Choose the series of a DICOM study for each modality: the one rule that combines the evidence.

docs/explanation/dicom-series.md states it. If the evidence is unclear, the run stops and lists the candidates
with their evidence. Messages quote no header text.

A T1ce needs two kinds of evidence that agree, of words, header, order of the scans and voxels, or the site's own table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from common.errors import InputError
from deploy.remarks import Remark
from deploy.series.evidence import ASK, MIN_SLICES, TABLE, Candidate, Evidence, candidates_of, whole_grid, why_no_volume
from deploy.series.names import Names
from deploy.series.pairs import Pairs
from deploy.series.words import UNCLEAR, WITH, WITHOUT
from deploy.study import Series

DOUBT = "the evidence is doubtful"
ONE_KIND = "one kind of evidence alone shows contrast agent"
NO_AGENT_SEEN = "no series shows contrast agent by words or header"
THIN = 1.5  # mm, largest edge of a voxel of a 3D scan; the consensus protocol for brain tumours asks for 1.5 or less
VOLUME = f"{MIN_SLICES} or more MR images in one orientation"
ONE_INJECTION = 3600.0  # s between scans after the same injection; chosen: lesions enhance for about an hour


@dataclass
class Choice:
    """The chosen series by modality, the evidence for each in fixed words, and remarks for readers of the result."""

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

    `requested` maps a modality to the number or UID of a series; rules choose the rest. With `one_frame` the chosen
    series must share a frame of reference, as they must unless they are registered. `names` is the site's own table.
    Raises InputError if the evidence is missing or unclear.

    Example:
        >>> choose_series([], ["T1"], {})
        Traceback (most recent call last):
            ...
        common.errors.InputError: T1: no series matches among: none; expected 10 or more MR images in one orientation
    """
    named = {modality: _requested_series(study, modality, value).uid for modality, value in requested.items()}
    if len(set(named.values())) < len(named):
        raise InputError("--series: one series is given for two modalities; expected a different one for each")
    candidates = {one.series.uid: one for one in candidates_of(study, names)}
    given = {modality: _as_requested(candidates[uid], modality) for modality, uid in named.items()}
    pairs = Pairs()
    chosen = _choose(candidates, modalities, given, pairs)
    series = {modality: chosen[modality].series for modality in modalities}
    if one_frame:
        _check_frame(series)
    texts = [_remark(modality, candidates[uid]) for modality, uid in named.items()]
    texts += [f"{modality}: {one.note}" for modality, one in chosen.items() if one.note]
    remarks = [Remark("series", text) for text in texts if text]
    reasons = {modality: chosen[modality].reason for modality in modalities}
    if {"T1", "T1ce"} <= chosen.keys():
        native, enhanced = chosen["T1"], chosen["T1ce"]
        if pairs.identical(native, enhanced):
            raise InputError(f"T1ce: {enhanced.series.name} has the voxels of the T1, {native.series.name}")
        if pair := pairs.reason(native, enhanced):
            reasons["T1ce"] += f"; {pair}"
        remarks += [Remark("contrast", text) for text in _pair_remarks(native, enhanced, pairs)]
    return Choice(series, reasons, remarks)


def _check_frame(chosen: Mapping[str, Series]) -> None:
    frames = {instance.header.get("FrameOfReferenceUID") for one in chosen.values() for instance in one.instances}
    if len(frames) > 1 or not all(frames):
        names = ", ".join(f"{modality} {one.name}" for modality, one in chosen.items())
        what = f"{len(frames)} frames of reference" if all(frames) else "images without FrameOfReferenceUID"
        raise InputError(f"--input: {what} among {names}; expected one that all share")


def _choose(
    study: Mapping[str, Candidate], modalities: Sequence[str], given: Mapping[str, Candidate], pairs: Pairs
) -> dict[str, Candidate]:
    """Choose the series that the user did not request, from a study by UID."""
    chosen = dict(given)
    taken = {one.series.uid for one in given.values()}
    free = [one for uid, one in study.items() if uid not in taken]
    for modality in modalities:
        if modality not in chosen and modality not in ("T1", "T1ce"):
            found = [one for one in free if one.kind == modality]
            native = [one for one in found if one.says != WITH]  # FLAIR before agent is preferred
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
    """Remarks on evidence that contradicts the pair, is weak, or is of one kind, and on a T1ce without enhancement."""
    if pairs.contradict(native, enhanced):
        return [f"T1ce: {pairs.reason(native, enhanced)}, unlike a T1ce"]
    remarks = []
    kinds = pairs.kinds(native, enhanced)
    if not enhanced.requested and len(kinds) < 2:
        remarks.append(f"T1ce: {ONE_KIND}, the {TABLE}")
    elif native.weak or enhanced.weak:
        remarks.append(f"T1 and T1ce: weak evidence, confirmed by {' and '.join(kinds)}")
    if pairs.voxels(native, enhanced) == 0:
        remarks.append(f"T1ce: {enhanced.series.name} shows no enhancement beside {native.series.name}")
    return remarks


def _requested_series(study: Sequence[Series], modality: str, value: str) -> Series:
    found = [series for series in study if value in (str(series.number), series.uid)]
    if len(found) != 1:
        problem = f"{len(found)} series match" if found else "no such series"
        raise InputError(f"--series={modality}={value}: {problem}; expected the number or UID of one series")
    if unusable := why_no_volume(found[0]):
        raise InputError(f"--series={modality}={value}: {unusable}; expected {VOLUME}")
    return found[0]


def _as_requested(candidate: Candidate, modality: str) -> Candidate:
    """A candidate that counts as `modality` because the user requested it, whatever its evidence."""
    says = {"T1": WITHOUT, "T1ce": WITH}.get(modality)
    evidence = () if says is None else (Evidence("words", says, True, ""),)
    return replace(candidate, words=None, unread=False, evidence=evidence, requested=True)


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


def choose_enhanced(study: Sequence[Candidate], native: Candidate | None, pairs: Pairs) -> Candidate:
    """Choose the T1 after contrast agent, or ask if the evidence is unclear.

    `native` is the T1 before agent, if the user requested one.
    """
    t1 = [one for one in study if one.kind == "T1"]
    found = [one for one in t1 if one.contrast == WITH]
    if not found:
        natives = [native] if native else [one for one in t1 if one.contrast != WITH and not one.contradictory]
        weak = [one for one in t1 if one.contrast == UNCLEAR and not one.contradictory]
        found = [one for one in weak if any(pairs.prove(before, one) for before in natives if before is not one)]
    return _preferred(found) or only("T1ce", found, study)


def _preferred(found: Sequence[Candidate]) -> Candidate | None:
    """The only thin 3D scan among series after one injection, or without any 3D the only axial one; None otherwise.

    Words and header of each series must state contrast agent, so that only the geometry is left to choose by. The
    field of view must contain a brain.
    """
    found = [one for one in found if not one.reformat]
    certain = all(one.says == WITH and one.agent and not one.weak for one in found)
    frames = {str(one.series.header.get("FrameOfReferenceUID") or "") for one in found}
    times = [one.acquired for one in found if one.acquired is not None]
    if len(found) < 2 or not certain or len(frames) > 1 or (times and max(times) - min(times) > ONE_INJECTION):
        return None
    volumes = [one for one in found if one.series.header.get("MRAcquisitionType") == "3D"]
    fitting = [one for one in volumes or found if _is_preferred(one.series, bool(volumes))]
    if len(volumes) > 1 or len(fitting) != 1:
        return None
    best, kind = fitting[0], "3D" if volumes else "axial"
    note = f"{len(found)} series show contrast agent; {best.series.name} was chosen as the only {kind} scan among them"
    return replace(best, note=note)


def _is_preferred(series: Series, thin: bool) -> bool:
    """Whether a series shows a whole brain, in thin voxels or else in axial slices."""
    grid = whole_grid(series)
    if grid is None:
        return False
    normal = np.abs(grid.affine[:3, 2])
    return bool(grid.spacing.max() <= THIN if thin else normal.argmax() == 2)


def choose_native(study: Sequence[Candidate], after: Sequence[Candidate], pairs: Pairs) -> Candidate:
    """Choose the T1 before contrast agent: a series that states it, else one without evidence, else a proven one.

    `after` holds the T1ce or, for a model without T1ce, all T1 series clearly after agent.

    Example:
        >>> def t1(uid, says):
        ...     return Candidate(Series(uid, ()), "T1", "words", evidence=(Evidence("words", says, True, ""),))
        >>> native, enhanced = t1("1.1", "without"), t1("1.2", "with")
        >>> choose_native([native, enhanced], [enhanced], Pairs()).series.uid
        '1.1'
    """
    taken = {one.series.uid for one in after}
    t1 = [one for one in study if one.kind == "T1" and one.series.uid not in taken]
    possible = [one for one in t1 if one.contrast != WITH and not one.contradictory]
    says = [one for one in possible if one.contrast == WITHOUT]
    early = [one for one in possible if all(pairs.order(one, later) >= 0 for later in after)]
    silent = [one for one in early if one.contrast is None]
    weak = [one for one in early if one.contrast == UNCLEAR]
    proven = [] if says or silent else [one for one in weak if any(pairs.prove(one, later) for later in after)]
    others = [one for one in study if one.series.uid not in taken]
    return only("T1", says or silent or proven, [*others, *after])


def check_pair(native: Candidate, after: Sequence[Candidate], pairs: Pairs, both: bool) -> None:
    """Check that nothing contradicts the chosen native T1 and the series in `after`, and that weak evidence is proven.

    `both` states whether the model takes a T1ce, which always needs proof. Raises InputError on doubtful evidence.
    """
    weak = native.weak or any(one.weak for one in after)
    if any(pairs.contradict(native, one) for one in after):
        problem = DOUBT
    elif (both or weak) and not any(pairs.prove(native, one) for one in after):
        problem = DOUBT if weak else ONE_KIND
    else:
        return
    raise question(
        "T1ce" if both and (problem == ONE_KIND or any(one.weak for one in after)) else "T1",
        problem,
        [native, *after],
        pairs,
    )


def only(modality: str, found: Sequence[Candidate], study: Sequence[Candidate]) -> Candidate:
    """The only series found for a modality, not counting reformats.

    Otherwise raises an error that lists the series found, or all of them, with their evidence.
    """
    found = [one for one in found if not one.reformat] or found
    if len(found) == 1:
        return found[0]
    if found:
        raise question(modality, f"{len(found)} series match", found)
    t1 = [one for one in study if one.kind == "T1"]
    problem = "no series matches among"
    if modality == "T1ce":
        problem = DOUBT if any(one.contrast in (WITH, UNCLEAR) for one in t1) else NO_AGENT_SEEN
    elif modality == "T1" and t1:
        problem = DOUBT
    first = modality.startswith("T1")  # list T1 first
    raise question(modality, problem, sorted(study, key=lambda one: first and one.kind != "T1"))


def question(modality: str, problem: str, candidates: Sequence[Candidate], pairs: Pairs | None = None) -> InputError:
    """The error that asks for `--series` if that can help; it lists the candidates with their evidence.

    The first candidate of a pair is the native T1.
    """
    names = "; ".join(f"{one.series.name}: {one.reason}" for one in candidates) or "none"
    if pairs:
        names += "".join(f"; {text}" for one in candidates[1:] if (text := pairs.reason(candidates[0], one)))
    advice = f"select one with --series={modality}=NUMBER"
    if all(why_no_volume(one.series) for one in candidates):
        advice = f"expected {VOLUME}"
    return InputError(f"{modality}: {problem}: {names}; {advice}")
