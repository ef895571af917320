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
        self._average: AveragedModel | None = None
        if decay:
            self._average = AveragedModel(network)
            self.network = self._average.module

    def attach(self, trainer: Engine) -> None:
        """Update the average, if there is one, after each step of `trainer`."""
        if self._average is not None:
            trainer.add_event_handler(Events.ITERATION_COMPLETED, self._update, self._average)

    def _update(self, average: AveragedModel) -> None:
        """Update the average; unlike `AveragedModel.update_parameters`, do not wait for the GPU."""
        steps = int(average.n_averaged)  # on the host
        decay = min(self.decay, (1 + steps) / (HORIZON + steps)) if steps else 0.0
        move = get_ema_multi_avg_fn(decay)
        move([*average.module.parameters()], [*self._trained.parameters()], steps)
        for buffer, source in zip(average.module.buffers(), self._trained.buffers(), strict=True):
            buffer.copy_(source)
        average.n_averaged += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and the number of steps; empty without an average."""
        return {} if self._average is None else self._average.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the average of the resumed run."""
        if self._average is not None:
            self._average.load_state_dict(state)
