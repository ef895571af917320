"""The losses and validations of a training as a picture that is redrawn while it runs."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..errors import one_line, show
from ..files import atomic_write
from .checkpoints import BestModel
from .records import TrainingRecord

__all__ = ["Curves"]


class Curves:
    """Draw `progress.png` from the record after each validation, and when the training has ended. List it after both.

    The left panel has the terms of the loss, also as the validation measured them; the right one, where there is one,
    the other metrics of the validation, means over all cases. A resumed training draws the curves of all its runs.
    While it runs, drawing takes at most 1 % of the time. A picture that cannot be drawn does not end the run.

    Args:
        output_dir: folder of `progress.png`.
        record: has the losses and metrics.
        best: has the name and the best value of the metric that chooses the checkpoint.
    """

    SHARE = 0.01  # of the time, for drawing
    MOST = 10  # lines of a panel, each in a colour of its own

    def __init__(self, output_dir: str, record: TrainingRecord, best: BestModel) -> None:
        self.file = Path(output_dir) / "progress.png"
        self.record, self.best = record, best
        self._due = 0.0  # time of the next picture
        self._has_warned = False

    def attach(self, engine: Engine) -> None:
        """Draw the training of `engine`, on the main process."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._validated)
            engine.add_event_handler(Events.COMPLETED, self._write)

    def _validated(self, engine: Engine) -> None:
        start = time.monotonic()
        if start >= self._due:
            self._write(engine)
            end = time.monotonic()
            self._due = end + (end - start) / self.SHARE

    def _write(self, engine: Engine) -> None:
        try:
            figure = self._draw()
            with atomic_write(self.file) as path:
                figure.savefig(path, dpi=100, format="png")
        except Exception as error:  # a run is worth more than its picture
            if not self._has_warned:
                self._has_warned = True
                show(f"warning: {self.file}: not drawn: {one_line(error)}", error=True)

    def _draw(self) -> Figure:
        train, validation = self.record.content["train"], self.record.content["validation"]
        losses = {name: values for name, values in validation["metrics"].items() if name in train["loss"]}
        others = {
            name: values
            for name, values in validation["metrics"].items()
            if name not in losses and not name.endswith("_present")
        }
        panels = 2 if others else 1
        figure = Figure(layout="constrained")
        axes = figure.subplots(1, panels, squeeze=False)[0]
        _plot(axes[0], train["iteration"], train["loss"], "-", "training")
        _plot(axes[0], validation["iteration"], losses, "--", "validation")
        axes[0].set_ylabel("loss")
        if others:
            _plot(axes[1], validation["iteration"], others, "-", "")
            axes[1].set_ylabel("validation metric")
        for panel in axes:
            panel.set_xlabel("iteration")
            panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            panel.grid(color="#dddddd", linewidth=0.6)
            if panel.lines:
                panel.legend(fontsize=8, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.15))
        rows = max(math.ceil(len(panel.lines) / 2) for panel in axes)
        figure.set_size_inches(5.5 * panels, 3.8 + 0.17 * rows)
        title = f"{self.record.content['bundle']}, iteration {max(train['iteration'], default=0):,}"
        if math.isfinite(self.best.best):
            title += f": best {self.best.name} {self.best.best:.4f}"
        figure.suptitle(title, fontsize=10)
        return figure


def _plot(axes: Axes, iterations: Sequence[int], curves: Mapping[str, Sequence[Any]], line: str, prefix: str) -> None:
    """Plot the first curves, each name in the same colour in every call; None and NaN leave a gap."""
    for place, (name, values) in enumerate(list(curves.items())[: Curves.MOST]):
        numbers = np.array([math.nan if value is None else value for value in values], dtype=float)
        marker = "." if len(numbers) < 50 else ""
        axes.plot(iterations, numbers, line, marker=marker, color=f"C{place}", label=f"{prefix} {name}".strip())
