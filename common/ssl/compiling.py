"""Compile blocks of a network with `torch.compile`, which fuses their kernels."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from monai.networks.blocks import UnetResBlock
from monai.networks.nets.swin_unetr import SwinTransformerBlock
from torch import nn

from ..errors import show

BLOCKS = (SwinTransformerBlock, UnetResBlock)
GRAPHS = 64  # limit per block class: four stages, shifted or not, with gradients or not, several numbers of windows


def compile_blocks(network: nn.Module, wanted: bool | str, backend: str = "inductor") -> None:
    """Compile the Swin and residual blocks of a network in place; parameters and their names stay the same.

    Blocks of the same class and shape share a graph; shapes are static. CUDA graphs (mode `reduce-overhead`) are not
    used: each call overwrites the previous outputs, which several blocks, accumulated batches, checkpointed activations
    and DistributedDataParallel still need. A failed compilation prints a warning, and later blocks run uncompiled. With
    `wanted` "auto", blocks are compiled only on a GPU that Triton supports.
    """
    if wanted == "auto":
        wanted = _has_triton(next(network.parameters()).device)
    if not wanted:
        return
    compiler = _with_fallback(backend)
    for module in network.modules():
        if isinstance(module, BLOCKS):
            module.compile(backend=compiler, dynamic=False, recompile_limit=GRAPHS)


def _has_triton(device: torch.device) -> bool:
    return (
        device.type == "cuda" and find_spec("triton") is not None and torch.cuda.get_device_capability(device)[0] >= 7
    )


def _with_fallback(backend: str) -> Callable[..., Any]:
    """Return a backend that, once a compilation has failed, runs all graphs uncompiled."""
    failures: list[Exception] = []

    def compiled(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        if not failures:
            try:
                with torch._functorch.config.patch(force_non_lazy_backward_lowering=True):  # now, inside `try`
                    return torch._dynamo.lookup_backend(backend)(graph, inputs)
            except Exception as error:  # any compiler, library or driver may fail; training works without
                failures.append(error)
                reason = next(iter(str(error).splitlines()), "")
                show(f"warning: torch.compile failed ({type(error).__name__}: {reason}); the network runs uncompiled")
        return graph.forward

    return compiled
