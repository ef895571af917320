"""What a run prints when it has ended: its figures, and where its results are."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine, Events

from ..errors import show
from .checkpoints import BestModel
from .records import TrainingRecord

__all__ = ["BestValidation", "Ending"]


class Ending:
    """Print a run's figures and where its results are, when it has ended without an error. List it last.

    Args:
        figures: gives the lines to print from the engine; if there are none, nothing is printed.
        results: files and folders by name; those that do not exist are left out.
    """

    def __init__(self, figures: Callable[[Engine], Sequence[str]], results: Mapping[str, str]) -> None:
        self.figures, self.results = figures, dict(results)

    def attach(self, engine: Engine) -> None:
        """Print the ending of `engine`, on the main process."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        lines = list(self.figures(engine))
        if lines:
            places = {name: Path(path).resolve() for name, path in self.results.items() if Path(path).exists()}
            width = max(map(len, places), default=0)
            lines += [f"{name:<{width}}  {path}" for name, path in places.items()]
            show(*lines)


class BestValidation:
    """Tell the best validation of a training and its iteration: the `figures` of an `Ending`.

    A loss that is not clearly below what guessing gives gets a warning: a head whose output is the same for all inputs
    (a collapse) is easily taken for one that has nearly converged.

    Args:
        best: saves the network of the best validation.
        record: has the metrics of all validations, also of the runs that this one resumes.
        chance: what guessing gives, by metric, lower being better; see `common.ssl.SSLLoss.chance`.
    """

    NEAR_CHANCE = 0.95  # of what guessing gives

    def __init__(self, best: BestModel, record: TrainingRecord, chance: Mapping[str, float] | None = None) -> None:
        self.best, self.record, self.chance = best, record, dict(chance or {})

    def __call__(self, engine: Engine) -> list[str]:
        validation = self.record.content["validation"]
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
            f"warning: {other} {others[other]:.4f}: guessing gives {level:.4f}, so this task is hardly learnt; "
            "more iterations, a lower learning_rate or a larger batch_size may help"
            for other, level in self.chance.items()
            if others.get(other, 0) > self.NEAR_CHANCE * level
        ]
        return [f"best validation: {name} {self.best.best:.4f} {reached}{more}", *warnings]
