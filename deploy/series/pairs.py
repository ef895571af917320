"""The evidence of two T1 series together: the order of their scans, and their voxels."""

import re
from dataclasses import dataclass, field

import numpy as np
from pydicom.dataset import Dataset

from common.errors import InputError
from common.prepare.volumes import Volume, check_grid
from deploy.geometry import read_series
from deploy.series.evidence import Candidate, number_of
from deploy.series.voxels import brighter
from deploy.series.words import UNCLEAR, WITH, WITHOUT
from deploy.study import Series, values_of

ALIKE = 0.3  # relative tolerance of times; chosen: half the least step between kinds (MPRAGE to spin echo)
LEAST_ECHO = 3.0  # ms, least tolerance of echo times; chosen: in and out of phase differ by 1.1 ms at 3 T


@dataclass
class Pairs:
    """The evidence of a possibly native and a possibly enhanced T1 together. Voxels are read only when needed."""

    volumes: dict[str, Volume | None] = field(default_factory=dict)
    results: dict[tuple[str, str], int | None] = field(default_factory=dict)

    def order(self, native: Candidate, enhanced: Candidate) -> int:
        """1 if the native series was scanned first, -1 if it was scanned last, 0 if unknown."""
        first, last = native.acquired, enhanced.acquired
        return 0 if first is None or last is None else (last > first) - (last < first)

    def voxels(self, native: Candidate, enhanced: Candidate) -> int | None:
        """1 if voxels show agent in `enhanced`, -1 if in `native`, 0 if undecided, None if they are not comparable."""
        key = (native.series.uid, enhanced.series.uid)
        if key not in self.results:
            self.results[key] = self._compare(native.series, enhanced.series)
        return self.results[key]

    def _compare(self, native: Series, enhanced: Series) -> int | None:
        if not same_kind(native.header, enhanced.header):
            return None
        before, after = self._volume(native), self._volume(enhanced)
        return None if before is None or after is None else brighter(after, before)

    def identical(self, native: Candidate, enhanced: Candidate) -> bool:
        """Whether both series have the same voxels."""
        before, after = self._volume(native.series), self._volume(enhanced.series)
        return before is not None and after is not None and np.array_equal(before.array, after.array)

    def _volume(self, series: Series) -> Volume | None:
        """The volume of a series; None if it has none, which is reported once the series is chosen."""
        if series.uid not in self.volumes:
            try:
                volume, _ = read_series(series)
                check_grid(volume.grid, series.name)
                self.volumes[series.uid] = volume
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

    def kinds(self, native: Candidate, enhanced: Candidate) -> list[str]:
        """The kinds of evidence that agent was given between the two scans: words, post, header, order and voxels.

        The order counts beside other evidence. It does not if the words of the second are unclear, or if those of the
        first are and no agent appears.
        """
        words = enhanced.says == WITH and native.says in (None, WITHOUT)
        injected = enhanced.header == WITH and native.header != WITH
        appears = injected or (enhanced.agent and not native.agent)
        found = [enhanced.words.kind] if words and enhanced.words else []
        found += ["header"] if appears else []
        clear = enhanced.says != UNCLEAR and (native.says != UNCLEAR or appears)
        if (
            clear
            and self.order(native, enhanced) > 0
            and (words or injected or same_kind(native.series.header, enhanced.series.header))
        ):
            found.append("order")
        if len(found) < 2 and self.voxels(native, enhanced) == 1:
            found.append("voxels")
        return found

    def prove(self, native: Candidate, enhanced: Candidate) -> bool:
        """Whether two kinds of evidence, the site's table or the user confirm the pair, and nothing contradicts it.

        Nothing confirms two series with unclear words.
        """
        unclear = native.says == enhanced.says == UNCLEAR
        if unclear or self.contradict(native, enhanced):
            return False
        kinds = self.kinds(native, enhanced)
        return enhanced.named or (len(kinds) > 1 and {*kinds} != {"post", "order"})


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
        first, second = number_of(one, keyword), number_of(other, keyword)
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
