"""A moving average of a network's weights during training."""

from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

HORIZON = 10  # steps; the decay grows with the step number, so the initial weights are soon forgotten


class Average:
    """`network`, which a run validates and saves: the trained network or, with a `decay`, a moving average of it.

    Step 1 copies the weights. Step n > 1 gives d * average + (1 - d) * weights, with d the smaller of `decay` and
    n / (n + 9), as in TensorFlow's ExponentialMovingAverage with `num_updates`. Buffers are copied from the network.
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
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._average.update_parameters, self._trained)

    def state_dict(self) -> dict[str, Any]:
        return self._average.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._average.load_state_dict(state)
