"""Charts as inline SVG in the colours of the page's style sheet, for screen (light or dark) and print."""

import io
import re
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

# Matplotlib draws with these placeholders; `svg` replaces them with variables of the style sheet.
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
WIDTH = 4.8  # width of a chart in inches; the SVG has 72 units per inch


def svg(figure: Figure, alternative: str) -> Markup:
    """Convert a figure to an SVG element with a text alternative, in the page's colours and typeface."""
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # The salt keeps the identifiers of several charts on a page distinct, and the same from run to run.
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": alternative}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg ") + len("<svg ") :]
    drawing = re.sub(r'<g id="[^"]*"', "<g", drawing)
    drawing = re.sub(r" font-family: [^;]*;", "", drawing)
    # A hundredth of a point is invisible. Text between tags keeps its digits.
    drawing = re.sub(r"<[^<>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), drawing)
    for placeholder, variable in VARIABLES.items():
        drawing = drawing.replace(placeholder, f"var({variable})")
    return Markup(f'<svg role="img" aria-label="{escape(alternative)}" ') + Markup(drawing)
