"""Choose the series of a DICOM study for each modality: the one rule that combines the evidence.

docs/explanation/dicom-series.md states it. If the evidence is unclear, the run stops and lists the candidates
with their evidence. Messages quote no header text.

A T1ce needs two kinds of evidence that agree, of words, header, order of the scans and voxels, or the site's own table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...errors import InputError
from ..remarks import Remark
from ..study import Series
from .evidence import ASK, MIN_SLICES, TABLE, Candidate, Evidence, candidates_of, why_no_volume
from .names import Names
from .pairs import Pair, Pairs, same_kind
from .words import UNCLEAR, WITH, WITHOUT

PAIR = ("T1ce", "T1")
DOUBT = "the evidence is doubtful"
ONE_KIND = "one kind of evidence alone shows contrast agent"
NO_AGENT_SEEN = "no series shows contrast agent by words or header"
THIN = 1.5  # mm, largest edge of a voxel of a 3D scan; the consensus protocol for brain tumours asks for 1.5 or less
VOLUME = f"{MIN_SLICES} or more MR images in one orientation"
PARALLEL = 0.9  # least cosine between the normals of slices in one plane
ONE_INJECTION = 3600.0  # s between scans after the same injection; chosen: lesions enhance for about an hour


class SeriesError(InputError):
    """A request for a series that failed, or without `number` a question that one answers; `option` spells requests."""

    def __init__(
        self,
        modality: str,
        number: str,
        reason: str,
        expected: str = "",
        option: Callable[[str], str] = "--series={}".format,
    ) -> None:
        self.modality, self.number, self.reason = modality, number, reason
        request = option(f"{modality}={number or 'NUMBER'}")
        if number:
            super().__init__(request, reason, expected)
        else:
            super().__init__(modality, f"{reason}; select one with {request}")

    def spelled(self, option: Callable[[str], str]) -> "SeriesError":
        """The same error for a command whose option is spelled differently."""
        return SeriesError(self.modality, self.number, self.reason, self.expected, option)


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
    lossy = [f"{modality}: {one.name} was compressed with loss" for modality, one in series.items() if one.is_lossy]
    remarks += [Remark("quality", text) for text in lossy]  # the models were trained without
    reasons = {modality: chosen[modality].reason for modality in modalities}
    if {"T1", "T1ce"} <= chosen.keys():
        native, enhanced = chosen["T1"], chosen["T1ce"]
        if pairs.identical(native, enhanced):
            raise InputError(f"T1ce: {enhanced.series.name} has the voxels of the T1, {native.series.name}")
        pair = pairs(native, enhanced)
        reasons["T1ce"] += f"; {pair.reason}"
        remarks += [Remark("contrast", text) for text in _pair_remarks(pair)]
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
    """Choose the series that the user did not request, from a study by UID. T1 comes last, as it must fit the T1ce."""
    chosen, after = dict(given), []
    taken = {one.series.uid for one in given.values()}
    free = [one for uid, one in study.items() if uid not in taken]
    for modality in [
        *(name for name in modalities if name not in PAIR),
        *(name for name in PAIR if name in modalities),
    ]:
        if modality == "T1":
            after = [chosen["T1ce"]] if "T1ce" in modalities else [one for one in free if one.contrast == WITH]
        if modality not in chosen:
            rest = [one for one in free if one.series.uid not in {later.series.uid for later in after}]
            fitting = next(filter(None, _fitting(modality, rest, after, given.get("T1"), pairs)), [])
            like = chosen.get("T1ce") if modality == "T1" else None
            chosen[modality] = _select(modality, fitting, [*rest, *after], like)
    if "T1" in modalities and not {*PAIR} & {*modalities} <= given.keys():
        _check_evidence(chosen["T1"], after, [pairs(chosen["T1"], one) for one in after], "T1ce" in modalities)
    return chosen


def _fitting(
    modality: str, study: Sequence[Candidate], after: Sequence[Candidate], native: Candidate | None, pairs: Pairs
) -> Iterator[list[Candidate]]:
    """The series that fit a modality, in the order of preference: the first list that is not empty counts.

    A T1 must not be scanned after any series in `after`: the T1ce or, for a model without it, all T1 series clearly
    after agent. `native` is the T1 that the user requested.
    """
    fit = [one for one in study if one.kind == modality[:2] or one.kind == modality]
    if modality not in PAIR:
        for some in ([one for one in fit if one.source != "words and times"], fit):
            yield [one for one in some if one.says != WITH]  # before agent is preferred
            yield some
        return
    fit = [one for one in fit if not one.contradictory]
    natives = [one for one in fit if one.contrast != WITH]
    if modality == "T1ce":
        enhanced = [one for one in fit if one.contrast == WITH]
        earlier = [native] if native else natives
        if len(enhanced) != 1:
            later = enhanced or [one for one in fit if one.contrast != WITHOUT]
            yield [one for one in later if any(pairs(other, one).is_proven for other in earlier if other is not one)]
        yield enhanced
        return
    yield [one for one in natives if one.contrast == WITHOUT]
    early = [one for one in natives if all(pairs(one, later).order >= 0 for later in after)]
    yield [one for one in early if one.contrast is None]
    weak = [one for one in early if one.contrast == UNCLEAR]
    yield [one for one in weak if any(pairs(one, later).is_proven for later in after)]


def _select(
    modality: str, fitting: Sequence[Candidate], study: Sequence[Candidate], like: Candidate | None
) -> Candidate:
    """The series to take of those that fit: the only one that is no reformat, or the best by `_best`.

    Raises an error that lists the series that fit, or else the study's, with their evidence.
    """
    times = [one.acquired for one in fitting if one.acquired is not None]
    several_injections = modality == "T1ce" and times and max(times) - min(times) > ONE_INJECTION
    found = [one for one in fitting if not one.reformat]
    best = None if several_injections else _best(found, like)
    if best or len(found or fitting) == 1:
        return best or (found or fitting)[0]
    if fitting:
        raise _question(modality, f"{len(found or fitting)} series match", found or fitting)
    t1 = [one for one in study if one.kind == "T1"]
    problem = "no series matches among"
    if modality == "T1ce":
        problem = DOUBT if any(one.contrast in (WITH, UNCLEAR) for one in t1) else NO_AGENT_SEEN
    elif modality == "T1" and t1:
        problem = DOUBT
    first = modality in PAIR  # list T1 first
    raise _question(modality, problem, sorted(study, key=lambda one: first and one.kind != "T1"))


def _check_evidence(native: Candidate, after: Sequence[Candidate], found: Sequence[Pair], both: bool) -> None:
    """Check that no pair contradicts the native T1 and the series in `after`, and that weak evidence is proven.

    `both`: the model takes a T1ce, which always needs proof.
    """
    weak_after = any(one.weak for one in after)
    if not any(pair.is_contradicted for pair in found):
        if not (both or native.weak or weak_after) or any(pair.is_proven for pair in found):
            return
        if not (native.weak or weak_after):
            raise _question("T1ce", ONE_KIND, [native, *after], found)
    raise _question("T1ce" if both and weak_after else "T1", DOUBT, [native, *after], found)


def _remark(modality: str, candidate: Candidate) -> str:
    """A remark if the evidence contradicts a requested series; missing evidence gives none."""
    if candidate.modality in (modality, ASK, None) or (modality == "T1ce" and candidate.contrast is None):
        return ""
    return f"{modality}: {candidate.series.name} was requested; the evidence was: {candidate.reason}"


def _pair_remarks(pair: Pair) -> list[str]:
    """Remarks on evidence that contradicts the pair, is weak, or comes from names alone, and without enhancement."""
    native, enhanced = pair.native, pair.enhanced
    if pair.is_contradicted:
        return [f"T1ce: {pair.reason}, unlike a T1ce"]
    remarks = []
    if not enhanced.requested and len(pair.support) < 2:
        remarks.append(f"T1ce: {ONE_KIND}, the {TABLE}")
    elif not enhanced.requested and not pair.is_seen:
        remarks.append(f"T1ce: neither header nor voxels show contrast agent, only {', '.join(pair.support)}")
    elif native.weak or enhanced.weak:
        remarks.append(f"T1 and T1ce: weak evidence, confirmed by {', '.join(pair.support)}")
    if pair.voxels == 0:
        remarks.append(f"T1ce: {enhanced.series.name} shows no enhancement beside {native.series.name}")
    return remarks


def _requested_series(study: Sequence[Series], modality: str, value: str) -> Series:
    found = [series for series in study if value in (str(series.number), series.uid)]
    if len(found) != 1:
        problem = f"{len(found)} series match" if found else "no such series"
        raise SeriesError(modality, value, problem, "the number or UID of one series")
    if unusable := why_no_volume(found[0]):
        raise SeriesError(modality, value, unusable, VOLUME)
    return found[0]


def _as_requested(candidate: Candidate, modality: str) -> Candidate:
    """A candidate that counts as `modality` because the user requested it, whatever its evidence."""
    says = {"T1": WITHOUT, "T1ce": WITH}.get(modality)
    evidence = () if says is None else (Evidence("words", says, True, ""),)
    return replace(candidate, words=None, evidence=evidence, requested=True)


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


def _best(found: Sequence[Candidate], like: Candidate | None) -> Candidate | None:
    """The best of several scans: the only thin 3D scan, or without any 3D the only axial one; else None.

    With `like`, the last scan of the same kind and orientation comes before these, and if none is, the last of several
    that are repeats. They share a frame of reference, and the field of view must contain a brain.
    """
    if len(found) < 2 or len({str(one.series.header.get("FrameOfReferenceUID") or "") for one in found}) > 1:
        return None
    alike = [one for one in found if like and _are_alike(one, like)]
    if like and not alike and all(_are_alike(found[0], one) for one in found):
        alike = [*found]
    last = max((one.acquired for one in alike if one.acquired is not None), default=None)
    alike = alike if len(alike) == 1 else [one for one in alike if last is not None and one.acquired in (None, last)]
    volumes = [one for one in found if one.series.header.get("MRAcquisitionType") == "3D"]
    fitting = [one for one in volumes or found if _is_preferred(one, bool(volumes))]
    if len(alike) == 1:
        best, why = alike[0], "the last such scan before the T1ce"
    elif len(volumes) < 2 and len(fitting) == 1:
        best, why = fitting[0], f"the only {'3D' if volumes else 'axial'} scan among them"
    else:
        return None
    return replace(best, note=f"{len(found)} series fit; {best.series.name} was chosen as {why}")


def _are_alike(one: Candidate, other: Candidate) -> bool:
    """Whether two T1 were scanned alike, both of them around the whole brain and in the same plane."""
    if one.whole is None or other.whole is None or not same_kind(one.series.header, other.series.header):
        return False
    first, second = (grid.affine[:3, 2] / grid.spacing[2] for grid in (one.whole, other.whole))
    return bool(abs(first @ second) > PARALLEL)


def _is_preferred(one: Candidate, thin: bool) -> bool:
    """Whether a series shows a whole brain, in thin voxels or else in axial slices."""
    if one.whole is None:
        return False
    normal = np.abs(one.whole.affine[:3, 2])
    return bool(one.whole.spacing.max() <= THIN if thin else normal.argmax() == 2)


def _question(modality: str, problem: str, candidates: Sequence[Candidate], pairs: Sequence[Pair] = ()) -> InputError:
    """The error that asks for `--series` if that can help; it lists the candidates with their evidence, and pairs."""
    names = "; ".join([f"{one.series.name}: {one.reason}" for one in candidates] + [pair.reason for pair in pairs])
    reason = f"{problem}: {names or 'none'}"
    if not any(one.is_volume for one in candidates):
        return InputError(modality, reason, VOLUME)
    if not any(one.kind in (modality, modality[:2]) or one.is_doubtful for one in candidates):
        return InputError(modality, reason, f"a study with a series of {modality}")
    return SeriesError(modality, "", reason)
