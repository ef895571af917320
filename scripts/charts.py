"""Charts of the pages: inline SVG whose colours follow the page's style sheet, in light, dark and print."""

import io
import re
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

__all__ = ["INK", "SERIES", "STYLE", "WIDTH", "svg"]

# Matplotlib draws in these placeholders; the page replaces them by variables of its style sheet.
INK, FAINT = "#010101", "#020202"
SERIES = ("#030301", "#030302", "#030303", "#030304")
VARIABLES = {INK: "--muted", FAINT: "--line"} | {colour: f"--series-{n}" for n, colour in enumerate(SERIES, start=1)}
STYLE: Any = {
    "svg.fonttype": "none",
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
WIDTH = 4.8  # inches of a chart; at 72 units an inch the SVG's own coordinates


def svg(figure: Figure, alternative: str) -> Markup:
    """The figure as an SVG element with a text alternative, in the page's own colours and typeface."""
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # The salt keeps the names inside several charts apart on one page, and the page the same from run to run.
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": alternative}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg ") + len("<svg ") :]
    drawing = re.sub(r'<g id="[^"]*"', "<g", drawing)
    drawing = re.sub(r" font-family: [^;]*;", "", drawing)
    drawing = re.sub(r"(\.\d\d)\d+", r"\1", drawing)  # a hundredth of a point cannot be seen
    for placeholder, variable in VARIABLES.items():
        drawing = drawing.replace(placeholder, f"var({variable})")
    return Markup(f'<svg role="img" aria-label="{escape(alternative)}" ') + Markup(drawing)
