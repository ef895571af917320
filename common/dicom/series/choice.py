"""Choose a series of a DICOM study for each modality, by the rules in docs/explanation/dicom-series.md.

If the evidence is unclear, an error lists the candidates with their evidence. Messages quote no header text. A T1ce
needs two agreeing kinds of evidence (name, header, scan order, voxels), the site's table of series names, or the
user's request.
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

MODALITIES = ("FLAIR", "T1ce", "T1", "T2")  # that the rules recognise
PAIR = ("T1ce", "T1")
DOUBT = "the evidence is doubtful"
ONE_KIND = "only one kind of evidence shows contrast agent"
NO_AGENT_SEEN = "no series shows contrast agent by its name or header"
THIN = 1.5  # mm, largest voxel edge of a thin 3D scan; the consensus protocol for brain tumours asks for 1.5 or less
VOLUME = f"{MIN_SLICES} or more MR images in one orientation"
PARALLEL = 0.9  # smallest cosine between the slice normals of parallel scans
ONE_INJECTION = 3600.0  # s, longest time between scans after the same injection; lesions enhance for about an hour


class SeriesError(InputError):
    """An invalid request, such as T1=5, for a series; or, if `number` is empty, a question which series to use.

    `option` formats a request as the command's option.
    """

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
        """Return the same error for a command with a different spelling of the option."""
        return SeriesError(self.modality, self.number, self.reason, self.expected, option)


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

    Example:
        >>> choose_series([], ["T1"], {})
        Traceback (most recent call last):
            ...
        common.errors.InputError: T1: no series matches among: none; expected 10 or more MR images in one orientation
    """
    named = {modality: _requested_series(study, modality, value).uid for modality, value in requested.items()}
    if len(set(named.values())) < len(named):
        raise InputError("--series: the same series is given for two modalities; expected a different series for each")
    candidates = {candidate.series.uid: candidate for candidate in candidates_of(study, names)}
    pinned = {modality: _as_requested(candidates[uid], modality) for modality, uid in named.items()}
    pairs = Pairs()
    chosen = _choose(candidates, modalities, pinned, pairs)
    series = {modality: chosen[modality].series for modality in modalities}
    if one_frame:
        _check_frame(series)
    texts = [_remark(modality, candidates[uid]) for modality, uid in named.items()]
    texts += [f"{modality}: {scan.note}" for modality, scan in chosen.items() if scan.note]
    remarks = [Remark("series", text) for text in texts if text]
    lossy = [f"{modality}: {scan.name} was compressed with loss" for modality, scan in series.items() if scan.is_lossy]
    remarks += [Remark("quality", text) for text in lossy]  # the models were trained on lossless images
    reasons = {modality: chosen[modality].reason for modality in modalities}
    if {"T1", "T1ce"} <= chosen.keys():
        native, enhanced = chosen["T1"], chosen["T1ce"]
        if pairs.identical(native, enhanced):
            raise InputError(f"T1ce: {enhanced.series.name} has the same voxels as the T1, {native.series.name}")
        pair = pairs(native, enhanced)
        reasons["T1ce"] += f"; {pair.reason}"
        remarks += [Remark("contrast", text) for text in _pair_remarks(pair)]
    return Choice(series, reasons, remarks)


def _check_frame(chosen: Mapping[str, Series]) -> None:
    frames = {instance.header.get("FrameOfReferenceUID") for series in chosen.values() for instance in series.instances}
    if len(frames) > 1 or not all(frames):
        names = ", ".join(f"{modality} {series.name}" for modality, series in chosen.items())
        problem = f"{len(frames)} frames of reference" if all(frames) else "images without FrameOfReferenceUID"
        raise InputError(f"--input: {problem} among {names}; expected a single shared frame of reference")


def _choose(
    study: Mapping[str, Candidate], modalities: Sequence[str], requested: Mapping[str, Candidate], pairs: Pairs
) -> dict[str, Candidate]:
    """Return the requested series, and choose from `study` (candidates by UID) for the remaining modalities.

    T1 is chosen last, as it must fit the T1ce.
    """
    chosen, after = dict(requested), []
    taken = {scan.series.uid for scan in requested.values()}
    free = [scan for uid, scan in study.items() if uid not in taken]
    for modality in sorted(modalities, key=lambda name: PAIR.index(name) if name in PAIR else -1):
        if modality == "T1":
            after = [chosen["T1ce"]] if "T1ce" in modalities else [scan for scan in free if scan.contrast == WITH]
        if modality not in chosen:
            rest = [scan for scan in free if scan.series.uid not in {later.series.uid for later in after}]
            fitting = next(filter(None, _fitting(modality, rest, after, requested.get("T1"), pairs)), [])
            enhanced = chosen.get("T1ce") if modality == "T1" else None
            chosen[modality] = _select(modality, fitting, [*rest, *after], enhanced)
    if "T1" in modalities and not {*PAIR} & {*modalities} <= requested.keys():
        _check_evidence(chosen["T1"], after, [pairs(chosen["T1"], later) for later in after], "T1ce" in modalities)
    return chosen


