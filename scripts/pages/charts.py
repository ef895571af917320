"""Draw charts as inline SVG."""

from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

SERIES = ("#1f6fb4", "#c2560b", "#2a7f4f", "#7b4aa8")
STYLE: Any = {"text.parse_math": False, "svg.fonttype": "none", "axes.grid": True, "axes.axisbelow": True}
STYLE |= {"grid.color": "#d8dee6", "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
NO_METADATA: Any = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def _chart(alternative: str, draw: Callable[[Axes], object], height: float = 2.9) -> Markup:
    """Return an SVG element, with a text alternative, of what `draw` draws on axes."""
    content = StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": alternative}):  # so that identifiers differ between charts
        figure = Figure(figsize=(4.8, height), layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(content, format="svg", metadata=NO_METADATA)
    drawing = content.getvalue().partition("<svg ")[2]
    return Markup(f'<svg role="img" aria-label="{escape(alternative)}" ') + Markup(drawing)


def rows_chart(label: str, rows: Mapping[str, Sequence[float]], **axis: Any) -> Markup:
    """Draw values as a row of dots for each region, with the median and a box of quartiles.

    `axis` are settings of Matplotlib's axes, such as xlim.
    """

    def draw(axes: Axes) -> None:
        random, boxes = np.random.default_rng(0), [*rows.values()]
        for row, values in enumerate(boxes):
            heights = row + random.uniform(-0.3, 0.3, len(values))
            axes.plot(values, heights, "o", color=SERIES[0], markersize=4, alpha=0.6)
        lines: Any = {f"{part}props": {"color": SERIES[1]} for part in ("box", "median", "whisker")}
        lines |= {"showfliers": False, "showcaps": False, "manage_ticks": False}
        axes.boxplot(boxes, positions=range(len(rows)), orientation="horizontal", whis=(25, 75), **lines)
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=label, **axis)
        axes.set_yticks(range(len(rows)), [*rows])

    return _chart(f"{label} of every case in {', '.join(rows)}", draw, 0.8 + 0.62 * len(rows))


def curves_chart(label: str, unit: str, curves: Mapping[str, tuple[Sequence[int], ArrayLike]]) -> Markup:
    """Draw named curves, (iterations, values), over the iterations; None is a gap."""

    def draw(axes: Axes) -> None:
        for index, (name, (iterations, values)) in enumerate(curves.items()):
            marker = "." if len(iterations) <= 50 else ""
            axes.plot(iterations, np.array(values, float), label=name, color=SERIES[index % 4], marker=marker)
        axes.set(xlabel="iteration", ylabel=unit)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=4, borderaxespad=0)

    return _chart(label, draw)
