"""Protected pretrained weights (groups, freeze, thaw), and the moving average of weights against its recurrence."""

from math import cos, pi

import numpy as np
import pytest
import torch
from monai.optimizers import WarmupCosineSchedule
from torch import nn

from common.options import Options
from common.training.step import average, frozen, parameters
from common.weights.surgery import Report

REPORT = Report("a.pt", matched=["0.bias", "a buffer"], changed=["0.weight"])


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))


def protected(net, factor=0.1, iterations=2, thaw=0):
    options = Options(architecture="swin_unetr", learning_rate=0.1)
    options.pretrained_lr_factor, options.frozen_iterations = factor, iterations
    return parameters(net, REPORT, options, thaw)


@pytest.mark.parametrize(("factor", "iterations"), [(0.1, 0), (1, 5)])
def test_the_tensors_of_the_report_are_a_group_of_their_own(factor, iterations):
    net = network()
    new, carried = protected(net, factor, iterations)
    assert [id(tensor) for tensor in new["params"]] == [id(net[2].weight), id(net[2].bias)]
    assert [id(tensor) for tensor in carried["params"]] == [id(net[0].weight), id(net[0].bias)]
    assert (carried["lr"], carried["frozen_iterations"]) == (pytest.approx(0.1 * factor), iterations)


def test_frozen_values_stay_while_their_moments_are_collected():
    """As PyTorch's AdamW with a rate of 0 in the frozen steps; the schedule halves the last rate."""
    gradients, rates = [1.0, -0.5, 2.0, 0.3, -1.0], [0.0, 0.0, 0.0, 0.2, 0.1]
    new, old, plain = (nn.Parameter(torch.tensor(2.0, dtype=torch.float64)) for _ in range(3))
    groups = [{"params": [new]}, {"params": [old], "lr": 0.2, "frozen_iterations": 3}]
    optimizer, reference = torch.optim.AdamW(groups, lr=0.4, fused=True), torch.optim.AdamW([plain])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
    for iteration, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        new.grad, old.grad, plain.grad = (torch.tensor(gradient, dtype=torch.float64) for _ in range(3))
        before = [group["lr"] for group in optimizer.param_groups]
        with frozen(optimizer, iteration):
            optimizer.step()
        assert [group["lr"] for group in optimizer.param_groups] == before
        schedule.step()
        reference.param_groups[0]["lr"] = rate
        reference.step()
        assert old.item() == pytest.approx(plain.item(), rel=1e-12)
        assert (old.item() == 2.0) == (iteration <= 3)
        assert new.item() != 2.0


@pytest.mark.parametrize(("first", "warmup"), [(6, 4), (2, 5), (3, 0)])
def test_thawed_values_warm_up_from_their_first_step_on(first, warmup):
    total = 20
    optimizer = torch.optim.AdamW(protected(network(), iterations=first, thaw=warmup), lr=0.1)
    schedule = WarmupCosineSchedule(optimizer, warmup_steps=warmup, t_total=total)
    for step in range(1, total + 1):
        done = step - 1
        planned = done / warmup if done < warmup else (1 + cos(pi * (done - warmup) / (total - warmup))) / 2
        thawed = 0 if step <= first else min(planned, (step - first) / warmup) if warmup else planned
        with frozen(optimizer, step):
            rates = [group["lr"] for group in optimizer.param_groups]
            optimizer.step()
        assert rates == pytest.approx([0.1 * planned, 0.01 * thawed], rel=1e-9)
        schedule.step()


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
