"""One optimiser step: precision, accumulated batches, clipped gradients, and an error if the loss is not finite.

MONAI's own iteration counts batches instead of optimiser steps, synchronises processes at every batch, and supports
mixed precision on CUDA only.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from math import isfinite
from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines import SupervisedTrainer
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.overrides import TorchFunctionMode

from ..data.datasets import Batches
from ..data.scan_checks import files_in
from ..errors import ArgumentError, InputError, show
from ..ssl.networks import in_precision
from ..values import flags
from .finetuning import frozen

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def precision(amp: bool | str, device: str | torch.device) -> torch.dtype:
    """Return the data type in which a network computes.

    Args:
        amp: Precision: False (float32), "bf16", "fp16", or True (bf16; fp16 on a GPU without bf16).
        device: Device of the network; fp16 needs a GPU.

    Raises:
        ArgumentError: `amp` is unknown, or the device does not support fp16.
    """
    kind, amp = torch.device(device).type, flags(*PRECISIONS).parse("amp", amp)
    if amp is True:
        amp = "bf16" if kind != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if amp is False:
        return torch.float32
    if amp == "fp16" and kind != "cuda":
        raise ArgumentError("amp", "fp16", f"not supported on the device {device}", "bf16 or false")
    if kind == "cpu":
        show("computing in bfloat16; --amp=false for float32")
    return PRECISIONS[amp]


def accumulation_steps(global_batch_size: int | None, batch_size: int, processes: int) -> int:
    """Return the number of batches per optimiser step in each process; 1 without a `global_batch_size`.

    `global_batch_size` counts the crops of all processes and must be a multiple of `batch_size` x `processes`.

    Example:
        >>> accumulation_steps(128, batch_size=2, processes=8)
        8
    """
    if global_batch_size is None:
        return 1
    at_a_time = batch_size * processes
    if global_batch_size % at_a_time:
        raise ArgumentError(
            "global_batch_size",
            global_batch_size,
            expected=f"a multiple of {at_a_time} (batch_size={batch_size} x {processes} processes)",
        )
    return global_batch_size // at_a_time


class Step:
    """The `iteration_update` of a MONAI `SupervisedTrainer`: one optimiser step over one or more batches.

    The network computes in `dtype` under autocast, the loss in float32 without autocast. Gradients are averaged over
    the batches; processes exchange them once per step. The loss function returns a tensor, or a dictionary of named
    terms; the term "total" is minimised.

    The output is MONAI's dictionary of the last batch (image, label, pred), with "crops" (size of this batch), "loss"
    and "terms" (total and each term by name, averaged over this process's batches).

    Args:
        dtype: Data type of the network: float32, bfloat16, or float16 with a scaled loss; see `precision`.
        max_grad_norm: L2 norm to which larger gradients are scaled down; None for no limit.

    Raises:
        InputError: A loss or gradient is NaN or infinite; all processes raise it, before the network changes. A float16
            step that overflows is skipped instead.
    """

    def __init__(self, dtype: torch.dtype = torch.float32, max_grad_norm: float | None = None) -> None:
        self.dtype, self.max_grad_norm = dtype, max_grad_norm
        kind = "cuda" if torch.cuda.is_available() else "cpu"
        self._scaler = torch.amp.GradScaler(kind, enabled=dtype == torch.float16)

    def __call__(self, trainer: SupervisedTrainer, batches: Batches) -> dict[str, Any]:
        trainer.network.train()
        trainer.optimizer.zero_grad(set_to_none=True)
        terms: list[dict[str, torch.Tensor]] = []
        subjects: list[list[str]] = []
        for number, batch in enumerate(batches, start=1):
            with _gradient_exchange(trainer.network, enabled=number == len(batches)):
                output, losses = self._forward(trainer, batch)
                self._scaler.scale(losses["total"] / len(batches)).backward()
            terms.append({name: term.detach() for name, term in losses.items()})
            subjects.append(list(map(str, batch.get("subject", []))))
        self._scaler.unscale_(trainer.optimizer)
        parameters = [parameter for parameter in trainer.network.parameters() if parameter.grad is not None]
        norm = get_total_norm([parameter.grad for parameter in parameters])
        # The step waits for the device only here; handlers get the terms on the host
        *fetched, norm_here = torch.stack([*(term for part in terms for term in part.values()), norm]).cpu()
        losses = torch.stack(fetched).view(len(terms), -1)
        means = dict(zip(terms[0], losses.mean(dim=0), strict=True))
        totals = losses[:, [*means].index("total")]
        self._check_finite(trainer, totals.tolist(), norm_here.item(), subjects)
        if self.max_grad_norm is not None:
            clip_grads_with_norm_(parameters, self.max_grad_norm, norm)
        with frozen(trainer.optimizer, trainer.state.iteration):
            self._scaler.step(trainer.optimizer)
        self._scaler.update()
        return output | {"loss": means["total"], "terms": means, "crops": len(batch["image"])}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the loss scale; empty unless `dtype` is float16."""
        return self._scaler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the loss scale of the resumed run."""
        if state:  # empty if the earlier run did not compute in float16
            self._scaler.load_state_dict(dict(state))

    def _forward(self, trainer: SupervisedTrainer, batch: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        device = trainer.state.device
        inputs, targets = map(_without_metadata, trainer.prepare_batch(batch, device, trainer.non_blocking))
        needs_float32 = self.dtype != torch.float32 and device.type == "cpu"
        with ShallowConvolutionsInFloat32() if needs_float32 else nullcontext():
            prediction = trainer.inferer(inputs, in_precision(trainer.network, self.dtype))
        loss = trainer.loss_function(prediction, targets)
        terms = dict(loss) if isinstance(loss, Mapping) else {"total": loss}
        return {"image": inputs, "label": targets, "pred": prediction}, terms

    def _check_finite(
        self, trainer: SupervisedTrainer, losses: list[float], norm: float, subjects: list[list[str]]
    ) -> None:
        failed = [number for number, loss in enumerate(losses) if not isfinite(loss)]
        if not failed and (isfinite(norm) or self.dtype == torch.float16):
            return
        problem = f"the loss is {losses[failed[0]]}" if failed else f"the norm of the gradients is {norm}"
        names = sorted({name for number in failed or range(len(subjects)) for name in subjects[number]})
        entries = [entry for entry in trainer.data_loader.dataset.data if entry["subject"] in names]
        files = dict.fromkeys(file for entry in entries for file in files_in(entry))
        raise InputError(
            f"{problem} at iteration {trainer.state.iteration}, subjects {', '.join(names)} "
            f"({', '.join(files)}); stopped before the network was changed"
        )


class ShallowConvolutionsInFloat32(TorchFunctionMode):
    """Under CPU autocast, compute a 3D convolution in float32 if its input is shallower than its kernel.

    oneDNN's bfloat16 kernel for AVX-512 (oneDNN 3.12, in PyTorch 2.13) reads a slice past the input for the gradient of
    the weights, which is then wrong or NaN. Patches of 64 voxels are affected: their bottleneck is 2 voxels deep.
    """

    def __torch_function__(
        self, function: Callable[..., Any], _: Any, arguments: tuple[Any, ...] = (), options: Any = None
    ) -> Any:
        if function is nn.functional.conv3d and arguments[0].shape[2] < arguments[1].shape[2]:
            with torch.autocast("cpu", enabled=False):
                return function(arguments[0].float(), *arguments[1:], **(options or {}))
        return function(*arguments, **(options or {}))


def _gradient_exchange(network: nn.Module, enabled: bool) -> AbstractContextManager[Any]:
    """Return the context of a backward pass, with or without gradient exchange between processes."""
    return nullcontext() if enabled or not hasattr(network, "no_sync") else network.no_sync()


def _without_metadata(data: Any) -> Any:
    """Strip a MetaTensor's metadata, which slows down every operation of a network."""
    return data.as_tensor() if isinstance(data, MetaTensor) else data
