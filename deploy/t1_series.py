"""Distinguish T1 before and after contrast agent by the evidence of all T1 series of a study.

One clear point (words or injection time) decides unless another point contradicts it. Weak points (unclear words, or an
agent that the scanner keeps in the header) need proof from the pair: scan order or voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from common.errors import InputError
from common.prepare.volumes import Volume
from deploy.enhancement import brighter
from deploy.geometry import grid_of, read_series
from deploy.series_evidence import Evidence, Point, same_kind
from deploy.series_words import UNCLEAR, WITH, WITHOUT
from deploy.study import Series

DOUBT = "the evidence is doubtful"
NO_AGENT_SEEN = "no series shows contrast agent by words or header"
THIN = 1.5  # mm, largest edge of a voxel of a 3D scan; the consensus protocol for brain tumours asks for 1.5 or less
WHOLE = 120.0  # mm, least edge of a field of view that contains a brain (about 120 mm high)
ONE_INJECTION = 3600.0  # s between scans after the same injection; chosen: lesions enhance for about an hour
ASK = "ask"  # instead of a modality if the evidence on agent is weak or contradictory


@dataclass(frozen=True)
class Candidate:
    """A series with the evidence in its header and, for a T1, points on contrast agent."""

    series: Series
    evidence: Evidence
    points: tuple[Point, ...] = ()
    requested: bool = False
    note: str = ""  # for readers of the result

    @property
    def contrast(self) -> str | None:
        """With or without agent; "unclear" if clear points disagree or only weak points exist; None without points."""
        clear = {point.says for point in self.points if point.clear}
        if len(clear) == 1:
            return clear.pop()
        return UNCLEAR if any(point.says != WITHOUT for point in self.points) else None

    @property
    def contradictory(self) -> bool:
        """Whether clear points disagree."""
        return len({point.says for point in self.points if point.clear}) > 1

    @property
    def weak(self) -> bool:
        """Whether the pair must prove the evidence: no point is clear, or one contradicts the clear ones."""
        against = {WITH: WITHOUT, WITHOUT: WITH}.get(str(self.contrast))
        return self.contrast == UNCLEAR or any(point.says == against for point in self.points)

    @property
    def modality(self) -> str | None:
        """T1, T1ce, T2 or FLAIR; "ask" for a T1 with only weak points; None for all else."""
        if self.evidence.kind != "T1":
            return self.evidence.kind
        return {WITH: "T1ce", UNCLEAR: ASK}.get(str(self.contrast), "T1")

    @property
    def reason(self) -> str:
        """The evidence in fixed words."""
        if self.requested:
            return "requested by --series"
        if self.evidence.kind is None:
            return self.evidence.source
        return ", ".join([f"{self.evidence.kind} by its {self.evidence.source}", *(one.text for one in self.points)])


def as_requested(candidate: Candidate, modality: str) -> Candidate:
    """A candidate that counts as `modality` because the user requested it, whatever its evidence."""
    says = {"T1": (Point(WITHOUT, True, ""),), "T1ce": (Point(WITH, True, ""),)}
    evidence = replace(candidate.evidence, contrast=None)
    return replace(candidate, evidence=evidence, points=says.get(modality, ()), requested=True)


@dataclass
class Pairs:
    """Compare a possibly native T1 with a possibly enhanced T1. Voxels are read only when needed."""

    volumes: dict[str, Volume | None] = field(default_factory=dict)
    results: dict[tuple[str, str], int | None] = field(default_factory=dict)

    def order(self, native: Candidate, enhanced: Candidate) -> int:
        """1 if the native series was scanned first, -1 if it was scanned last, 0 if unknown."""
        first, last = native.evidence.acquired, enhanced.evidence.acquired
        return 0 if first is None or last is None else (last > first) - (last < first)

    def voxels(self, native: Candidate, enhanced: Candidate) -> int | None:
        """1 if voxels show agent in `enhanced`, -1 if in `native`, 0 if undecided, None if they are not comparable."""
        key = (native.series.uid, enhanced.series.uid)
        if key not in self.results:
            self.results[key] = self._compare(native.series, enhanced.series)
        return self.results[key]

    def _compare(self, native: Series, enhanced: Series) -> int | None:
        frames = {str(one.header.get("FrameOfReferenceUID") or "") for one in (native, enhanced)}
        if len(frames) > 1 or "" in frames or not same_kind(native.header, enhanced.header):
            return None
        before, after = self._volume(native), self._volume(enhanced)
        return None if before is None or after is None else brighter(after, before)

    def _volume(self, series: Series) -> Volume | None:
        """The volume of a series; None if it has none, which is reported once the series is chosen."""
        if series.uid not in self.volumes:
            try:
                self.volumes[series.uid], _ = read_series(series)
            except InputError:
                self.volumes[series.uid] = None
        return self.volumes[series.uid]

    def reason(self, native: Candidate, enhanced: Candidate) -> str:
        """The evidence from order and voxels in fixed words; may be empty."""
        order = {1: "after", -1: "before"}.get(self.order(native, enhanced))
        voxels = {1: "brighter", -1: "darker"}.get(self.voxels(native, enhanced) or 0)
        texts = [f"was scanned {order} {native.series.name}"] if order else []
        texts += [f"is {voxels} by its voxels than {native.series.name}"] if voxels else []
        return f"{enhanced.series.name} {' and '.join(texts)}" if texts else ""

    def contradict(self, native: Candidate, enhanced: Candidate) -> bool:
        """Whether order or voxels show that the pair is swapped."""
        return self.order(native, enhanced) < 0 or self.voxels(native, enhanced) == -1

    def prove(self, native: Candidate, enhanced: Candidate) -> bool:
        """Whether order or voxels confirm the pair; never if the words of both are unclear.

        Order proves nothing if the words of either are unclear. Without a clear point it counts only if the agent first
        appears between two scans of the same kind.
        """
        unclear = [one for one in (native, enhanced) if one.evidence.contrast == UNCLEAR]
        if len(unclear) == 2 or self.contradict(native, enhanced):
            return False
        if self.voxels(native, enhanced) == 1:
            return True
        if self.order(native, enhanced) == 0 or unclear:
            return False
        appears = enhanced.evidence.agent and not native.evidence.agent
        return enhanced.contrast == WITH or (appears and same_kind(native.series.header, enhanced.series.header))


def choose_enhanced(study: Sequence[Candidate], native: Candidate | None, pairs: Pairs) -> Candidate:
    """Choose the T1 after contrast agent, or ask if the evidence is unclear.

    `native` is the T1 before agent, if the user requested one.
    """
    t1 = [one for one in study if one.evidence.kind == "T1"]
    found = [one for one in t1 if one.contrast == WITH]
    if not found:
        natives = [native] if native else [one for one in t1 if one.contrast != WITH and not one.contradictory]
        weak = [one for one in t1 if one.contrast == UNCLEAR and not one.contradictory]
        found = [one for one in weak if any(pairs.prove(before, one) for before in natives if before is not one)]
    return _thin_slices(found) or only("T1ce", found, study)


def _thin_slices(found: Sequence[Candidate]) -> Candidate | None:
    """The only 3D whole-head scan among series after one injection; None if there is no unique one.

    Words and header of each series must state contrast agent, so that only the geometry is left to choose by.
    """
    found = [one for one in found if not one.evidence.reformat]
    certain = all(one.evidence.contrast == WITH and one.evidence.agent and not one.weak for one in found)
    frames = {str(one.series.header.get("FrameOfReferenceUID") or "") for one in found}
    times = [one.evidence.acquired for one in found if one.evidence.acquired is not None]
    if len(found) < 2 or not certain or len(frames) > 1 or (times and max(times) - min(times) > ONE_INJECTION):
        return None
    volumes = [one for one in found if one.series.header.get("MRAcquisitionType") == "3D"]
    if len(volumes) != 1 or not _is_thin_and_whole(volumes[0].series):
        return None
    note = (
        f"{len(found)} series show contrast agent; {volumes[0].series.name} was chosen as the only 3D scan among them"
    )
    return replace(volumes[0], note=note)


def _is_thin_and_whole(series: Series) -> bool:
    """Whether a series has thin slices and a field of view that contains a brain."""
    try:
        grid, _ = grid_of([instance.header for instance in series.instances], series.name)
    except InputError:
        return False
    return bool(grid.spacing.max() <= THIN and (grid.spacing * grid.shape).min() >= WHOLE)


def choose_native(study: Sequence[Candidate], after: Sequence[Candidate], pairs: Pairs) -> Candidate:
    """Choose the T1 before contrast agent: a series that states it, else one without evidence, else a proven one.

    `after` holds the T1ce or, for a model without T1ce, all T1 series clearly after agent.

    Example:
        >>> def t1(uid, says):
        ...     return Candidate(Series(uid, ()), Evidence("T1", "words", says), (Point(says, True, ""),))
        >>> native, enhanced = t1("1.1", "without"), t1("1.2", "with")
        >>> choose_native([native, enhanced], [enhanced], Pairs()).series.uid
        '1.1'
    """
    taken = {one.series.uid for one in after}
    t1 = [one for one in study if one.evidence.kind == "T1" and one.series.uid not in taken]
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

    `both` states whether the model takes a T1ce. Raises InputError if the evidence is doubtful.
    """
    modality = "T1ce" if both and any(one.weak for one in after) else "T1"
    proven = any(pairs.prove(native, one) for one in after)
    weak = native.weak or any(one.weak for one in after)
    if any(pairs.contradict(native, one) for one in after) or (weak and not proven):
        raise question(modality, DOUBT, [native, *after], pairs)


