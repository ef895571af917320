"""Draw figures off screen; no other module imports Matplotlib."""

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
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@contextmanager
def new_figure(style: Style = MappingProxyType({}), **options: Any) -> Iterator[Figure]:
    """Context manager: yield a new `Figure(**options)`; `style` holds within the block."""
    with matplotlib.rc_context(dict(style)):
        yield Figure(**options)


def pixels_of(figure: Figure, dots: float) -> NDArray[np.uint8]:
    """Render a figure as RGB [rows, columns, 3], at `dots` per inch."""
    figure.set_dpi(dots)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def svg_of(figure: Figure, style: Style) -> str:
    """Render a figure as SVG with a transparent background; equal figures and styles give equal bytes."""
    content = io.StringIO()
    with matplotlib.rc_context(dict(style)):
        figure.savefig(content, format="svg", transparent=True, metadata=NO_METADATA)
    return content.getvalue()