def _fitting(
    modality: str, study: Sequence[Candidate], after: Sequence[Candidate], native: Candidate | None, pairs: Pairs
) -> Iterator[list[Candidate]]:
    """Yield lists of series that fit a modality, in order of preference; the caller takes the first non-empty list.

    `after` holds the series that a T1 must precede: the T1ce or, for a model without T1ce, all T1 series that were
    clearly scanned with agent. `native` is the T1 that the user requested, if any.
    """
    fit = [scan for scan in study if scan.kind == modality[:2] or scan.kind == modality]
    if modality not in PAIR:
        for group in ([scan for scan in fit if scan.source != "name and times"], fit):
            yield [scan for scan in group if scan.says != WITH]  # scans without agent are preferred
            yield group
        return
    fit = [scan for scan in fit if not scan.contradictory]
    natives = [scan for scan in fit if scan.contrast != WITH]
    if modality == "T1ce":
        enhanced = [scan for scan in fit if scan.contrast == WITH]
        earlier = [native] if native else natives
        if len(enhanced) != 1:
            later = enhanced or [scan for scan in fit if scan.contrast != WITHOUT]
            yield [scan for scan in later if any(pairs(t1, scan).is_proven for t1 in earlier if t1 is not scan)]
        yield enhanced
        return
    yield [scan for scan in natives if scan.contrast == WITHOUT]
    early = [scan for scan in natives if all(pairs(scan, later).order >= 0 for later in after)]
    yield [scan for scan in early if scan.contrast is None]
    weak = [scan for scan in early if scan.contrast == UNCLEAR]
    yield [scan for scan in weak if any(pairs(scan, later).is_proven for later in after)]


def _select(
    modality: str, fitting: Sequence[Candidate], study: Sequence[Candidate], enhanced: Candidate | None
) -> Candidate:
    """Return the best of the original (not reformatted) series in `fitting`; without originals, the only series.

    Raise an error that lists candidates and evidence if no series is clearly best, or if T1ce series were scanned more
    than `ONE_INJECTION` apart.
    """
    times = [scan.acquired for scan in fitting if scan.acquired is not None]
    several_injections = modality == "T1ce" and times and max(times) - min(times) > ONE_INJECTION
    originals = [scan for scan in fitting if not scan.reformat]
    best = None if several_injections else _best(originals, enhanced)
    matching = originals or fitting
    if best or len(matching) == 1:
        return best or matching[0]
    if fitting:
        raise _question(modality, f"{len(matching)} series match", matching)
    t1 = [scan for scan in study if scan.kind == "T1"]
    problem = "no series matches among"
    if modality == "T1ce":
        problem = DOUBT if any(scan.contrast in (WITH, UNCLEAR) for scan in t1) else NO_AGENT_SEEN
    elif modality == "T1" and t1:
        problem = DOUBT
    first = modality in PAIR  # list T1 first
    raise _question(modality, problem, sorted(study, key=lambda scan: first and scan.kind != "T1"))


def _check_evidence(native: Candidate, after: Sequence[Candidate], pairs: Sequence[Pair], both: bool) -> None:
    """Raise an error if evidence contradicts a pair of `native` and a later series, or if required proof is missing.

    The pair must be proven if the evidence is weak, and always if the model takes a T1ce (`both`).
    """
    weak_after = any(later.weak for later in after)
    if not any(pair.is_contradicted for pair in pairs):
        if not (both or native.weak or weak_after) or any(pair.is_proven for pair in pairs):
            return
        if not (native.weak or weak_after):
            raise _question("T1ce", ONE_KIND, [native, *after], pairs)
    raise _question("T1ce" if both and weak_after else "T1", DOUBT, [native, *after], pairs)


def _remark(modality: str, candidate: Candidate) -> str:
    """Return a remark if the evidence contradicts the modality that the user requested for a series, else ""."""
    if candidate.modality in (modality, ASK, None) or (modality == "T1ce" and candidate.contrast is None):
        return ""
    return f"{modality}: {candidate.series.name} was requested; the evidence was: {candidate.reason}"


