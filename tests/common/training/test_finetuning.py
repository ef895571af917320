"""Protected pretrained weights, and the moving average of weights against its recurrence."""

import numpy as np
import pytest
import torch
from torch import nn

from common.options import Options
from common.training.step import average, parameters
from common.weights.surgery import Report

REPORT = Report("a.pt", matched=["0.bias", "a buffer"], changed=["0.weight"])


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))


def test_the_tensors_of_the_report_are_a_group_of_their_own():
    net = network()
    options = Options(architecture="swin_unetr", learning_rate=0.1, pretrained_lr_factor=0.2)
    new, carried = parameters(net, REPORT, options)
    assert [id(tensor) for tensor in new["params"]] == [id(net[2].weight), id(net[2].bias)]
    assert [id(tensor) for tensor in carried["params"]] == [id(net[0].weight), id(net[0].bias)]
    assert carried["lr"] == pytest.approx(0.02)


def stepped(averaged, network, values):
    """Set the weight to these values, one by one; yield the average after each."""
    for value in values:
        nn.init.constant_(network.weight, value)
        averaged.update_parameters(network)
        yield averaged.module.weight.item()


def test_an_average_follows_its_recurrence_and_goes_on_when_it_is_resumed():
    decay = 0.5  # from step 9 on
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
