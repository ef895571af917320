"""Charts for the run report, and chart functions that the study report also uses."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from common.drawing import Axes, MaxNLocator, new_figure
from common.metrics.protocols import PROTOCOLS
from common.pages.charts import SERIES, STYLE, WIDTH, svg
from common.ssl import COSINE
from scripts.report.runs import RATES

RANGES = dict.fromkeys(("DiceLoss", "GeneralizedDiceLoss", "TverskyLoss"), " (0 to 1)")  # of MONAI's losses
HEIGHT = 2.9  # inches
POINTS = 600  # largest number of points of a drawn curve


def loss_chart(
    bundle: str, name: str, quantity: str, train: Mapping[str, Any], validation: Mapping[str, Any]
) -> Markup:
    """Plot a loss term: raw values (faint), smoothed values, held-out values (markers); `quantity` names the axis."""
    iterations, values = train["iteration"], np.array(train["loss"][name], float)
    held_out = validation.get("metrics", {}).get(name, [])

    def draw(axes: Axes) -> None:
        marker = "." if len(values) == 1 else ""
        axes.plot(*thin(iterations, values), color=SERIES[0], alpha=0.3, linewidth=0.8, label="training")
        style: Any = {"marker": marker, "color": SERIES[0], "linewidth": 1.8, "label": "smoothed"}
        axes.plot(*thin(iterations, smooth(values)), **style)
        if held_out:
            style = {"color": SERIES[1], "linewidth": 1, "linestyle": ":", "marker": "o", "markersize": 4.5}
            axes.plot(*thin(validation["iteration"], np.array(held_out, float)), label="held-out", **style)
        axes.set_ylabel(quantity + RANGES.get(quantity, ""))

    return over_iterations(f"{bundle}: {name} loss over the iterations, training and held-out", draw)


def metrics_charts(
    bundle: str, iterations: Sequence[int], metrics: Mapping[str, Sequence[float | None]]
) -> list[Markup]:
    """Plot metrics on the held-out subjects, in a panel for each axis: Dice, HD95 in mm, cosines of pretraining, ..."""
    panels: dict[tuple[str, float | None, float | None], dict[str, Sequence[float | None]]] = {}
    for name, values in metrics.items():
        panels.setdefault(axis_of(name), {})[name] = values

    def chart(label: str, lowest: float | None, highest: float | None) -> Markup:
        curves = panels[label, lowest, highest]

        def draw(axes: Axes) -> None:
            for n, (name, values) in enumerate(curves.items()):
                style: Any = {"color": SERIES[n % len(SERIES)], "marker": "osD^"[n % 4], "markersize": 4.5}
                width = 2.2 if n == 0 else 1.1
                axes.plot(*thin(iterations, np.array(values, float)), label=name, linewidth=width, **style)
            axes.set_ylabel(label)
            axes.set_ylim(lowest, highest)

        return over_iterations(f"{bundle}: held-out {', '.join(curves)} over the iterations", draw)

    return [chart(*axis) for axis in panels]


def axis_of(metric: str) -> tuple[str, float | None, float | None]:
    """Return the axis label and limits for a validation metric, whose name is from `common.training.RegionScores`."""
    if metric.endswith(COSINE):
        return "mean cosine of different crops", -1.03, 1.03
    cards = [card for protocol in PROTOCOLS.values() for card in protocol.metrics if metric.endswith(f"_{card.name}")]
    title = max((card.title for card in cards), key=len, default="Dice")  # Lesion-wise HD95, not HD95
    units = sorted({card.unit for card in cards if card.title == title} or {"1"})
    return (f"{title} (0 to 1)", -0.03, 1.03) if units == ["1"] else (f"{title} ({' or '.join(units)})", 0, None)


def rate_chart(bundle: str, name: str, train: Mapping[str, Any]) -> Markup:
    """Plot the `learning_rate` or the `seconds_per_step` of a training run over its iterations; `name` states which."""

    def draw(axes: Axes) -> None:
        values = np.array(train[name], float)
        marker = "." if len(values) == 1 else ""
        axes.plot(*thin(train["iteration"], values), marker=marker, color=SERIES[0], linewidth=1.4, label=RATES[name])
        axes.set_ylim(bottom=0)

    return over_iterations(f"{bundle}: {RATES[name]} over the iterations", draw)


def thin(iterations: Sequence[int], values: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Reduce a curve to about `POINTS` points: the lowest and highest of each of its equal parts, to keep peaks."""
    steps = np.asarray(iterations)
    if len(values) <= POINTS:
        return steps, values
    kept = set()
    for part in np.array_split(np.arange(len(values)), POINTS // 2):
        numbers = part[np.isfinite(values[part])]
        kept |= {numbers[values[numbers].argmin()], numbers[values[numbers].argmax()]} if len(numbers) else {part[0]}
    indices = sorted(kept)
    return steps[indices], values[indices]


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the centred mean over a twentieth of the curve, over fewer points at the ends; NaN is skipped."""
    window = np.ones(max(1, len(values) // 20))
    finite = np.isfinite(values)
    total = np.convolve(np.where(finite, values, 0), window, mode="same")
    count = np.convolve(finite, window, mode="same")
    return np.divide(total, count, out=np.full(len(values), math.nan), where=count > 0.5)


def over_iterations(alternative: str, draw: Callable[[Axes], None]) -> Markup:
    """Draw a chart over the iterations with `draw`; return it as SVG with the `alternative` text."""

    def draw_all(axes: Axes) -> None:
        draw(axes)
        axes.set_xlabel("iteration")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))

    return panel(alternative, draw_all)


def panel(alternative: str, draw: Callable[[Axes], None]) -> Markup:
    """Draw a chart with `draw`, and its legend above; return it as SVG with the `alternative` text."""
    with new_figure(STYLE, figsize=(WIDTH, HEIGHT), layout="constrained") as figure:
        axes = figure.add_subplot()
        draw(axes)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=4, borderaxespad=0)
        return svg(figure, alternative)
