"""Find the largest batch that fits into memory, for `--batch_size=auto`: by trial on a GPU, by an estimate on a CPU."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from torch import nn

from ..errors import ArgumentError, lacks_gpu_memory, show
from ..memory import free_memory
from ..options import Options
from ..resolver import resolver
from ..ssl.losses import without_gathering
from ..ssl.networks import in_precision
from ..values import AUTO
from .distributed import Processes
from .resume import last_readable, saved_states

SHARE = 0.85  # fraction of memory for a step; the rest is for validation and fragmentation
MOMENTS = 2  # AdamW's moments of each weight


def fitting_batch_size(options: Options, processes: Processes) -> int:
    """Return the option `batch_size`; for auto, the resumed run's batch size or the largest that fits.

    Gradient accumulation keeps the global batch, so results do not depend on the device. All processes use the batch
    size that fits the process with the least memory.

    Raises:
        ArgumentError: There is no `global_batch_size` to keep, no batch size divides it, or the smallest does not fit.
    """
    if options.batch_size != AUTO:
        return options.batch_size
    config: Any = resolver()
    states = saved_states(Path(options.ckpt_dir)) if options.resume else []
    if states:
        size = last_readable(states, falls_back=options.resume == AUTO)[1]["batch_size"]
    else:
        size = _largest(config, options, processes)
    config.resolved_content["batch_size"] = size
    return size


def _largest(config: Any, options: Options, processes: Processes) -> int:
    sizes = candidates(options, processes.count)
    fits = fitting_sizes(config, config.get_resolved_content("network"), options, sizes)
    largest = int(idist.all_reduce(max(fits, default=0), "MIN"))
    if not largest:
        problem = f"a batch of {sizes[0]} does not fit"
        raise ArgumentError("batch_size", AUTO, problem, "a smaller patch_size or model_size")
    if processes.is_main:
        batches = options.global_batch_size // (largest * processes.count)
        step = f"batches per process and step: {batches} (global_batch_size={options.global_batch_size})"
        show(f"batch_size=auto: largest batch that fits each process: {largest}; {step}")
    return largest


def fitting_sizes(config: Any, network: nn.Module, options: Options, sizes: Sequence[int]) -> list[int]:
    """Return the batch sizes among `sizes`, in ascending order, that fit into the memory of `options.device`.

    `config` is the resolver of a training config, `network` the config's network.
    """
    device = torch.device(options.device)
    if device.type == "cuda":
        return [*takewhile(lambda size: _fits_on_gpu(config, network, options, size, device), sizes)]
    return _fitting_on_cpu(network, options, sizes, config.get_resolved_content("dtype"))


def seconds_of_step(config: Any, network: nn.Module, options: Options, size: int) -> float:
    """Return the seconds of a forward and backward pass of `size` crops: the faster of two, after a warm-up pass."""
    device = torch.device(options.device)
    return _fastest(lambda: _try_step(config, network, options, size, device), device)


def seconds_of_window(network: nn.Module, options: Options, dtype: torch.dtype) -> float:
    """Return the seconds of the prediction of a window in `dtype`: the faster of two, after a warm-up pass."""
    device, is_training = torch.device(options.device), network.training
    window = torch.zeros(1, len(options.modalities), *options.patch_size, device=device)
    with torch.inference_mode():
        seconds = _fastest(lambda: in_precision(network.eval(), dtype)(window), device)
    network.train(is_training)
    return seconds


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(3):
        start = time.monotonic()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.monotonic() - start)
    return min(times[1:])


def candidates(options: Options, processes: int) -> list[int]:
    """Return the multiples of `crops_per_volume` that divide each process's share of the global batch, ascending.

    Self-supervised training needs at least 2 crops. Raise `ArgumentError` if there is no such batch size.
    """
    total, crops = options.global_batch_size, getattr(options, "crops_per_volume", 1)
    if total is None:
        raise ArgumentError(
            "batch_size", AUTO, "there is no global_batch_size to keep", "--global_batch_size, or a number"
        )
    least = _views(options)
    sizes = [size for size in range(least, total // processes + 1) if total % (size * processes) == size % crops == 0]
    if not sizes:
        expected = f"a multiple of {math.lcm(least, crops) * processes}"
        raise ArgumentError("global_batch_size", total, expected=expected)
    return sizes


def _views(options: Options) -> int:
    """Return the number of views per crop: 2 in self-supervised training, otherwise 1."""
    return 2 if hasattr(options, "loss_weights") else 1


def _fits_on_gpu(config: Any, network: nn.Module, options: Options, size: int, device: torch.device) -> bool:
    """Return whether a step fits into memory; weights and buffers (running statistics) stay unchanged."""
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    torch.cuda.reset_peak_memory_stats(device)
    try:
        _try_step(config, network, options, size, device)
        room = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)  # the GPU may be shared
        is_fitting = torch.cuda.max_memory_reserved(device) <= SHARE * room
    except RuntimeError as error:
        if not lacks_gpu_memory(error):
            raise
        is_fitting = False
    for buffer, before in buffers:
        buffer.copy_(before)
    network.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()
    return is_fitting


def _try_step(config: Any, network: nn.Module, options: Options, size: int, device: torch.device) -> None:
    """Run a forward and backward pass of `size` crops of zeros, with memory reserved for the optimiser's moments."""
    dtype, loss = config.get_resolved_content("dtype"), config.get_resolved_content("loss")
    count = sum(parameter.numel() for parameter in network.parameters())
    moments = torch.zeros(MOMENTS, count, device=device)
    crops = torch.zeros(size, len(options.modalities), *options.patch_size)
    if _views(options) == 2:
        views = config.get_resolved_content("train::views")
        try:
            inputs, targets = views({"image": crops}, device)
        finally:
            views.restart()
        with without_gathering():  # a process without memory would leave the others waiting
            loss(in_precision(network, dtype)(inputs), targets)["total"].backward()
    else:
        prediction = in_precision(network, dtype)(crops.to(device))
        loss(prediction, torch.zeros_like(prediction)).backward()
    del moments


def _fitting_on_cpu(network: nn.Module, options: Options, sizes: Sequence[int], dtype: torch.dtype) -> list[int]:
    """Estimate which batch sizes fit into free memory; a trial could exhaust the machine's memory."""
    weights = sum(parameter.nbytes for parameter in network.parameters())
    edges = (len(options.modalities), *options.patch_size)
    bytes_per_crop = stored_activations(network, (_views(options), *edges), dtype)
    free = SHARE * free_memory()
    return [size for size in sizes if (2 + MOMENTS) * weights + size * bytes_per_crop <= free]


def stored_activations(network: nn.Module, shape: Sequence[int], dtype: torch.dtype) -> int:
    """Return the bytes that a forward pass stores for the backward pass, computed from shapes alone.

    All tensors count as `dtype`, although autocast keeps a few in float32.
    """
    stored: dict[int, tuple[torch.Tensor, int]] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        stored[storage._cdata] = (tensor, storage.nbytes())  # the kept tensor prevents reuse of this number
        return tensor

    on_meta = copy.deepcopy(network).to("meta", dtype).train()
    weights = {parameter.untyped_storage()._cdata for parameter in on_meta.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        on_meta(torch.empty(*shape, device="meta", dtype=dtype))
    return sum(size for number, (_, size) in stored.items() if number not in weights)
