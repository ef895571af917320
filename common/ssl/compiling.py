"""Compilation of a network's blocks by `torch.compile`, which fuses their kernels."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from monai.networks.blocks import UnetResBlock
from monai.networks.nets.swin_unetr import SwinTransformerBlock
from torch import nn

from ..errors import show

BLOCKS = (SwinTransformerBlock, UnetResBlock)
GRAPHS = 64  # at most, of a kind of block: four stages, shifted or not, with gradients or not, each number of windows


def compile_blocks(network: nn.Module, wanted: bool | str, backend: str = "inductor") -> None:
    """Compile the Swin and residual blocks of a network in place; parameters and their names stay the same.

    Blocks of the same kind and shape share a graph. Shapes are fixed. CUDA graphs, of the mode `reduce-overhead`, are
    left out: they overwrite their outputs at the next call, and several blocks, accumulated batches, checkpointed
    activations and DistributedDataParallel use them later. A block that cannot be compiled runs as it is, and so do all
    after it; one line says so.

    Args:
        network: Network on its device.
        wanted: Whether to compile; auto: on a GPU for which Triton makes kernels.
        backend: Backend of `torch.compile`.
    """
    if wanted == "auto":
        wanted = _has_triton(next(network.parameters()).device)
    if not wanted:
        return
    compiler = _or_eager(backend)
    for module in network.modules():
        if isinstance(module, BLOCKS):
            module.compile(backend=compiler, dynamic=False, recompile_limit=GRAPHS)


def _has_triton(device: torch.device) -> bool:
    return (
        device.type == "cuda" and find_spec("triton") is not None and torch.cuda.get_device_capability(device)[0] >= 7
    )


def _or_eager(backend: str) -> Callable[..., Any]:
    """A backend that runs a graph as it is once a compilation has failed."""
    failures: list[Exception] = []

    def compiled(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        if not failures:
            try:
                with torch._functorch.config.patch(force_non_lazy_backward_lowering=True):  # here, where it may fail
                    return torch._dynamo.lookup_backend(backend)(graph, inputs)
            except Exception as error:  # of any compiler, library or driver: training needs none of them
                failures.append(error)
                reason = next(iter(str(error).splitlines()), "")
                show(f"warning: torch.compile failed ({type(error).__name__}: {reason}); the network runs uncompiled")
        return graph.forward

    return compiled
