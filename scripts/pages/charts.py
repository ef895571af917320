"""Draw charts as inline SVG."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

SERIES = ("#1f6fb4", "#c2560b", "#2a7f4f", "#7b4aa8")
STYLE: Any = {
    "font.size": 10,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
}
STYLE |= {"grid.color": "#d8dee6", "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
WIDTH = 4.8  # inches; the SVG has 72 units per inch
LEGEND: Any = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1), "ncols": 4, "borderaxespad": 0}
POINTS = 600  # of a drawn curve, at most about


def svg(figure: Figure, alternative: str) -> Markup:
    """Convert a figure to an SVG element with a text alternative; equal figures give equal bytes."""
    content = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": alternative}):  # so that identifiers differ between charts
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(content, format="svg", transparent=True, metadata=metadata)
    drawing = content.getvalue()
    drawing = drawing[drawing.index("<svg ") + len("<svg ") :]
    return Markup(f'<svg role="img" aria-label="{escape(alternative)}" ') + Markup(drawing)


def rows_chart(label: str, rows: Mapping[str, Sequence[float]], **axis: Any) -> Markup:
    """Draw values as a row of dots for each region, with the median and a box of quartiles.

    `axis` are settings of Matplotlib's axes, such as xlim.
    """
    random = np.random.default_rng(0)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.8 + 0.62 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for row, values in enumerate(rows.values()):
            heights = row + random.uniform(-0.3, 0.3, len(values))
            axes.plot(values, heights, "o", color=SERIES[0], markersize=4, alpha=0.6)
        lines: Any = {f"{part}props": {"color": SERIES[1]} for part in ("box", "median", "whisker")}
        hidden: Any = {"showfliers": False, "showcaps": False, "manage_ticks": False}
        boxes: Any = list(rows.values())
        axes.boxplot(boxes, positions=range(len(rows)), orientation="horizontal", whis=(25, 75), **lines, **hidden)
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=label, **axis)
        axes.set_yticks(range(len(rows)), [*rows])
        return svg(figure, f"{label} of every case in {', '.join(rows)}")


def agreement_chart(region: str, predicted: ArrayLike, reference: ArrayLike) -> Markup:
    """Draw a Bland-Altman plot of volumes in ml: dots for cases, a line at 0, the mean difference, dashed 95 % limits.

    The limits are 1.96 sample standard deviations from the mean, so at least two cases are needed.
    """
    volumes = np.array([predicted, reference], dtype=float)
    means, differences = volumes.mean(axis=0), volumes[0] - volumes[1]
    middle, reach = differences.mean(), 1.96 * differences.std(ddof=1)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(means, differences, "o", color=SERIES[0], markersize=4, alpha=0.7)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.axhline(middle, color=SERIES[1], label=f"mean {middle:+.2f} ml")
        limits = f"95 % limits {middle - reach:+.2f} to {middle + reach:+.2f} ml"
        axes.axhline(middle - reach, color=SERIES[1], linestyle="--", label=limits)
        axes.axhline(middle + reach, color=SERIES[1], linestyle="--")
        axes.set(xlabel="mean of both volumes (ml)", ylabel="predicted − reference (ml)")
        axes.legend(**LEGEND)
        return svg(figure, f"Volumes of {region}: predicted minus reference against their mean, every case")


def curves_chart(label: str, unit: str, curves: Mapping[str, tuple[Sequence[int], ArrayLike]]) -> Markup:
    """Draw named curves, (iterations, values), over the iterations."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        axes = figure.add_subplot()
        for index, (name, (iterations, values)) in enumerate(curves.items()):
            step, marker = max(1, len(iterations) // POINTS), "." if len(iterations) <= 50 else ""
            numbers = np.array(values, float)[::step]
            axes.plot(np.asarray(iterations)[::step], numbers, label=name, color=SERIES[index % 4], marker=marker)
        axes.set(xlabel="iteration", ylabel=unit)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.legend(**LEGEND)
        return svg(figure, label)


def smooth(values: ArrayLike) -> NDArray[np.float64]:
    """Return the centred mean over a twentieth of the curve, over fewer points at the ends; NaN is skipped."""
    numbers = np.array(values, float)
    window, finite = np.ones(max(1, len(numbers) // 20)), np.isfinite(numbers)
    total = np.convolve(np.where(finite, numbers, 0), window, mode="same")
    count = np.convolve(finite, window, mode="same")
    return np.divide(total, count, out=np.full(len(numbers), np.nan), where=count > 0.5)