def only(modality: str, found: Sequence[Candidate], study: Sequence[Candidate]) -> Candidate:
    """The only series found for a modality, not counting reformats.

    Otherwise raises an error that lists the series found, or all of them, with their evidence.
    """
    found = [one for one in found if not one.evidence.reformat] or found
    if len(found) == 1:
        return found[0]
    if found:
        raise question(modality, f"{len(found)} series match", found)
    t1 = [one for one in study if one.evidence.kind == "T1"]
    problem = "no series matches among"
    if modality == "T1ce":
        problem = DOUBT if any(one.contrast in (WITH, UNCLEAR) for one in t1) else NO_AGENT_SEEN
    elif modality == "T1" and t1:
        problem = DOUBT
    first = modality.startswith("T1")  # list T1 first
    raise question(modality, problem, sorted(study, key=lambda one: first and one.evidence.kind != "T1"))


def question(modality: str, problem: str, candidates: Sequence[Candidate], pairs: Pairs | None = None) -> InputError:
    """The error that asks for `--series`; it lists the candidates with their evidence.

    The first candidate of a pair is the native T1.
    """
    names = "; ".join(f"{one.series.name}: {one.reason}" for one in candidates) or "none"
    if pairs:
        names += "".join(f"; {text}" for one in candidates[1:] if (text := pairs.reason(candidates[0], one)))
    return InputError(f"{modality}: {problem}: {names}; select one with --series={modality}=NUMBER")
