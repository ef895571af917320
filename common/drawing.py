"""Draw figures; no other module imports Matplotlib.

Figures are created and rendered off screen with Matplotlib's defaults. The user's settings (matplotlibrc, styles,
MPLBACKEND, a notebook's) stay unchanged and do not affect figures.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

__all__ = ["Axes", "Figure", "MaxNLocator", "Patch", "new_figure", "pixels_of", "svg_of"]

Style = Mapping[Any, Any]  # Matplotlib settings by name
DEFAULTS: dict[Any, Any] = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@contextmanager
def new_figure(style: Style = MappingProxyType({}), **options: Any) -> Iterator[Figure]:
    """Context manager: yield a new `Figure(**options)`; within the block, `style` overrides Matplotlib's defaults.

    Example:
        >>> with new_figure(figsize=(2, 1)) as figure:
        ...     line = figure.subplots().plot([0, 1])
        >>> pixels_of(figure, dots=50).shape
        (50, 100, 3)
    """
    with matplotlib.rc_context({**DEFAULTS, **style}):
        yield Figure(**options)


def pixels_of(figure: Figure, dots: float) -> NDArray[np.uint8]:
    """Render a figure as RGB [rows, columns, 3], at `dots` per inch."""
    figure.set_dpi(dots)
    canvas = FigureCanvasAgg(figure)
    with matplotlib.rc_context(DEFAULTS):
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def svg_of(figure: Figure, style: Style) -> str:
    """Render a figure as SVG with a transparent background; equal figures and styles give equal bytes."""
    content = io.StringIO()
    with matplotlib.rc_context({**DEFAULTS, **style}):
        figure.savefig(content, format="svg", transparent=True, metadata=NO_METADATA)
    return content.getvalue()
