"""Optimiser groups: pretrained tensors learn more slowly, or are frozen and then warmed up (DIFF-34)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ignite.distributed as idist
import torch
from torch import nn

from ..errors import show
from ..options import Options
from ..weights.surgery import Report


def parameters(network: nn.Module, weights_report: Report, options: Options, warmup_iterations: int = 0) -> list[Any]:
    """Return a network's parameters for an optimiser, in two groups if pretrained tensors learn differently.

    The groups are the new parameters, and those that `weights_report` lists as taken from the checkpoint. After the
    freeze, the rate of the latter rises linearly for `warmup_iterations`.
    """
    if options.architecture == "probe" and weights_report.source is None and idist.get_rank() == 0:
        show("warning: architecture=probe without pretrained: its frozen encoder keeps random weights")
    if options.pretrained_lr_factor == 1 and options.frozen_iterations == 0:
        return list(network.parameters())
    carried, named = weights_report.carried(), dict(network.named_parameters())
    groups = [
        {"params": [tensor for name, tensor in named.items() if name not in carried]},
        {
            "params": [tensor for name, tensor in named.items() if name in carried],
            "lr": options.learning_rate * options.pretrained_lr_factor,
            "frozen_iterations": options.frozen_iterations,
            "thaw_iterations": warmup_iterations,
        },
    ]
    return [group for group in groups if group["params"]]


@contextmanager
def frozen(optimizer: torch.optim.Optimizer, iteration: int) -> Iterator[None]:
    """Context manager: limit the learning rate of frozen and thawing parameter groups during an optimiser's step.

    The rate is 0 in the first `frozen_iterations`. Within the next `thaw_iterations`, in step i, it is at most the peak
    rate times (i - frozen_iterations) / thaw_iterations. Frozen tensors still update Adam's moments, so the first step
    after the freeze is not unusually large.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        first, thaw = group.get("frozen_iterations", 0), group.get("thaw_iterations", 0)
        if first and iteration <= first + thaw:
            peak = group.get("initial_lr", group["lr"])
            group["lr"] = min(group["lr"], peak * max(0, iteration - first) / max(1, thaw))
    yield
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
