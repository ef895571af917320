"""The charts of an evaluation's page and their statistics."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from ..metrics.lesions import Lesion
from .charts import INK, SERIES, STYLE, WIDTH, svg

Z = 1.959964  # quantile 0.975 of the standard normal distribution, for 95 % intervals
EDGES = tuple(step * 10.0**decade for decade in range(-1, 7) for step in (1, 3))  # mm3, edges of the bins of volume
MIN_QUARTILES = 5  # least number of values for quartiles
TICKS = ((0, 1, 2, 3, 5, 10, 20, 30), (0, 1, 3, 10, 30, 100, 300), (0, *(10.0**decade for decade in range(9))))


class Bin(NamedTuple):
    """Counts of lesions with volumes from `low` to below `high`, mm3: scored, found among the scored, and false.

    `rate` is found / scored with its Wilson `interval`; both are None without scored lesions.
    """

    low: float
    high: float
    scored: int
    found: int
    false: int

    @property
    def rate(self) -> float | None:
        return self.found / self.scored if self.scored else None

    @property
    def interval(self) -> tuple[float, float] | None:
        return wilson(self.found, self.scored) if self.scored else None


class Agreement(NamedTuple):
    """Bland and Altman's statistics: the mean difference, and limits 1.96 standard deviations below and above it.

    A single pair has no limits (None).
    """

    bias: float
    limits: tuple[float, float] | None


def wilson(found: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson, 1927), within [0, 1]; `total` is at least 1.

    Example:
        >>> [round(bound, 3) for bound in wilson(8, 10)]
        [0.49, 0.943]
    """
    rate, square = found / total, Z**2 / total
    middle = (rate + square / 2) / (1 + square)
    half = math.sqrt(rate * (1 - rate) * square + square**2 / 4) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def detection(lesions: Sequence[Lesion]) -> list[Bin]:
    """Count scored, found and false lesions by volume, in bins of half a decade.

    The bins range from the smallest to the largest lesion that counts; there are none if no lesion counts.
    """
    counted = [lesion for lesion in lesions if lesion.is_scored]
    if not counted:
        return []
    places = np.clip(np.digitize([lesion.volume for lesion in counted], EDGES), 1, len(EDGES) - 1) - 1
    bins = []
    for place in range(places.min(), places.max() + 1):
        inside = [lesion for lesion, at in zip(counted, places, strict=True) if at == place]
        scored = [lesion for lesion in inside if lesion.is_reference]
        found = sum(lesion.is_found for lesion in scored)
        bins.append(Bin(EDGES[place], EDGES[place + 1], len(scored), found, len(inside) - len(scored)))
    return bins


def agreement(volumes: Sequence[tuple[float, float]]) -> Agreement:
    """Bland and Altman's statistics of at least one pair of volumes, prediction and reference, in any unit."""
    differences = np.array([prediction - reference for prediction, reference in volumes])
    bias = float(differences.mean())
    if len(differences) == 1:
        return Agreement(bias, None)
    reach = 1.96 * float(differences.std(ddof=1))
    return Agreement(bias, (bias - reach, bias + reach))