def _pair_remarks(pair: Pair) -> list[str]:
    """Return remarks on contradicting or weak evidence, on evidence from names alone, and on missing enhancement."""
    native, enhanced = pair.native, pair.enhanced
    if pair.is_contradicted:
        return [f"T1ce: {pair.reason}, unlike a T1ce"]
    remarks = []
    if not enhanced.requested and len(pair.support) < 2:
        remarks.append(f"T1ce: {ONE_KIND}, the {TABLE}")
    elif not enhanced.requested and not pair.is_seen:
        remarks.append(f"T1ce: neither header nor voxels show contrast agent, only {' and '.join(pair.support)}")
    elif native.weak or enhanced.weak:
        remarks.append(f"T1 and T1ce: weak evidence, confirmed by {', '.join(pair.support)}")
    if pair.voxels == 0:
        remarks.append(f"T1ce: {enhanced.series.name} shows no enhancement beside {native.series.name}")
    return remarks


def _requested_series(study: Sequence[Series], modality: str, value: str) -> Series:
    matching = [series for series in study if value in (str(series.number), series.uid)]
    if len(matching) != 1:
        problem = f"{len(matching)} series match" if matching else "no such series"
        raise SeriesError(modality, value, problem, "the number or UID of one series")
    if unusable := why_no_volume(matching[0]):
        raise SeriesError(modality, value, unusable, VOLUME)
    return matching[0]


def _as_requested(candidate: Candidate, modality: str) -> Candidate:
    """Return a candidate with the user's request for `modality` in place of its evidence."""
    says = {"T1": WITHOUT, "T1ce": WITH}.get(modality)
    evidence = () if says is None else (Evidence("name", says, True, ""),)
    return replace(candidate, words=None, evidence=evidence, requested=True)


def _best(scans: Sequence[Candidate], enhanced: Candidate | None) -> Candidate | None:
    """Return the best of several scans with a shared frame of reference; None if no scan is clearly best.

    The best scan is the only 3D scan, if thin, or, without 3D scans, the only axial scan. With the T1ce as `enhanced`,
    the last T1 that was scanned like the T1ce takes precedence. If no T1 was scanned like the T1ce and all scans are
    repeats, the last repeat takes precedence. The best scan must cover a whole brain.
    """
    if len(scans) < 2 or len({str(scan.series.header.get("FrameOfReferenceUID") or "") for scan in scans}) > 1:
        return None
    alike = [scan for scan in scans if enhanced and _are_alike(scan, enhanced)]
    if enhanced and not alike and all(_are_alike(scans[0], scan) for scan in scans):
        alike = [*scans]
    last = max((scan.acquired for scan in alike if scan.acquired is not None), default=None)
    alike = alike if len(alike) == 1 else [scan for scan in alike if last is not None and scan.acquired in (None, last)]
    volumes = [scan for scan in scans if scan.series.header.get("MRAcquisitionType") == "3D"]
    fitting = [scan for scan in volumes or scans if _is_preferred(scan, bool(volumes))]
    if len(alike) == 1:
        best, why = alike[0], "the last such scan before the T1ce"
    elif len(volumes) < 2 and len(fitting) == 1:
        best, why = fitting[0], f"the only {'3D' if volumes else 'axial'} scan among them"
    else:
        return None
    return replace(best, note=f"{len(scans)} series fit; {best.series.name} was chosen as {why}")


def _are_alike(scan: Candidate, other: Candidate) -> bool:
    """Return whether two T1 scans are of the same kind and plane, and both cover a whole brain."""
    if scan.brain_grid is None or other.brain_grid is None or not same_kind(scan.series.header, other.series.header):
        return False
    first, second = (grid.affine[:3, 2] / grid.spacing[2] for grid in (scan.brain_grid, other.brain_grid))
    return bool(abs(first @ second) > PARALLEL)


def _is_preferred(scan: Candidate, thin: bool) -> bool:
    """Return whether a scan covers a whole brain, in thin voxels if `thin`, otherwise in axial slices."""
    if scan.brain_grid is None:
        return False
    normal = np.abs(scan.brain_grid.affine[:3, 2])
    return bool(scan.brain_grid.spacing.max() <= THIN if thin else normal.argmax() == 2)


def _question(modality: str, problem: str, candidates: Sequence[Candidate], pairs: Sequence[Pair] = ()) -> InputError:
    """Return an error that lists candidates and pairs with their evidence, and asks for `--series` if it can help."""
    names = "; ".join([f"{scan.series.name}: {scan.reason}" for scan in candidates] + [pair.reason for pair in pairs])
    reason = f"{problem}: {names or 'none'}"
    if not any(scan.is_volume for scan in candidates):
        return InputError(modality, reason, VOLUME)
    if not any(scan.kind in (modality, modality[:2]) or scan.is_doubtful for scan in candidates):
        return InputError(modality, reason, f"a study with a series of {modality}")
    return SeriesError(modality, "", reason)
