"""Tell T1 before contrast agent from T1 after it, by weighing the evidence of all T1 series of a study.

One clear point (words, or the time of the injection) chooses a series unless another point speaks against it. Weak
points (unclear words, an agent in the header, which scanners keep once it was entered) need proof from the pair of
series: the order in which they were scanned, or their voxels.
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
WHOLE = 120.0  # mm, least edge of a field of view that holds a brain, whose height is about 120 mm
ONE_INJECTION = 3600.0  # s between scans after one injection; chosen: an agent enhances lesions for about an hour
ASK = "ask"  # in place of a modality: the evidence on contrast agent is weak or contradictory


@dataclass(frozen=True)
class Candidate:
    """A series, the evidence in its header and, for a T1, the points on contrast agent."""

    series: Series
    evidence: Evidence
    points: tuple[Point, ...] = ()
    requested: bool = False
    note: str = ""  # for the readers of the result

    @property
    def contrast(self) -> str | None:
        """With or without agent; "unclear" if clear points disagree or only weak ones suggest it; None if none does."""
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
        """Whether no point is clear, or one speaks against the clear ones, so that the pair has to prove it."""
        against = {WITH: WITHOUT, WITHOUT: WITH}.get(str(self.contrast))
        return self.contrast == UNCLEAR or any(point.says == against for point in self.points)

    @property
    def modality(self) -> str | None:
        """T1, T1ce, T2 or FLAIR; "ask" for a T1 with weak points only; None for another series."""
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
    """The candidate of a series that the user has requested: their word is the only evidence."""
    says = {"T1": (Point(WITHOUT, True, ""),), "T1ce": (Point(WITH, True, ""),)}
    evidence = replace(candidate.evidence, contrast=None)
    return replace(candidate, evidence=evidence, points=says.get(modality, ()), requested=True)


@dataclass
class Pairs:
    """Compares a T1 that may be native with one that may be enhanced. Voxels are read when they are asked for."""

    volumes: dict[str, Volume | None] = field(default_factory=dict)
    results: dict[tuple[str, str], int | None] = field(default_factory=dict)

    def order(self, native: Candidate, enhanced: Candidate) -> int:
        """1 if the native one was scanned first, -1 if it was scanned last, 0 if unknown."""
        first, last = native.evidence.acquired, enhanced.evidence.acquired
        return 0 if first is None or last is None else (last > first) - (last < first)

    def voxels(self, native: Candidate, enhanced: Candidate) -> int | None:
        """Which of the two was scanned after contrast agent, by their voxels.

        Returns:
            1: the enhanced one; -1: the native one; 0: they do not say; None: they cannot be compared.
        """
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
        """The voxels of a series; None if they form no volume, which is reported once the series is chosen."""
        if series.uid not in self.volumes:
            try:
                self.volumes[series.uid], _ = read_series(series)
            except InputError:
                self.volumes[series.uid] = None
        return self.volumes[series.uid]

    def reason(self, native: Candidate, enhanced: Candidate) -> str:
        """What the order and the voxels say of a pair, in fixed words; empty if nothing."""
        order = {1: "after", -1: "before"}.get(self.order(native, enhanced))
        voxels = {1: "brighter", -1: "darker"}.get(self.voxels(native, enhanced) or 0)
        texts = [f"was scanned {order} {native.series.name}"] if order else []
        texts += [f"is {voxels} by its voxels than {native.series.name}"] if voxels else []
        return f"{enhanced.series.name} {' and '.join(texts)}" if texts else ""

    def contradict(self, native: Candidate, enhanced: Candidate) -> bool:
        """Whether the order or the voxels say that the pair is the other way round."""
        return self.order(native, enhanced) < 0 or self.voxels(native, enhanced) == -1

    def prove(self, native: Candidate, enhanced: Candidate) -> bool:
        """Whether the order or the voxels confirm the pair.

        Nothing is proof if the words of both are unclear. The order is no proof for unclear words, and for a series
        without any clear point only if the agent appears in the header between two scans of the same kind.
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
    """Choose the T1 after contrast agent.

    Args:
        study: the series that may be chosen.
        native: the T1 that the user has requested, if any.
        pairs: compares them.

    Raises:
        InputError: no series or several match, or the evidence is doubtful.
    """
    t1 = [one for one in study if one.evidence.kind == "T1"]
    found = [one for one in t1 if one.contrast == WITH]
    if not found:
        natives = [native] if native else [one for one in t1 if one.contrast != WITH and not one.contradictory]
        weak = [one for one in t1 if one.contrast == UNCLEAR and not one.contradictory]
        found = [one for one in weak if any(pairs.prove(before, one) for before in natives if before is not one)]
    return _thin_slices(found) or only("T1ce", found, study)


def _thin_slices(found: Sequence[Candidate]) -> Candidate | None:
    """The one 3D scan of the whole head among several series after one injection; None if there is no such choice.

    Words and header of every series have to say that it is after contrast agent, so that only the geometry is chosen.
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
    """Whether a series has thin slices and a field of view that holds a brain."""
    try:
        grid, _ = grid_of([instance.header for instance in series.instances], series.name)
    except InputError:
        return False
    return bool(grid.spacing.max() <= THIN and (grid.spacing * grid.shape).min() >= WHOLE)


def choose_native(study: Sequence[Candidate], after: Sequence[Candidate], pairs: Pairs) -> Candidate:
    """Choose the T1 before contrast agent: one that says so, else one that says nothing, else one that is proven.

    Args:
        study: the series that may be chosen.
        after: the T1ce; for a model that takes none, all T1 series that are clearly after contrast agent.
        pairs: compares them.

    Raises:
        InputError: no series or several match, or the evidence is doubtful.

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
    """Check that nothing contradicts a native T1 and those after contrast agent, and that weak evidence is proven.

    Args:
        native: the chosen T1.
        after: the T1ce; for a model that takes none, all T1 series that are clearly after contrast agent.
        pairs: compares them.
        both: whether the model takes a T1ce.

    Raises:
        InputError: the evidence is doubtful.

    Example:
        >>> native, enhanced = (Candidate(Series(uid, ()), Evidence("T1", "words")) for uid in ("1.1", "1.2"))
        >>> brighter_after = Pairs(results={("1.1", "1.2"): 1})
        >>> check_pair(native, [enhanced], brighter_after, both=True)
    """
    modality = "T1ce" if both and any(one.weak for one in after) else "T1"
    proven = any(pairs.prove(native, one) for one in after)
    weak = native.weak or any(one.weak for one in after)
    if any(pairs.contradict(native, one) for one in after) or (weak and not proven):
        raise question(modality, DOUBT, [native, *after], pairs)


def only(modality: str, found: Sequence[Candidate], study: Sequence[Candidate]) -> Candidate:
    """The only series found for a modality; reformats of another one do not count.

    Raises:
        InputError: none or several; the message lists those that were found, or all, each with its evidence.
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
    """The error that asks for `--series`; it lists series by number, with the evidence for each.

    Args:
        modality: for which a series is missing.
        problem: why none was chosen.
        candidates: to list; the first of a pair is the native one.
        pairs: compares the first candidate with the others, if it did.
    """
    names = "; ".join(f"{one.series.name}: {one.reason}" for one in candidates) or "none"
    if pairs:
        names += "".join(f"; {text}" for one in candidates[1:] if (text := pairs.reason(candidates[0], one)))
    return InputError(f"{modality}: {problem}: {names}; select one with --series={modality}=NUMBER")
