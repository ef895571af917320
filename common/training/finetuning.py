"""Optimiser groups of a fine-tuning: pretrained tensors learn more slowly, and are frozen at first."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ignite.distributed as idist
import torch
from torch import nn

from ..errors import show
from ..options import Options
from ..weights.surgery import Report


def parameters(network: nn.Module, weights_report: Report, options: Options) -> list[Any]:
    """The parameters of a fine-tuning for an optimiser, in groups if the options ask for them (DIFF-34).

    Without `pretrained_lr_factor` and `frozen_iterations` it is the network's list of parameters. With them, new
    parameters are the first group, and the tensors that the weights report says were carried over the second.

    Args:
        network: Network on its device.
        weights_report: Report of the loaded weights.
        options: Options `learning_rate`, `pretrained_lr_factor` (factor of the carried tensors' learning rate) and
            `frozen_iterations`.
    """
    if getattr(options, "architecture", "") == "probe" and weights_report.source is None and idist.get_rank() == 0:
        show("warning: architecture=probe without pretrained: its frozen encoder keeps random weights")
    if options.pretrained_lr_factor == 1 and options.frozen_iterations == 0:
        return list(network.parameters())
    carried, named = weights_report.carried(), dict(network.named_parameters())
    groups = [
        {"params": [each for name, each in named.items() if name not in carried]},
        {
            "params": [each for name, each in named.items() if name in carried],
            "lr": options.learning_rate * options.pretrained_lr_factor,
            "frozen_iterations": options.frozen_iterations,
        },
    ]
    return [group for group in groups if group["params"]]


@contextmanager
def frozen(optimizer: torch.optim.Optimizer, iteration: int) -> Iterator[None]:
    """Keep groups in their first `frozen_iterations` as they are during an optimiser's step, by a learning rate of 0.

    Their gradients are computed and exchanged between processes as ever, and Adam's moments follow them, so that the
    first step after the freeze is not an unusually large one.
    """
    still = [group for group in optimizer.param_groups if iteration <= group.get("frozen_iterations", 0)]
    rates = [group["lr"] for group in still]
    for group in still:
        group["lr"] = 0.0
    try:
        yield
    finally:
        for group, rate in zip(still, rates, strict=True):
            group["lr"] = rate
