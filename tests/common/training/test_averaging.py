"""The moving average of a network's weights, compared with its recurrence."""

import numpy as np
import pytest
from ignite.engine import Engine
from torch import nn

from common.training import Average


def stepped(average, network, values):
    """Run a training whose steps set the weight to these values; return the average after each step."""
    remaining, seen = list(values), []

    def step(*_):
        nn.init.constant_(network.weight, remaining.pop(0))

    trainer = Engine(step)
    average.attach(trainer)
    trainer.add_event_handler("ITERATION_COMPLETED", lambda: seen.append(average.network.weight.item()))
    trainer.run(values)
    return seen


@pytest.mark.parametrize("decay", [0.2, 0.9])
def test_an_average_follows_its_recurrence_and_goes_on_when_it_is_resumed(decay):
    values = np.random.default_rng(0).normal(size=30).tolist()
    expected = [values[0]]
    for number, value in enumerate(values[1:], start=2):
        share = min(decay, number / (number + 9))
        expected.append(share * expected[-1] + (1 - share) * value)
    network = nn.Linear(1, 1, bias=False)
    average = Average(network, decay)
    before = stepped(average, network, values[:20])
    resumed = Average(network, decay)
    resumed.load_state_dict(average.state_dict())
    np.testing.assert_allclose(before + stepped(resumed, network, values[20:]), expected, rtol=1e-5)
