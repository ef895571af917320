"""The moving average of a network's weights, compared with its recurrence."""

import numpy as np
import pytest
from torch import nn

from common.training.step import average


def stepped(averaged, network, values):
    """Set the weight to these values, one by one; yield the average after each."""
    for value in values:
        nn.init.constant_(network.weight, value)
        averaged.update_parameters(network)
        yield averaged.module.weight.item()


@pytest.mark.parametrize("decay", [0.2, 0.9])
def test_an_average_follows_its_recurrence_and_goes_on_when_it_is_resumed(decay):
    values = np.random.default_rng(0).normal(size=30).tolist()
    expected = [values[0]]
    for number, value in enumerate(values[1:], start=2):
        share = min(decay, number / (number + 9))
        expected.append(share * expected[-1] + (1 - share) * value)
    network = nn.Linear(1, 1, bias=False)
    first, resumed = average(network, decay), average(network, decay)
    before = [*stepped(first, network, values[:20])]
    resumed.load_state_dict(first.state_dict())
    np.testing.assert_allclose([*before, *stepped(resumed, network, values[20:])], expected, rtol=1e-5)
