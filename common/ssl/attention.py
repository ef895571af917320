"""Window attention without its scores in memory: MONAI's SwinUNETR, its parameters and its results, faster and smaller.

For the backward pass, MONAI's `WindowAttention` stores the scores of all pairs of tokens of all windows: most of what a
training needs. Here the scores are computed again, a few windows at a time, so that they stay in the processor's cache.
Without gradients, MONAI's own `use_flash_attention` does the same, and `common.ssl.networks` switches it on.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from math import ceil
from typing import Any, NamedTuple

import torch
from einops import rearrange
from monai.networks.nets.swin_unetr import BasicLayer, WindowAttention, get_window_size
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding, scaled_dot_product_attention

from ..errors import choice
from .layers import LAYERS

CHUNK = {"cpu": 2**20, "cuda": 2**28}  # bytes of scores computed at a time; on a CPU for each thread: half its L2 cache
MASKED = -100.0  # added to the scores of tokens that are no neighbours, as in MONAI's compute_mask


class ShiftedWindows(NamedTuple):
    """The windows of a rolled volume, in groups that share an attention mask.

    Only the last windows along an axis hold tokens of both ends of the volume, which must not see each other, so that
    there are at most eight groups. MONAI's `compute_mask` makes a mask for each window, 160 MiB at stage 1.

    Attributes:
        total: number of windows.
        order: raster numbers of the windows [windows], sorted so that those of a group follow each other.
        inverse: the place of each window in this order [windows].
        groups: start and stop of each group in this order, and its mask [n, n], None for a group that needs none.
    """

    total: int
    order: torch.Tensor
    inverse: torch.Tensor
    groups: list[tuple[int, int, torch.Tensor | None]]


@lru_cache(maxsize=64)
def shifted_windows(
    grid: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], device: torch.device
) -> ShiftedWindows:
    """Group the windows of a rolled volume.

    Args:
        grid: number of windows along each axis.
        window: edges of a window, in tokens.
        shift: tokens by which the volume was rolled along each axis.
        device: Device of the tensors.
    """
    members: dict[tuple[bool, ...], list[int]] = {}
    for number, place in enumerate(product(*map(range, grid))):
        is_last = tuple(at == count - 1 and by > 0 for at, count, by in zip(place, grid, shift, strict=True))
        members.setdefault(is_last, []).append(number)
    groups, start = [], 0
    with torch.inference_mode(False):  # what is kept may be used in a training later
        for is_last, numbers in members.items():
            mask = _mask(window, [by if last else 0 for by, last in zip(shift, is_last, strict=True)], device)
            groups.append((start, start + len(numbers), mask if any(is_last) else None))
            start += len(numbers)
        order = torch.tensor([number for numbers in members.values() for number in numbers]).to(device)
        return ShiftedWindows(start, order, torch.argsort(order), groups)


def _mask(window: Sequence[int], shift: Sequence[int], device: torch.device) -> torch.Tensor:
    """The mask added to the scores of a window if its last `shift` tokens along each axis come from the far end."""
    ends = [torch.arange(edge, device=device) >= edge - by for edge, by in zip(window, shift, strict=True)]
    tokens = torch.cartesian_prod(*ends)  # [n, axes]
    return MASKED * (tokens[:, None] != tokens).any(dim=2)


class RecomputedLayer(BasicLayer):
    """MONAI's `BasicLayer`; its blocks get `ShiftedWindows` in place of a mask for each window."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.use_hyena or x.ndim != 5:
            return super().forward(x)
        edges = tuple(map(int, x.shape[2:]))  # while it is traced, they are tensors
        window, shift = get_window_size(edges, self.window_size, self.shift_size)
        grid = tuple(ceil(edge / size) for edge, size in zip(edges, window, strict=True))
        windows = shifted_windows(grid, window, shift, x.device)
        x = rearrange(x, "b c d h w -> b d h w c")
        for block in self.blocks:
            x = block(x, windows)
        if self.downsample is not None:
            x = self.downsample(x)
        return rearrange(x, "b d h w c -> b c d h w")


