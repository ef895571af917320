"""Draw charts as inline SVG in the colours of the page's style sheet, for screen (light or dark) and print."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import ArrayLike, NDArray

from ..drawing import Figure, MaxNLocator, new_figure, svg_of

# Matplotlib draws with these placeholders; `svg` replaces them with variables of the style sheet.
INK, FAINT, PAPER = "#010101", "#020202", "#020203"
SERIES = ("#030301", "#030302", "#030303", "#030304")
VARIABLES = {INK: "--muted", FAINT: "--line", PAPER: "--paper"}
VARIABLES |= {colour: f"--series-{n}" for n, colour in enumerate(SERIES, start=1)}
STYLE: Any = {
    "svg.fonttype": "none",
    "path.simplify": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.4,
    "legend.columnspacing": 1.2,
}
POINTS = 600  # of a drawn curve, at most about
WIDTH = 4.8  # inches, width of a chart; the SVG has 72 units per inch


def svg(figure: Figure, alternative: str) -> Markup:
    """Convert a figure to an SVG element with a text alternative, in the page's colours and typeface."""
    # The salt makes identifiers distinct between the charts on a page, and reproducible.
    drawing = svg_of(figure, STYLE | {"svg.hashsalt": alternative})
    drawing = drawing[drawing.index("<svg ") + len("<svg ") :]
    drawing = re.sub(r'<g id="[^"]*"', "<g", drawing)
    drawing = re.sub(r" font-family: [^;]*;", "", drawing)
    # Round coordinates down to hundredths of a point; text between tags keeps all digits.
    drawing = re.sub(r"<[^<>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), drawing)
    for placeholder, variable in VARIABLES.items():
        drawing = drawing.replace(placeholder, f"var({variable})")
    return Markup(f'<svg role="img" aria-label="{escape(alternative)}" ') + Markup(drawing)


def scores_chart(label: str, unit: str, values: Mapping[str, Sequence[float]]) -> Markup:
    """Draw a metric as a row of dots for each region, with the median and a box from lower to upper quartile.

    For unit 1, the axis runs from 0 to 1; for other units, it is logarithmic above 1. Dots are scattered within a row.
    """
    random = np.random.default_rng(0)
    with new_figure(STYLE, figsize=(WIDTH, 0.8 + 0.62 * len(values)), layout="constrained") as figure:
        axes = figure.add_subplot()
        for row, numbers in enumerate(values.values()):
            heights = row + random.uniform(-0.3, 0.3, len(numbers))
            # a single path of zero-length strokes with round ends takes a tenth of the bytes of markers
            x, y = (np.column_stack([at, at, np.full(len(at), np.nan)]).ravel() for at in (numbers, heights))
            size = 6 if len(numbers) < 50 else 3
            axes.plot(x, y, color=SERIES[0], linewidth=size, solid_capstyle="round", alpha=0.6)
        lines: Any = {f"{part}props": {"color": SERIES[1], "linewidth": 1.6} for part in ("box", "median", "whisker")}
        hidden: Any = dict.fromkeys(("showfliers", "showcaps", "manage_ticks"), False)
        rows = range(len(values))
        axes.boxplot(
            [*values.values()], positions=rows, orientation="horizontal", widths=0.8, whis=(25, 75), **lines, **hidden
        )
        axes.set(ylim=(len(values) - 0.5, -0.5), xlabel=f"{label} ({'0 to 1' if unit == '1' else unit})")
        if unit == "1":
            axes.set_xlim(-0.03, 1.03)  # the same on each page
        else:
            axes.set_xscale("symlog", linthresh=1)
            axes.set_xlim(-0.3, 1.3 * np.nanmax(np.concatenate([[1], *values.values()])))  # room for the largest dot
            axes.xaxis.set_major_formatter("{x:g}")
        axes.set_yticks(rows, [*values])
        axes.grid(axis="y", visible=False)
        return svg(figure, f"{label} of every case in {', '.join(values)}")


def agreement_chart(region: str, predicted: ArrayLike, reference: ArrayLike) -> Markup:
    """Draw a Bland-Altman plot of volumes in ml: dots for cases, a line at 0, the mean difference, dashed 95 % limits.

    The limits are 1.96 sample standard deviations from the mean, so at least two cases are needed.
    """
    volumes = np.array([predicted, reference], dtype=float)
    means, differences = volumes.mean(axis=0), volumes[0] - volumes[1]
    middle, reach = differences.mean(), 1.96 * differences.std(ddof=1)
    with new_figure(STYLE, figsize=(WIDTH, 2.9), layout="constrained") as figure:
        axes = figure.add_subplot()
        axes.plot(means, differences, "o", color=SERIES[0], markersize=4, alpha=0.7)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.axhline(middle, color=SERIES[1], linewidth=1.6, label=f"mean {_signed(middle)} ml")
        limits = f"95 % limits {_signed(middle - reach)} to {_signed(middle + reach)} ml"
        for bound, label in ((middle - reach, limits), (middle + reach, None)):
            axes.axhline(bound, color=SERIES[1], linewidth=1.2, linestyle="--", label=label)
        axes.set(xlabel="mean of both volumes (ml)", ylabel="predicted − reference (ml)")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=2, borderaxespad=0)
        return svg(figure, f"Volumes of {region}: predicted minus reference against the mean of both, every case")


