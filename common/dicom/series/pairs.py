"""Compare two T1 series, by scan order and voxels, to find which of them was scanned with contrast agent."""

import re
from collections.abc import Callable
from functools import cached_property

import numpy as np
from pydicom.dataset import Dataset

from ...errors import InputError
from ...prepare.volumes import Volume, check_grid
from ..geometry import read_series
from ..study import Series, values_of
from .evidence import Candidate, number_of
from .voxels import brighter
from .words import UNCLEAR, WITH, WITHOUT

ALIKE = 0.3  # relative tolerance of times: half the smallest difference between sequences (MPRAGE, spin echo)
LEAST_ECHO = 3.0  # ms, smallest tolerance of echo times; in phase and out of phase differ by 1.1 ms at 3 T


class Pair:
    """Evidence that contrast agent was given between two T1 scans; `compare` returns the value of `voxels`."""

    def __init__(self, native: Candidate, enhanced: Candidate, compare: Callable[[Series, Series], int | None]) -> None:
        self.native, self.enhanced, self._compare = native, enhanced, compare

    @cached_property
    def order(self) -> int:
        """Scan order: 1 if the native series was scanned first, -1 if last, 0 if unknown."""
        first, last = self.native.acquired, self.enhanced.acquired
        return 0 if first is None or last is None else (last > first) - (last < first)

    @cached_property
    def voxels(self) -> int | None:
        """Agent by voxels: 1 in the enhanced series, -1 in the native series, 0 in neither, None if not comparable."""
        alike = same_kind(self.native.series.header, self.enhanced.series.header)
        return self._compare(self.native.series, self.enhanced.series) if alike else None

    @property
    def is_contradicted(self) -> bool:
        """Whether scan order or voxels show that the series are swapped."""
        return self.order < 0 or self.voxels == -1

    @cached_property
    def support(self) -> list[str]:
        """The kinds of evidence for agent in `enhanced`: name, post (the word "post"), header, order and voxels.

        Order alone proves little, so it counts only with a word or an injection, or between scans of the same kind.
        """
        native, enhanced = self.native, self.enhanced
        words = enhanced.words if enhanced.says == WITH and native.says != WITH else None
        injected = enhanced.header == WITH and native.header != WITH
        kinds = [words.kind] if words else []
        kinds += ["header"] if injected or (enhanced.agent and not native.agent) else []
        alike = same_kind(native.series.header, enhanced.series.header)
        kinds += ["order"] if self.order > 0 and (words or enhanced.hint or injected or alike) else []
        return kinds + (["voxels"] if self.voxels == 1 else [])

    @property
    def is_seen(self) -> bool:
        """Whether header or voxels, not only names, show the contrast agent."""
        return bool({"header", "voxels"} & {*self.support})

    @property
    def is_proven(self) -> bool:
        """Whether two kinds of evidence, the site's table or the user confirm the pair, and nothing contradicts it.

        "post" and scan order count as a single kind. A series with an unclear name must cover a brain, and header or
        voxels must show the agent unless the table or the user names the enhanced series. If both names are unclear,
        the injection must lie between the scans, or header and voxels must agree. An enhanced series with an unclear
        name is refuted if comparable voxels show no agent.
        """
        if self.is_contradicted:
            return False
        kinds = {*self.support} - ({"order"} if "post" in self.support else set())
        unclear = [scan for scan in (self.native, self.enhanced) if scan.says == UNCLEAR]
        if unclear and not all(scan.brain_grid for scan in unclear):
            return False
        if len(unclear) == 2:
            between = self.native.header == WITHOUT and self.enhanced.header == WITH
            return between or {"header", "voxels"} <= kinds
        if self.enhanced.named:
            return True
        if self.enhanced in unclear and self.voxels == 0:
            return False
        return len(kinds) > 1 and (not unclear or self.is_seen)

    @property
    def reason(self) -> str:
        """The evidence from scan order and voxels, in predefined phrases (no free text from headers)."""
        native, enhanced = self.native.series.name, self.enhanced.series.name
        order = {1: f"was scanned after {native}", -1: f"was scanned before {native}"}.get(self.order)
        brightness = {1: f"is brighter by its voxels than {native}", -1: f"is darker by its voxels than {native}"}
        brightness |= {0: f"shows no enhancement beside {native}"}
        voxels = "cannot be compared by its voxels" if self.voxels is None else brightness[self.voxels]
        return f"{enhanced} {' and '.join(filter(None, (order, voxels)))}"


class Pairs:
    """Pairs of T1 series of a study; the voxels of a series are read once, and only when needed."""

    def __init__(self) -> None:
        self._results: dict[tuple[str, str], int | None] = {}
        self._volumes: dict[str, Volume | None] = {}

    def __call__(self, native: Candidate, enhanced: Candidate) -> Pair:
        """Return the `Pair` of a series without and a series with contrast agent."""
        return Pair(native, enhanced, self._compare)

    def identical(self, native: Candidate, enhanced: Candidate) -> bool:
        """Return whether both series have the same voxels; False if either is not a valid volume."""
        before, after = self._volume(native.series), self._volume(enhanced.series)
        return before is not None and after is not None and np.array_equal(before.array, after.array)

    def _compare(self, native: Series, enhanced: Series) -> int | None:
        """Return the value of `Pair.voxels`; None if a volume is invalid. Compare two series once, in either order."""
        first, second = sorted((native, enhanced), key=lambda series: series.uid)
        if (first.uid, second.uid) not in self._results:
            before, after = self._volume(first), self._volume(second)
            self._results[first.uid, second.uid] = brighter(after, before) if before and after else None
        result = self._results[first.uid, second.uid]
        return result if result is None or first is native else -result

    def _volume(self, series: Series) -> Volume | None:
        """Return the volume of a series; None if invalid (the error is raised again if the series is chosen)."""
        if series.uid not in self._volumes:
            try:
                volume, _ = read_series(series)
                check_grid(volume.grid, series.name)
                self._volumes[series.uid] = volume
            except InputError:
                self._volumes[series.uid] = None
        return self._volumes[series.uid]


def same_kind(header: Dataset, other: Dataset) -> bool:
    """Return whether two T1 series were scanned alike. A missing echo or repetition time counts as different.

    Example:
        >>> spin_echo, mprage = Dataset(), Dataset()
        >>> spin_echo.EchoTime, spin_echo.RepetitionTime = 9, 500
        >>> mprage.EchoTime, mprage.RepetitionTime, mprage.InversionTime = 3, 2300, 900
        >>> same_kind(spin_echo, spin_echo), same_kind(spin_echo, mprage)
        (True, False)
    """
    for keyword, least in (("EchoTime", LEAST_ECHO), ("RepetitionTime", 0.0), ("InversionTime", 0.0)):
        first, second = number_of(header, keyword), number_of(other, keyword)
        if first is None or second is None:
            if keyword == "InversionTime" and first is second:
                continue  # neither has an inversion pulse
            return False
        if abs(first - second) > max(ALIKE * max(first, second), least):
            return False
    alike = all(
        set(values_of(header, keyword)) == set(values_of(other, keyword))
        for keyword in ("ScanningSequence", "MRAcquisitionType")
    )
    return alike and _fat_suppressed(header) == _fat_suppressed(other)


def _fat_suppressed(header: Dataset) -> bool:
    text = f"{header.get('SeriesDescription') or ''} {header.get('ProtocolName') or ''}".lower()
    options = " ".join(map(str, values_of(header, "ScanOptions"))).upper()
    return bool(re.search(r"(?<![a-z])(?:fs|fat|sf|spir|spair|water|chess)|fatsat|thrive", text)) or "FS" in options