class RecomputedAttention(WindowAttention):
    """MONAI's `WindowAttention` with scores that are computed again in the backward pass; the same on every run.

    Shapes:
        x [B * windows, n, c], the windows of each volume in raster order; the output is the same.
    """

    def forward(self, x: torch.Tensor, mask: ShiftedWindows | None) -> torch.Tensor:
        b, n, c = x.shape
        if mask is not None:
            volumes = x.view(-1, mask.total, n, c).transpose(0, 1)  # [windows, B, n, c]
            x = volumes.index_select(0, mask.order).reshape(b, n, c)
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4)
        # Indexing adds up the gradient in the order in which threads arrive; an embedding in one order on every run.
        bias = embedding(self.relative_position_index[:n, :n], self.relative_position_bias_table).permute(2, 0, 1)
        if mask is None:
            x = self.attend(q, k, v, bias)
        else:
            each = b // mask.total
            parts = [(slice(start * each, stop * each), added) for start, stop, added in mask.groups]
            x = torch.cat(
                [self.attend(q[at], k[at], v[at], bias if added is None else bias + added) for at, added in parts]
            )
        x = x.transpose(1, 2).reshape(b, n, c)
        if mask is not None:
            x = x.view(mask.total, -1, n, c).index_select(0, mask.inverse).transpose(0, 1).reshape(b, n, c)
        return self.proj_drop(self.proj(x))

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """softmax(scale q k^T + bias) v.

        Args:
            q: queries [windows, heads, n, channels].
            k: keys, of the same shape.
            v: values, of the same shape.
            bias: [heads, n, n].
        """
        has_dropout = self.training and self.attn_drop.p > 0
        if has_dropout or torch.jit.is_tracing() or torch.compiler.is_compiling():
            scores = self.scale * (q @ k.transpose(2, 3)) + bias
            return self.attn_drop(scores.softmax(dim=3)).to(v.dtype) @ v
        return _Recomputed.apply(q, k, v, bias, self.scale)


ATTENTION: dict[str, dict[type, type]] = {
    "stored": {BasicLayer: BasicLayer, WindowAttention: WindowAttention},
    "recomputed": {BasicLayer: RecomputedLayer, WindowAttention: RecomputedAttention},
}


def set_attention(
    network: nn.Module,
    attention: str = "recomputed",
    device: str | torch.device | None = None,
    memory_format: str = "contiguous_format",
) -> nn.Module:
    """Choose how MONAI's Swin transformers compute window attention; parameters, their names and results stay the same.

    Args:
        network: Network, changed in place; one without MONAI's `SwinTransformer` stays as it is.
        attention: Treatment of the scores until the backward pass: stored (MONAI's code) or recomputed.
        device: Device that the network is moved to; None leaves it where it is.
        memory_format: Memory format of the weights on that device: contiguous_format or channels_last_3d.

    Returns:
        The network.

    Raises:
        ArgumentError: `attention` is neither.
    """
    classes = choice("attention", attention, ATTENTION) | LAYERS
    for module in network.modules():
        for monai, ours in classes.items():
            if isinstance(module, monai):
                module.__class__ = ours
    return network if device is None else network.to(device, memory_format=getattr(torch, memory_format))


class _Recomputed(torch.autograd.Function):
    """Attention that keeps nothing but its inputs for the backward pass; see `RecomputedAttention.attend`."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor, scale: float) -> Any:
        ctx.save_for_backward(q, k, v, bias)
        ctx.scale = scale
        return scaled_dot_product_attention(q, k, v, attn_mask=bias.detach()[None].to(q.dtype), scale=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        q, k, v, bias = ctx.saved_tensors
        d_q, d_k, d_v = (each.new_empty(each.shape) for each in (q, k, v))
        d_bias = torch.zeros_like(bias, dtype=torch.float32)
        for at in _chunks(q):
            queries, keys, values, grads = (each[at].flatten(0, 1) for each in (q, k, v, grad))
            heads = bias[at[1]]
            of_windows = heads.to(q.dtype).expand(len(queries) // len(heads), *heads.shape)
            scores = torch.baddbmm(of_windows.flatten(0, 1), queries, keys.transpose(1, 2), alpha=ctx.scale)
            weights = scores.softmax(dim=2, dtype=torch.float32)
            d_weights = torch.bmm(grads, values.transpose(1, 2)).float()
            d_scores = torch._softmax_backward_data(d_weights, weights, 2, torch.float32)
            d_heads = d_scores.view_as(of_windows)
            d_bias[at[1]] += d_heads.sum(dim=0) if len(d_heads) > 1 else d_heads[0]
            d_scores = d_scores.to(q.dtype)
            shape = d_q[at].shape
            d_q[at] = torch.bmm(d_scores, keys).mul_(ctx.scale).view(shape)
            d_k[at] = torch.bmm(d_scores.transpose(1, 2), queries).mul_(ctx.scale).view(shape)
            d_v[at] = torch.bmm(weights.to(v.dtype).transpose(1, 2), grads).view(shape)
        return d_q, d_k, d_v, d_bias.to(bias.dtype), None


def _chunks(q: torch.Tensor) -> Iterator[tuple[slice, slice]]:
    """Windows and heads [windows, heads, n, channels] whose scores take `CHUNK` bytes at most, or those of one head."""
    windows, heads, n, _ = q.shape
    size = CHUNK["cpu"] * torch.get_num_threads() if q.device.type == "cpu" else CHUNK["cuda"]
    most = max(1, size // (4 * n * n))  # heads of one window, or of several
    windows_at_once, heads_at_once = max(1, most // heads), min(heads, most)
    for window in range(0, windows, windows_at_once):
        for head in range(0, heads, heads_at_once):
            yield slice(window, window + windows_at_once), slice(head, head + heads_at_once)