def scores_chart(label: str, unit: str, values: Mapping[str, Sequence[float]], penalty: float | None = None) -> Markup:
    """Draw a metric as a row of dots for each region, wider where values are frequent; empty without values.

    Unit 1 is a share, drawn from 0 to 1; other units are drawn from 0, and logarithmically from 1. `penalty` marks a
    failure.
    """
    share = unit == "1"
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.8 + 0.62 * len(values)), layout="constrained")
        axes = figure.add_subplot()
        if not share:
            axes.set_xscale("symlog", linthresh=1)
        for row, numbers in enumerate(values.values()):
            if len(numbers):
                _distribution(axes, row, np.asarray(numbers, dtype=float), share)
        lowest, largest = (edge(edge((*numbers, 0, 1)) for numbers in values.values()) for edge in (min, max))
        if share:
            axes.set_xlim(lowest - 0.02, largest + 0.02)
            axes.set_xlabel(f"{label} (0 to 1)")
        else:
            largest = max(largest, penalty or 0)
            candidates = next((ticks for ticks in TICKS if largest <= 1.5 * ticks[-1]), TICKS[-1])
            ticks = [tick for tick in candidates if tick <= largest and not (penalty and tick > penalty / 1.5)]
            axes.xaxis.set_major_locator(FixedLocator([*ticks, penalty] if penalty else ticks))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(lambda value, _: _short(value))
            axes.set_xlim(1.25 * lowest - 0.12, largest * 1.25)
            axes.set_xlabel(f"{label} ({unit}; logarithmic from 1)")
        if penalty:
            axes.axvline(penalty, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.set_yticks(range(len(values)), list(values))
        axes.grid(axis="y", visible=False)
        return svg(figure, f"{label} of every case in {', '.join(values)}")


def detection_chart(region: str, bins: Sequence[Bin]) -> Markup:
    """Draw the share of lesions found with its interval, and the number of false lesions, by volume."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        rates, false = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
        for place in bins:
            middle = math.sqrt(place.low * place.high)
            small: Any = {"ha": "center", "va": "bottom", "fontsize": 8}
            if place.rate is not None and place.interval is not None:
                rates.plot([middle] * 2, place.interval, color=SERIES[0], linewidth=1.4)
                rates.plot([middle], [place.rate], "o", color=SERIES[0], markersize=6)
                text = f"{place.found}/{place.scored}" if place.scored < 100 else f"{place.found}/\n{place.scored}"
                rates.text(middle, 1.05, text, **small)
            if place.false:
                left, right = place.low * 1.12, place.high / 1.12
                false.bar(left, place.false, right - left, align="edge", color=SERIES[1], alpha=0.75)
                false.text(middle, place.false, str(place.false), **small)
        rates.set(ylim=(-0.03, 1.03), ylabel="lesions found")
        rates.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
        rates.yaxis.set_major_formatter(PercentFormatter(1))
        false.set(ylabel="false lesions", xlabel="volume (mm³)", xscale="log")
        false.set_ylim(0, 1.3 * max(1, *(place.false for place in bins)) if bins else 1)
        false.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        if bins:
            edges = [bins[0].low, *(place.high for place in bins)]
            false.set_xlim(edges[0] / 1.05, edges[-1] * 1.05)
            false.xaxis.set_major_locator(FixedLocator(edges))
        false.xaxis.set_minor_locator(NullLocator())
        false.xaxis.set_major_formatter(lambda value, _: _short(value))
        false.tick_params(axis="x", labelsize=9 if len(bins) < 9 else 8)
        figure.align_ylabels()
        return svg(figure, f"{region}: share of lesions found, and number of false lesions, by volume")


def agreement_chart(region: str, volumes: Sequence[tuple[float, float]]) -> Markup:
    """Draw Bland and Altman's diagram: the difference of prediction and reference over their mean, ml."""
    pairs = np.array(volumes, dtype=float)
    difference, mean = pairs[:, 0] - pairs[:, 1], pairs.mean(axis=1)
    found = agreement(volumes)
    lines = {"bias": found.bias}
    if found.limits:
        lines = {"+1.96 sd": found.limits[1], "bias": found.bias, "−1.96 sd": found.limits[0]}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(0, color=INK, linewidth=0.8)
        _dots(axes, mean, difference, 5 if len(pairs) < 200 else 3)
        for name, value in lines.items():
            axes.axhline(value, color=SERIES[1], linewidth=1.6, linestyle="-" if name == "bias" else (0, (5, 3)))
        low, high = min(*difference, *lines.values()), max(*difference, *lines.values())
        room = 0.08 * (high - low) or 1.0
        axes.set_ylim(low - room, high + room)
        axes.set_xlim(0, 1.05 * mean.max() or 1)
        heights = _separate([(value - low + room) / (high - low + 2 * room) for value in lines.values()], 0.125)
        for (name, value), height in zip(lines.items(), heights, strict=True):
            place: Any = {"transform": axes.transAxes, "fontsize": 9, "va": "center", "color": SERIES[1]}
            axes.text(1.02, height, f"{name}\n{signed(value)}", linespacing=1.05, **place)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set(xlabel="mean of prediction and reference (ml)", ylabel="prediction − reference (ml)")
        return svg(figure, f"{region}: difference of the volumes of prediction and reference over their mean")


def _distribution(axes: Axes, row: int, values: NDArray[np.float64], share: bool) -> None:
    """Draw a row's dots, spread by density, their median and, if there are enough, their quartiles."""
    size = 6 if len(values) < 50 else 3.5 if len(values) < 300 else 2
    low, middle, high = np.percentile(values, (25, 50, 75))
    if len(values) >= MIN_QUARTILES:
        axes.fill_betweenx([row - 0.4, row + 0.4], low, high, color=SERIES[1], alpha=0.22, linewidth=0)
    along = values if share else np.arcsinh(values)
    _dots(axes, values, row + _spread(along, 1.0 if share else float(np.arcsinh(374))), size)
    axes.plot([middle] * 2, [row - 0.42, row + 0.42], color=SERIES[1], linewidth=2.4)


def _spread(values: NDArray[np.float64], extent: float) -> NDArray[np.float64]:
    """Offsets from -0.36 to 0.36 that place nearly equal values side by side."""
    places = np.floor(60 * values / extent).astype(int)
    offsets = np.zeros(len(values))
    crowd = max(8, int(np.unique(places, return_counts=True)[1].max()))
    for place in np.unique(places):
        (members,) = np.nonzero(places == place)
        ranks = np.arange(len(members)) - (len(members) - 1) / 2
        offsets[members] = ranks * 0.72 / crowd
    return offsets


def _dots(axes: Axes, x: ArrayLike, y: ArrayLike, size: float) -> None:
    """Draw dots as one path of zero-length strokes with round caps: a tenth of the bytes of single markers."""
    points = np.repeat(np.column_stack([np.asarray(x, dtype=float), np.asarray(y, dtype=float)]), 2, axis=0)
    path = Path(points, np.tile([Path.MOVETO, Path.LINETO], len(points) // 2))
    path.should_simplify = False
    style: Any = {"capstyle": "round", "linewidth": size, "edgecolor": SERIES[0], "facecolor": "none", "alpha": 0.6}
    axes.add_patch(PathPatch(path, clip_on=False, snap=False, **style))


def _separate(heights: Sequence[float], least: float) -> list[float]:
    """Spread three decreasing heights until their labels do not touch; the middle one stays."""
    if len(heights) < 3:
        return list(heights)
    top, middle, bottom = heights
    return [max(top, middle + least), middle, min(bottom, middle - least)]


def signed(value: float) -> str:
    """Format a number with its sign and two decimals."""
    return f"{value:+.2f}".replace("-", "−")


def _short(value: float) -> str:
    """Abbreviate a number with k for thousands and M for millions."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
