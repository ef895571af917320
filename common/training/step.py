"""One optimiser step: precision, accumulated batches, protected pretrained weights, and a moving average of weights.

MONAI's own iteration counts batches instead of optimiser steps, synchronises processes at every batch, and supports
mixed precision on CUDA only.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from math import isfinite
from typing import Any

import ignite.distributed as idist
import torch
from monai.engines import SupervisedTrainer
from monai.utils import convert_to_tensor
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..errors import ArgumentError, InputError, show
from ..options import Options
from ..ssl.networks import in_precision
from ..weights.surgery import Report
from .order import Batches

HORIZON = 10  # steps; the decay of an average grows with the step number, so the initial weights are soon forgotten
PRECISIONS = {False: torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def precision(amp: bool | str, device: str | torch.device) -> torch.dtype:
    """Return the data type in which a network computes: float32 (False), "bf16", "fp16", or the best half (True)."""
    kind = torch.device(device).type
    if amp is True:
        amp = "bf16" if kind != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if amp == "fp16" and kind != "cuda":
        raise ArgumentError("amp", "fp16", f"not supported on the device {device}", "bf16 or false")
    if amp == "bf16" and kind == "cpu":
        show("computing in bfloat16; --amp=false for float32")
    return PRECISIONS[amp]


class Step:
    """The `iteration_update` of a MONAI `SupervisedTrainer`: one optimiser step over one or more batches.

    The network computes in `dtype` under autocast, the loss in float32 without autocast. Gradients are averaged over
    the batches, and scaled down to `max_grad_norm` (L2 norm; None: no limit); processes exchange them once per step.
    The loss function returns a tensor, or a dictionary of named terms; the term "total" is minimised.

    The output is MONAI's dictionary of the last batch (image, label, pred), with "loss" and "terms" (total and each
    term by name, averaged over this process's batches).

    Raises:
        InputError: A loss or gradient is NaN or infinite; all processes raise it, before the network changes. A float16
            step that overflows is skipped instead.
    """

    def __init__(self, dtype: torch.dtype = torch.float32, max_grad_norm: float | None = None) -> None:
        self.dtype, self.max_grad_norm = dtype, max_grad_norm
        kind = "cuda" if torch.cuda.is_available() else "cpu"
        self.scaler = torch.amp.GradScaler(kind, enabled=dtype == torch.float16)

    def __call__(self, trainer: SupervisedTrainer, batches: Batches) -> dict[str, Any]:
        trainer.network.train()
        trainer.optimizer.zero_grad(set_to_none=True)
        terms: list[dict[str, torch.Tensor]] = []
        subjects: list[list[str]] = []
        for number, batch in enumerate(batches, start=1):
            is_exchanged = number == len(batches) or not hasattr(trainer.network, "no_sync")
            with nullcontext() if is_exchanged else trainer.network.no_sync():
                output, losses = self._forward(trainer, batch)
                self.scaler.scale(losses["total"] / len(batches)).backward()
            terms.append({name: term.detach() for name, term in losses.items()})
            subjects.append(list(map(str, batch.get("subject", []))))
        self.scaler.unscale_(trainer.optimizer)
        parameters = [parameter for parameter in trainer.network.parameters() if parameter.grad is not None]
        norm = get_total_norm([parameter.grad for parameter in parameters])
        # The step waits for the device only here; handlers get the terms on the host
        *fetched, norm_here = torch.stack([*(term for part in terms for term in part.values()), norm]).cpu()
        losses = torch.stack(fetched).view(len(terms), -1)
        means = dict(zip(terms[0], losses.mean(dim=0), strict=True))
        totals = losses[:, [*means].index("total")]
        self._check_finite(trainer.state.iteration, totals.tolist(), norm_here.item(), subjects)
        if self.max_grad_norm is not None:
            clip_grads_with_norm_(parameters, self.max_grad_norm, norm)
        self.scaler.step(trainer.optimizer)
        self.scaler.update()
        return output | {"loss": means["total"], "terms": means}

    def _forward(self, trainer: SupervisedTrainer, batch: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        # Metadata of MONAI's tensors slow down every operation of a network
        inputs, targets = map(convert_to_tensor, trainer.prepare_batch(batch, trainer.state.device, True))
        prediction = trainer.inferer(inputs, in_precision(trainer.network, self.dtype))
        loss = trainer.loss_function(prediction, targets)
        terms = dict(loss) if isinstance(loss, Mapping) else {"total": loss}
        return {"image": inputs, "label": targets, "pred": prediction}, terms

    def _check_finite(self, iteration: int, losses: list[float], norm: float, subjects: list[list[str]]) -> None:
        failed = [number for number, loss in enumerate(losses) if not isfinite(loss)]
        if failed or (not isfinite(norm) and self.dtype != torch.float16):
            problem = f"the loss is {losses[failed[0]]}" if failed else f"the norm of the gradients is {norm}"
            names = sorted({name for number in failed or range(len(subjects)) for name in subjects[number]})
            place = f"at iteration {iteration}, subjects {', '.join(names)}"
            raise InputError(f"{problem} {place}; stopped before the network was changed")


def parameters(network: nn.Module, weights_report: Report, options: Options) -> list[Any]:
    """Return a network's parameters for an optimiser, in two groups if pretrained tensors learn more slowly (DIFF-34).

    The groups are the new parameters, and those that `weights_report` lists as taken from the checkpoint.
    """
    if options.architecture == "probe" and weights_report.source is None and idist.get_rank() == 0:
        show("warning: architecture=probe without pretrained: its frozen encoder keeps random weights")
    if options.pretrained_lr_factor == 1:
        return list(network.parameters())
    carried = weights_report.carried()
    new = [tensor for name, tensor in network.named_parameters() if name not in carried]
    pretrained = [tensor for name, tensor in network.named_parameters() if name in carried]
    slower = options.learning_rate * options.pretrained_lr_factor
    return [group for group in ({"params": new}, {"params": pretrained, "lr": slower}) if group["params"]]


def average(network: nn.Module, decay: float) -> AveragedModel | None:
    """Return the moving average of a network's weights, which a run validates and saves; None if `decay` is 0.

    Step 1 copies the weights. Step n > 1 gives d * average + (1 - d) * weights, with d the smaller of `decay` and
    n / (n + 9), as in TensorFlow's ExponentialMovingAverage with `num_updates`. Buffers are copied from the network.
    """

    def move(averages: Any, weights: Any, steps: Any) -> None:
        get_ema_multi_avg_fn(min(decay, (1 + int(steps)) / (HORIZON + int(steps))))(averages, weights, steps)

    return AveragedModel(network, multi_avg_fn=move) if decay else None
