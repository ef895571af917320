"""Draw charts as inline SVG."""

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

SERIES = ("#1f6fb4", "#c2560b", "#2a7f4f", "#7b4aa8")
STYLE: Any = {"text.parse_math": False, "svg.fonttype": "none", "axes.grid": True, "axes.axisbelow": True}
STYLE |= {"grid.color": "#d8dee6", "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
NO_METADATA: Any = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def curves_chart(label: str, unit: str, curves: Mapping[str, tuple[Sequence[int], ArrayLike]]) -> Markup:
    """Draw named curves, (iterations, values), over the iterations, as an SVG element; None is a gap."""
    content = StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": label}):  # so that identifiers differ between charts
        figure = Figure(figsize=(4.8, 2.9), layout="constrained")
        axes = figure.add_subplot()
        for index, (name, (iterations, values)) in enumerate(curves.items()):
            marker = "." if len(iterations) <= 50 else ""
            axes.plot(iterations, np.array(values, float), label=name, color=SERIES[index % 4], marker=marker)
        axes.set(xlabel="iteration", ylabel=unit)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=4, borderaxespad=0)
        figure.savefig(content, format="svg", metadata=NO_METADATA)
    drawing = content.getvalue().partition("<svg ")[2]
    return Markup(f'<svg role="img" aria-label="{escape(label)}" ') + Markup(drawing)
