"""Whether a fine-tuning step fits into memory (by trial on a GPU, by an estimate on a CPU), and how long it takes."""

import copy
import re
import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.errors import lacks_gpu_memory
from common.options import Options
from common.ssl.networks import in_precision

SHARE = 0.85  # fraction of memory for a step; the rest is for validation and fragmentation
MOMENTS = 2  # AdamW's moments of each weight


def fitting_sizes(config: Any, network: nn.Module, options: Options, sizes: Sequence[int]) -> list[int]:
    """Return the batch sizes among `sizes`, in ascending order, that fit into the memory of `options.device`.

    `config` is the resolver of a fine-tuning's config, `network` the config's network.
    """
    device = torch.device(options.device)
    if device.type == "cuda":
        return [*takewhile(lambda size: _fits_on_gpu(config, network, options, size, device), sizes)]
    weights = sum(parameter.nbytes for parameter in network.parameters())
    shape = (1, len(options.modalities), *options.patch_size)
    per_crop = stored_activations(network, shape, config.get_resolved_content("dtype"))
    return [size for size in sizes if (2 + MOMENTS) * weights + size * per_crop <= SHARE * free_memory()]


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


def _fits_on_gpu(config: Any, network: nn.Module, options: Options, size: int, device: torch.device) -> bool:
    torch.cuda.reset_peak_memory_stats(device)
    try:
        _try_step(config, network, options, size, device)
    except RuntimeError as error:
        if not lacks_gpu_memory(error):  # cuBLAS and cuDNN have no exception of their own for it
            raise
        return False
    finally:
        network.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
    room = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)  # the GPU may be shared
    return torch.cuda.max_memory_reserved(device) <= SHARE * room


def _try_step(config: Any, network: nn.Module, options: Options, size: int, device: torch.device) -> None:
    """Run a forward and backward pass of `size` crops of zeros, with memory reserved for the optimiser's moments."""
    count = sum(parameter.numel() for parameter in network.parameters())
    moments = torch.zeros(MOMENTS, count, device=device)
    crops = torch.zeros(size, len(options.modalities), *options.patch_size, device=device)
    prediction = in_precision(network, config.get_resolved_content("dtype"))(crops)
    config.get_resolved_content("loss")(prediction, torch.zeros_like(prediction)).backward()
    del moments


def free_memory() -> int:
    """Return the free memory in bytes: of the host, or of the container or SLURM job (cgroup 2) of this process."""
    sizes = dict(re.findall(r"^(\w+):\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE))
    free = [1024 * int(sizes["MemAvailable"])]
    membership = re.findall(r"^0::/(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
    path = Path("/sys/fs/cgroup", *membership)
    for folder in (path, *path.parents):
        limit = folder / "memory.max"
        if limit.is_file() and (most := limit.read_text().strip()).isdecimal():
            cache = re.findall(r"^inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
            free.append(int(most) - int((folder / "memory.current").read_text()) + sum(map(int, cache)))
    return min(free)


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
