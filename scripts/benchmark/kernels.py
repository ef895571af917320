"""Count an optimiser step's GPU kernels and host waits (the CPU waits for a value from the GPU), without a GPU.

A step runs on PyTorch's `meta` device, whose tensors have shapes but no values. As on a GPU, each ATen operation except
a view counts as a kernel, and each read of a value counts as a wait. Operations on host tensors are not counted.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from common.ssl.attention import ATTENTION
from scripts.benchmark.step import EDGE, SIZE, WORKS, one_step

DEVICE = "meta"
ATEN = torch.ops.aten
NO_KERNEL = {  # like views: operations that only allocate memory or return their argument
    ATEN.empty.memory_format,
    ATEN.empty_like.default,
    ATEN.empty_strided.default,
    ATEN.new_empty.default,
    ATEN.new_empty_strided.default,
    ATEN._unsafe_view.default,
}


class Counted(NamedTuple):
    """Numbers of kernels, and of waits of the CPU for a value from the GPU, by operation."""

    kernels: Counter[str]
    waits: Counter[str]


def count(run: Callable[[], Any]) -> Counted:
    """Count the kernels and host waits of `run` on PyTorch's `meta` device; a value read from the device is always 1.

    As on a GPU, attention is a single kernel, and optimisers and gradient norms process lists of tensors.
    """
    counter, foreach = _Count(), [*_foreach_utils._get_foreach_kernels_supported_devices(), DEVICE]
    with ExitStack() as stack:
        stack.enter_context(patch.object(_foreach_utils, "_get_foreach_kernels_supported_devices", lambda: foreach))
        stack.enter_context(patch.object(torch, "Generator", lambda *_, make=torch.Generator, **__: make()))
        stack.enter_context(_FusedAttention())
        stack.enter_context(counter)
        run()
    return counter.counted


def kernels() -> dict[str, dict[str, Counted]]:
    """Return counts by task (`WORKS`) and code: the stock code, and ours with each value of the option `attention`."""
    codes = ["stock", *(f"ours {attention}" for attention in ATTENTION)]
    return {work: {code: second_step(work, code, SIZE, EDGE) for code in codes} for work in WORKS}


def second_step(work: str, code: str, size: str, edge: int) -> Counted:
    """Count the kernels and host waits of the second optimiser step, after the first filled caches; see `one_step`."""
    run = one_step(work, code, DEVICE, "float32", size, edge)
    count(run)
    return count(run)


def table(works: dict[str, dict[str, Counted]]) -> list[str]:
    """Return the counts as lines of a Markdown table."""
    rows = ["| step | kernels | ratio to stock | host waits |", "|---|---|---|---|"]
    for work, variants in works.items():
        stock = sum(variants["stock"].kernels.values())
        for code, (started, waits) in variants.items():
            total = sum(started.values())
            name = f"{work.replace('_', '-')}: {code}"
            rows.append(f"| {name} | {total:,} | {total / stock:.2f} | {sum(waits.values())} |")
    return rows


class _Count(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counted = Counted(Counter(), Counter())

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        reads = _is_on_device(args, kwargs)
        if reads and operation in (ATEN._local_scalar_dense.default, ATEN.equal.default):
            self.counted.waits[operation.name()] += 1
            return torch.ones((), dtype=args[0].dtype).item()
        if reads and operation is ATEN._to_copy.default and torch.device(kwargs.get("device", DEVICE)).type == "cpu":
            result = torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
            return self._count_copy("to host", result, is_waiting=True)
        result = operation(*args, **kwargs)
        if operation is ATEN._to_copy.default and not reads and _is_on_device(result):
            return self._count_copy("to device", result, is_waiting=not kwargs.get("non_blocking"))
        if operation is ATEN.copy_.default and _is_on_device(args[0]) != _is_on_device(args[1]):
            return self._count_copy("between", result, is_waiting=not (len(args) > 2 and args[2]))
        if (reads or _is_on_device(result)) and not operation.is_view and operation not in NO_KERNEL:
            self.counted.kernels[operation.name()] += 1
        return result

    def _count_copy(self, direction: str, result: Any, is_waiting: bool) -> Any:
        self.counted.kernels[f"copy {direction}"] += 1
        self.counted.waits[f"copy {direction}"] += is_waiting
        return result


class _FusedAttention(TorchFunctionMode):
    """Runs attention as a single kernel, as on a GPU; on `meta`, PyTorch would split it."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.nn.functional.scaled_dot_product_attention and _is_on_device(args):
            return _attention(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _attention(q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: float = 0, scale: Any = None, **_: Any) -> Any:
    bias = None if attn_mask is None else attn_mask.expand(*q.shape[:-1], k.shape[-2])
    needs_gradient = torch.is_grad_enabled() and q.requires_grad
    return ATEN._scaled_dot_product_efficient_attention(q, k, v, bias, needs_gradient, dropout_p, scale=scale)[0]


def _is_on_device(*values: Any) -> bool:
    return any(isinstance(leaf, torch.Tensor) and leaf.device.type == DEVICE for leaf in tree_leaves(values))
