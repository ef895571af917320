"""Local sinks of a training's record: TensorBoard, progress.png, a warning, and the last lines printed."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch.utils.tensorboard import SummaryWriter

from ..errors import one_line, show
from ..files import atomic_write
from .checkpoints import BestModel
from .plan import Plan
from .records import RunRecord, Sink


class TensorBoard(Sink):
    """Write `tensorboard/train` and `tensorboard/validation`; curves with the same name share a chart."""

    def __init__(self, output_dir: str | Path) -> None:
        self.folder = Path(output_dir) / "tensorboard"
        self._writers: dict[str, SummaryWriter] = {}

    def add(self, section: str, iteration: int, values: Mapping[str, Any]) -> None:
        if section not in self._writers:
            self._writers[section] = SummaryWriter(self.folder / section)
        for name, value in values.items():
            if value is not None:
                self._writers[section].add_scalar(name, value, iteration)

    def end(self, engine: Engine) -> None:
        while self._writers:
            self._writers.popitem()[1].close()


class Curves(Sink):
    """Draw `progress.png` after each validation and at the end: loss terms left, other validation metrics right.

    A resumed training draws the curves of all its runs. Drawing takes at most 1 % of the time, and a failed picture
    does not end the run.
    """

    SHARE = 0.01  # largest share of the time for drawing
    MOST = 10  # lines of a panel, each in its own colour

    def __init__(self, output_dir: str | Path, best: BestModel) -> None:
        self.file, self.best = Path(output_dir) / "progress.png", best
        self._due = 0.0  # time of the next picture
        self._has_warned = False

    def begin(self, record: RunRecord, engine: Engine) -> None:
        self.content = record.content

    def add(self, section: str, iteration: int, values: Mapping[str, Any]) -> None:
        start = time.monotonic()
        if section == "validation" and start >= self._due:
            self._write()
            end = time.monotonic()
            self._due = end + (end - start) / self.SHARE

    def end(self, engine: Engine) -> None:
        self._write()

    def _write(self) -> None:
        try:
            figure = self.draw()
            with atomic_write(self.file) as path:
                figure.savefig(path, dpi=100, format="png")
        except Exception as error:  # a failed picture must not end the run
            if not self._has_warned:
                self._has_warned = True
                show(f"warning: {self.file}: not drawn: {one_line(error)}", error=True)

    def draw(self) -> Figure:
        """The figure of all points so far."""
        train, validation = self.content["train"], self.content["validation"]
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
        title = f"{self.content['bundle']}, iteration {max(train['iteration'], default=0):,}"
        if math.isfinite(self.best.best):
            title += f": best {self.best.name} {self.best.best:.4f}"
        figure.suptitle(title, fontsize=10)
        return figure


def _plot(axes: Axes, iterations: Sequence[int], curves: Mapping[str, Sequence[Any]], line: str, prefix: str) -> None:
    """Plot the first curves, with the same colour for a name in every call; None and NaN leave a gap."""
    for place, (name, values) in enumerate(list(curves.items())[: Curves.MOST]):
        numbers = np.array([math.nan if value is None else value for value in values], dtype=float)
        marker = "." if len(numbers) < 50 else ""
        axes.plot(iterations, numbers, line, marker=marker, color=f"C{place}", label=f"{prefix} {name}".strip())


class UnlearningWarning(Sink):
    """Warn once if the held-out loss after the warm-up is not finite, or above that of the pretrained weights.

    The learning rate is then too high and destroys the pretraining. The validation before the first iteration measures
    the pretrained weights.
    """

    def __init__(self, plan: Plan) -> None:
        self.options, self.warmup = plan.options, plan.length.warmup_iterations

    def begin(self, record: RunRecord, engine: Engine) -> None:
        self.content = record.content

    def add(self, section: str, iteration: int, values: Mapping[str, Any]) -> None:
        if section != "validation" or self.options.pretrained is None:
            return
        validation = self.content["validation"]
        curves = {
            name: dict(zip(validation["iteration"], values, strict=True))  # None: not finite
            for name, values in validation["metrics"].items()
        }
        losses = dict(curves["total"])
        first = losses.pop(0, None)
        if first is None:
            return
        worse = [step for step, loss in losses.items() if step >= self.warmup and (loss is None or loss > first)]
        if worse[:1] != [iteration]:  # a resumed run's record shows whether it has warned before
            return
        risen = [
            f"{name} {curve[0]:.4f} -> {'not finite' if now is None else f'{now:.4f}'}"
            for name, curve in curves.items()
            if (now := curve[iteration]) is None or now > curve[0]
        ]
        show(
            f"warning: unlearning {self.options.pretrained}: held-out losses rose by iteration {iteration}: "
            f"{', '.join(risen)}; learning_rate={self.options.learning_rate:g} may be too high"
        )


class Ending(Sink):
    """After a run without an error, print its `figures` and existing `results`; nothing without figures."""

    def __init__(self, source: Any, results: Mapping[str, str | Path]) -> None:
        self.source, self.results = source, results

    def end(self, engine: Engine) -> None:
        if lines := self.source.figures(engine):
            places = {name: Path(path).resolve() for name, path in self.results.items() if Path(path).exists()}
            width = max(map(len, places), default=0)
            show(*lines, *(f"{name:<{width}}  {path}" for name, path in places.items()))


class BestValidation(Ending):
    """Print the best validation of a training and its iteration, and where the results are.

    A loss close to chance (`common.ssl.SSLLoss.chance`) gets a warning: a collapsed head, with constant output, is
    easily mistaken for one that has nearly converged.
    """

    NEAR_CHANCE = 0.95  # share of the chance level

    def __init__(
        self, best: BestModel, results: Mapping[str, str | Path], chance: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(self, results)
        self.best, self.chance = best, dict(chance or {})

    def begin(self, record: RunRecord, engine: Engine) -> None:
        self.content = record.content

    def figures(self, engine: Engine) -> list[str]:
        """The lines about the best validation."""
        validation = self.content["validation"]
        metrics, name = validation["metrics"], self.best.name
        places = [
            place
            for place, (iteration, value) in enumerate(zip(validation["iteration"], metrics.get(name, []), strict=True))
            if iteration and value == self.best.best
        ]
        if not places:
            return [f"no model was saved: {name} was never finite"]
        at = places[0]
        others = {
            other: values[at]
            for other, values in metrics.items()
            if other != name and not other.endswith("_present") and values[at] is not None
        }
        more = f" ({', '.join(f'{other} {value:.4f}' for other, value in others.items())})" if others else ""
        reached = f"at iteration {validation['iteration'][at]:,} of {engine.state.iteration:,}"
        warnings = [
            f"warning: {other} {others[other]:.4f}: no better than chance ({level:.4f}); "
            "more iterations, a lower learning_rate or a larger batch_size may help"
            for other, level in self.chance.items()
            if others.get(other, 0) > self.NEAR_CHANCE * level
        ]
        return [f"best validation: {name} {self.best.best:.4f} {reached}{more}", *warnings]