def curves_chart(label: str, unit: str, curves: Sequence[tuple[str, Sequence[int], ArrayLike]]) -> Markup:
    """Draw curves over the iterations: (name, iterations, values); curves of one name share a colour."""
    names = list(dict.fromkeys(name for name, _, _ in curves))
    with new_figure(STYLE, figsize=(WIDTH, 2.9), layout="constrained") as figure:
        axes = figure.add_subplot()
        for number, (name, iterations, values) in enumerate(curves):
            index, step = names.index(name), max(1, len(iterations) // POINTS)
            style: Any = {"color": SERIES[index % len(SERIES)], "marker": "." if len(iterations) <= 50 else ""}
            is_first = name not in [other for other, _, _ in curves[:number]]
            numbers = np.array(values, float)[::step]
            axes.plot(np.asarray(iterations)[::step], numbers, label=name if is_first else None, **style)
        axes.set(xlabel="iteration", ylabel=unit)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=4, borderaxespad=0)
        return svg(figure, label)


def smooth(values: ArrayLike) -> NDArray[np.float64]:
    """Return the centred mean over a twentieth of the curve, over fewer points at the ends; NaN is skipped."""
    numbers = np.array(values, float)
    window, finite = np.ones(max(1, len(numbers) // 20)), np.isfinite(numbers)
    total = np.convolve(np.where(finite, numbers, 0), window, mode="same")
    count = np.convolve(finite, window, mode="same")
    return np.divide(total, count, out=np.full(len(numbers), np.nan), where=count > 0.5)


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")  # as on the axes


def group_chart(
    label: str,
    values: Mapping[str, Mapping[str, float]],
    limits: Mapping[str, tuple[float, float]],
    outliers: Mapping[str, Mapping[str, float]],
) -> Markup:
    """Draw a measure of all subjects as a row of dots for each modality, with dashed limits and names of outliers.

    `values` and `outliers` map row names to values by subject; `limits` maps row names, in the same order, to the
    lowest and highest acceptable value. A limit beyond the dots is not drawn.
    """
    random = np.random.default_rng(0)
    with new_figure(STYLE, figsize=(WIDTH, 0.8 + 0.62 * len(values)), layout="constrained") as figure:
        axes = figure.add_subplot()
        for row, (name, numbers) in enumerate(values.items()):
            spread = dict(zip(numbers, row + random.uniform(-0.25, 0.25, len(numbers)), strict=True))
            for far, colour in ((False, SERIES[0]), (True, SERIES[1])):
                dots = [(value, spread[of]) for of, value in numbers.items() if (of in outliers[name]) == far]
                axes.plot(*zip(*dots, strict=True) if dots else ([], []), "o", color=colour, markersize=4, alpha=0.7)
            for of, value in outliers[name].items():
                axes.annotate(of, (value, spread[of]), xytext=(4, 3), textcoords="offset points", fontsize=8)
        lowest, highest = axes.get_xlim()
        for row, bounds in enumerate(limits.values()):
            for bound in bounds:
                if lowest <= bound <= highest:
                    axes.plot([bound, bound], [row - 0.4, row + 0.4], color=INK, linestyle="--", linewidth=1)
        axes.set(xlim=(lowest, highest), ylim=(len(values) - 0.5, -0.5), xlabel=label)
        axes.set_yticks(range(len(values)), [*values])
        axes.grid(axis="y", visible=False)
        return svg(figure, f"{label} of every subject in {', '.join(values)}")
