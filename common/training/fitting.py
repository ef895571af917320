"""The largest batch that fits, for `--batch_size=auto`: by trial on a GPU, by an estimate on a CPU."""

import copy
import math
import time
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import ArgumentError, show
from ..memory import free_memory
from ..options import Options
from ..resolver import resolver
from ..ssl.networks import in_precision
from ..values import AUTO
from ..weights.storage import load
from .distributed import Processes
from .resume import saved_states

SHARE = 0.85  # of the memory that a step may take; the rest is for validations, and for what fragments
MOMENTS = 2  # copies of the weights that AdamW keeps, besides the gradients


def fitting_batch_size(options: Options, processes: Processes) -> int:
    """The batch size of a training: the given one, that of the run to resume, or with auto the largest that fits.

    The global batch stays as it is, by accumulation, so a result does not depend on the device. All processes take the
    batch of the one with the least memory.

    Raises:
        ArgumentError: there is no `global_batch_size` to keep, no batch divides it, or the smallest does not fit.
    """
    if options.batch_size != AUTO:
        return options.batch_size
    config: Any = resolver()
    states = saved_states(Path(options.ckpt_dir)) if options.resume else []
    size = load(states[-1])["metadata"]["batch_size"] if states else _largest(config, options, processes)
    config.resolved_content["batch_size"] = size
    return size


def _largest(config: Any, options: Options, processes: Processes) -> int:
    sizes = candidates(options, processes.count)
    fits = fitting_sizes(config, config.get_resolved_content("network"), options, sizes)
    largest = processes.smallest(max(fits, default=0))
    if not largest:
        raise ArgumentError("batch_size", AUTO, f"{sizes[0]} crops do not fit", "a smaller patch_size or model_size")
    if processes.is_main:
        batches = options.global_batch_size // (largest * processes.count)
        show(f"batch_size=auto: {largest} crops fit; {batches} batches for a step of {options.global_batch_size}")
    return largest


def fitting_sizes(config: Any, network: nn.Module, options: Options, sizes: Sequence[int]) -> list[int]:
    """The batch sizes, of ascending `sizes`, that fit into the memory of the options' device.

    `config` is the resolver of a training's config, `network` what it has under that name.
    """
    device = torch.device(options.device)
    if device.type == "cuda":
        return [*takewhile(lambda size: _fits_on_gpu(config, network, options, size, device), sizes)]
    return _fitting_on_cpu(network, options, sizes)


def seconds_of_step(config: Any, network: nn.Module, options: Options, size: int) -> float:
    """Seconds of a forward and a backward pass of a batch, the faster of two after a first one."""
    device, times = torch.device(options.device), []
    for _ in range(3):
        start = time.monotonic()
        _try_step(config, network, options, size, device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.monotonic() - start)
    return min(times[1:])


def candidates(options: Options, processes: int) -> list[int]:
    """The batch sizes that keep the global batch, in ascending order."""
    total, crops = options.global_batch_size, getattr(options, "crops_per_volume", 1)
    if total is None:
        raise ArgumentError(
            "batch_size", AUTO, "there is no global_batch_size to keep", "--global_batch_size, or a number"
        )
    least = 2 if _views(options) == 2 else 1
    sizes = [size for size in range(least, total // processes + 1) if total % (size * processes) == size % crops == 0]
    if not sizes:
        expected = f"a multiple of {math.lcm(least, crops) * processes}"
        raise ArgumentError("global_batch_size", total, expected=expected)
    return sizes


def _views(options: Options) -> int:
    """Views of a crop that the network takes at a time."""
    return 2 if hasattr(options, "loss_weights") else 1


def _fits_on_gpu(config: Any, network: nn.Module, options: Options, size: int, device: torch.device) -> bool:
    """Whether a step does not run out of memory; weights and random numbers stay as they are."""
    torch.cuda.reset_peak_memory_stats(device)
    try:
        _try_step(config, network, options, size, device)
        most = SHARE * torch.cuda.get_device_properties(device).total_memory
        is_fitting = torch.cuda.max_memory_reserved(device) <= most
    except torch.cuda.OutOfMemoryError:
        is_fitting = False
    network.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()
    return is_fitting


def _try_step(config: Any, network: nn.Module, options: Options, size: int, device: torch.device) -> None:
    """A forward and a backward pass, beside the memory of an optimiser's moments."""
    dtype, loss = config.get_resolved_content("dtype"), config.get_resolved_content("loss")
    count = sum(parameter.numel() for parameter in network.parameters())
    moments = torch.zeros(MOMENTS, count, device=device)
    crops = torch.zeros(size, len(options.modalities), *options.patch_size)
    if _views(options) == 2:
        views = config.get_resolved_content("train::views")
        inputs, targets = views({"image": crops}, device)
        views.restart()
        loss(in_precision(network, dtype)(inputs), targets)["total"].backward()
    else:
        prediction = in_precision(network, dtype)(crops.to(device))
        loss(prediction, torch.zeros_like(prediction)).backward()
    del moments


def _fitting_on_cpu(network: nn.Module, options: Options, sizes: Sequence[int]) -> list[int]:
    """The batch sizes of which weights, gradients, moments and stored activations fit into the free memory.

    A CPU has no limit that a trial could meet without harm.
    """
    weights = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    edges = (len(options.modalities), *options.patch_size)
    one = stored_activations(network, (_views(options), *edges))
    free = SHARE * free_memory()
    return [size for size in sizes if (2 + MOMENTS) * weights + size * one <= free]


def stored_activations(network: nn.Module, shape: Sequence[int]) -> int:
    """Bytes that a forward pass of an input keeps for the backward pass; computed on shapes only."""
    kept: dict[int, tuple[torch.Tensor, int]] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = (tensor, storage.nbytes())  # the tensor keeps the storage's number from being reused
        return tensor

    shapes = copy.deepcopy(network).to("meta").train()
    weights = {parameter.untyped_storage()._cdata for parameter in shapes.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        shapes(torch.empty(*shape, device="meta"))
    return sum(size for number, (_, size) in kept.items() if number not in weights)
