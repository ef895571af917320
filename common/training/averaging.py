"""A moving average of a network's weights during training."""

from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

HORIZON = 10  # steps; the decay grows with the step number, so the initial weights are soon forgotten


class Average:
    """The network that a run validates and saves: the trained network, or a copy with a moving average of its weights.

    Step 1 copies the weights. Step n > 1 gives d * average + (1 - d) * weights, with d the smaller of `decay` and
    n / (n + 9), as in TensorFlow's ExponentialMovingAverage with `num_updates`. Buffers are copied from the network.

    Args:
        network: Trained network, on its device, not wrapped for several processes.
        decay: Decay per step, from 0 to 1; 0: no average.

    Attributes:
        network: The copy with averaged weights; without an average, the trained network.
    """

    def __init__(self, network: nn.Module, decay: float = 0.0) -> None:
        self.network, self.decay, self._trained = network, decay, network
        if decay:
            self._average = AveragedModel(network, multi_avg_fn=self._move)
            self.network = self._average.module

    def _move(self, averages: Any, weights: Any, steps: Any) -> None:
        decay = min(self.decay, (1 + int(steps)) / (HORIZON + int(steps)))
        get_ema_multi_avg_fn(decay)(averages, weights, steps)

    def attach(self, trainer: Engine) -> None:
        """Update the average, if there is one, after each step of `trainer`."""
        if self.decay:
            trainer.add_event_handler(Events.ITERATION_COMPLETED, self._average.update_parameters, self._trained)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and the number of steps; empty without an average."""
        return self._average.state_dict() if self.decay else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the average of the resumed run."""
        if self.decay:
            self._average.load_state_dict(state)
