"""Layers of MONAI's SwinUNETR that are faster or need less memory, with the same parameters, names and results.

For the backward pass, MONAI's `WindowAttention` stores the scores of all token pairs in all windows, which take most of
the memory in training. On a GPU, one PyTorch kernel computes attention and its gradients instead (fused). CPUs lack
this kernel; there, the backward pass computes the scores again, in chunks that fit into the processor's cache
(recomputed).
"""

from collections.abc import Iterator
from functools import lru_cache
from math import ceil
from typing import Any

import torch
from einops import rearrange
from monai.networks.blocks import UnetResBlock
from monai.networks.nets.swin_unetr import (
    BasicLayer,
    PatchMerging,
    SwinTransformerBlock,
    WindowAttention,
    get_window_size,
    window_partition,
)
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding, pad, scaled_dot_product_attention

from ..errors import choice

CHUNK = {"cpu": 2**20, "cuda": 2**28}  # bytes of scores computed at a time; CPU: per thread, half of its L2 cache
ALIGNED = 8  # elements; PyTorch's memory-efficient kernel needs channels and rows of the bias at multiples of this
APART = 16.0  # code value; lowers the scores of non-neighbours by 2 x 16^2 x scale, 128 for 16 channels; MONAI: 100
GRAPHS = 64  # limit per block class: four stages, shifted or not, with gradients or not, several numbers of windows


class Merging(PatchMerging):
    """MONAI's `PatchMerging` since 1.5, for even edges: two copies, not eight slices with 31 reads for the gradient."""

    merging = "monai_1_5"
    slices = (0, 1, 2, 4, 3, 5, 6, 7)  # 000, 100, 010, 001, 110, 101, 011, 111 among 000, 100, 010, 110, 001, ...

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = rearrange(x, "b (d i) (h j) (w k) c -> b d h w (k j i) c", i=2, j=2, k=2)
        return self.reduction(self.norm(x.index_select(4, _indices(self.slices, x.device)).flatten(start_dim=4)))


class EarlierMerging(Merging):
    """`PatchMerging` of MONAI up to 1.4, which reads two of the eight neighbours twice and two never (DIFF-38)."""

    merging = "monai_1_4"
    slices = (0, 1, 2, 4, 5, 2, 4, 7)  # 000, 100, 010, 001, 101, 010, 001, 111


MERGINGS = {layer.merging: layer for layer in (EarlierMerging, Merging)}


@lru_cache
def _indices(slices: tuple[int, ...], device: torch.device) -> torch.Tensor:
    with torch.inference_mode(False):  # a cached inference tensor could not be used in training
        return torch.tensor(slices, device=device)


class InstanceNorm(nn.InstanceNorm3d):
    """PyTorch's `InstanceNorm3d`, with an output that autograd does not treat as a view.

    In-place operations of MONAI's blocks then copy no gradients.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.aten._unsafe_view(super().forward(x), x.shape)


@lru_cache(maxsize=64)
def window_codes(
    grid: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], device: torch.device
) -> torch.Tensor:
    """Return extra query and key channels that stop tokens at one edge of a volume from attending to the opposite edge.

    MONAI's `compute_mask` adds -100 to the scores of token pairs from opposite edges, with a mask for each window (160
    MiB at stage 1). The scaled product of these channels is at most -64 for such pairs, with up to 64 channels per
    head, and exactly 0 for true neighbours, so all windows share one bias.

    `grid` counts the windows along each axis; `window` size and `shift` (roll of the volume) are in tokens. Return
    channels of queries and keys [2, windows, n, 8].
    """
    with torch.inference_mode(False):  # a cached inference tensor could not be used in training
        edges = [count * size for count, size in zip(grid, window, strict=True)]
        ends = [torch.arange(edge, device=device) >= edge - by for edge, by in zip(edges, shift, strict=True)]
        sides = 1.0 - 2.0 * torch.stack(torch.meshgrid(*ends, indexing="ij"), dim=-1).float()  # [*edges, axes]
        sides = APART * window_partition(sides[None], window)
        apart = torch.full_like(sides, APART)
        pairs = [torch.stack([sides, sign * apart], dim=3).flatten(2) for sign in (1, -1)]  # s, 1 and s', -1
        return pad(torch.stack(pairs), (0, ALIGNED - 2 * len(grid)))


class CodedLayer(BasicLayer):
    """MONAI's `BasicLayer`, with `window_codes` for its blocks instead of a mask for each window."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        edges = tuple(x.shape[2:])
        window, shift = get_window_size(edges, self.window_size, self.shift_size)
        grid = tuple(ceil(edge / size) for edge, size in zip(edges, window, strict=True))
        codes = window_codes(grid, window, shift, x.device)
        x = rearrange(x, "b c d h w -> b d h w c")
        for block in self.blocks:
            x = block(x, codes)
        if self.downsample is not None:
            x = self.downsample(x)
        return rearrange(x, "b d h w c -> b c d h w")


class FusedAttention(WindowAttention):
    """MONAI's `WindowAttention` in one call of PyTorch's `scaled_dot_product_attention` for all windows.

    Shapes:
        x [B * windows, n, c], the windows of each volume in raster order; the output has the same shape.
        mask [2, windows, n, 8] from `window_codes`; None if the volume is not rolled.
    """

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4)
        if mask is None:
            q, k, v = qkv.unbind()
        else:
            qk, (v,) = qkv.split([2, 1])
            qk = qk.unflatten(1, (-1, mask.shape[1]))  # [2, B, windows, heads, n, channels]
            codes = mask.to(qk.dtype)[:, None, :, None].expand(*qk.shape[:-1], -1)
            q, k = torch.cat([codes, qk], dim=5).flatten(1, 2).unbind()
        x = self.attend(q, k, v, self.aligned_bias(n, q.dtype)).transpose(1, 2).reshape(b, n, c)
        return self.proj_drop(self.proj(x))

    def aligned_bias(self, n: int, dtype: torch.dtype) -> torch.Tensor:
        """Return the relative position bias [1, heads, n, n], with rows at multiples of `ALIGNED` elements.

        PyTorch's memory-efficient kernel rejects or copies unaligned rows.
        """
        # Reproducible gradients: that of indexing is a sum in varying order
        index = pad(self.relative_position_index[:n, :n], (0, -n % ALIGNED))
        bias = embedding(index, self.relative_position_bias_table).permute(2, 0, 1)
        return bias.to(dtype).contiguous()[None, :, :, :n]

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Return softmax(scale q k^T + bias) v, with dropout in training.

        q, k (with the channels of `window_codes`) and v: [windows, heads, n, channels]; bias: [1, heads, n, n].
        """
        dropout = self.attn_drop.p if self.training else 0.0
        return scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=self.scale)


class RecomputedAttention(FusedAttention):
    """`FusedAttention` that computes the scores again in the backward pass, with reproducible gradients."""

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        has_dropout = self.training and self.attn_drop.p > 0
        if has_dropout or torch.compiler.is_compiling():
            return super().attend(q, k, _widened(v, q), bias)[..., : v.shape[3]]
        return _Recomputed.apply(q, k, v, bias, self.scale)


ATTENTION: dict[str, dict[type, type]] = {
    "stored": {kind: kind for kind in (BasicLayer, WindowAttention, nn.InstanceNorm3d)},
    "recomputed": {BasicLayer: CodedLayer, WindowAttention: RecomputedAttention, nn.InstanceNorm3d: InstanceNorm},
    "fused": {BasicLayer: CodedLayer, WindowAttention: FusedAttention, nn.InstanceNorm3d: InstanceNorm},
}


def set_attention(
    network: nn.Module,
    attention: str = "auto",
    device: str | torch.device | None = None,
    memory_format: str = "contiguous_format",
    compiled: bool = False,
) -> nn.Module:
    """Choose how a network's Swin transformers compute window attention; parameters, names and results stay the same.

    `attention` handles the scores: stored (MONAI's code), recomputed, fused (one PyTorch kernel; on a CPU it stores the
    scores), or auto: fused on a GPU whose kernel supports the network's heads, otherwise recomputed. The network is
    changed in place; first, it is moved to `device`, if given, in the `memory_format` contiguous_format or
    channels_last_3d. `compiled` networks have compiled blocks; see `compile_blocks`.
    """
    network = network if device is None else network.to(device, memory_format=getattr(torch, memory_format))
    classes = choice("attention", attention, {"auto": ATTENTION[_automatic(network)], **ATTENTION})
    for module in network.modules():
        for original, replacement in classes.items():
            if isinstance(module, original):
                module.__class__ = replacement
    if compiled:
        compile_blocks(network)
    return network


def compile_blocks(network: nn.Module, backend: str = "inductor") -> None:
    """Compile the Swin and residual blocks of a network in place with `torch.compile`, which fuses their kernels.

    Blocks of the same class and shape share a graph; shapes are static. CUDA graphs (mode `reduce-overhead`) are not
    used: each call overwrites the previous outputs, which several blocks, accumulated batches, checkpointed activations
    and DistributedDataParallel still need.
    """
    for module in network.modules():
        if isinstance(module, (SwinTransformerBlock, UnetResBlock)):
            module.compile(backend=backend, dynamic=False, recompile_limit=GRAPHS)


def _automatic(network: nn.Module) -> str:
    """Return the attention that auto selects for a network."""
    heads = [layer.dim // layer.num_heads for layer in network.modules() if isinstance(layer, WindowAttention)]
    is_on_gpu = any(parameter.is_cuda for parameter in network.parameters())
    return "fused" if is_on_gpu and all(channels % ALIGNED == 0 for channels in heads) else "recomputed"


class _Recomputed(torch.autograd.Function):
    """`FusedAttention.attend`, saving only its inputs for the backward pass."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor, scale: float) -> Any:
        ctx.save_for_backward(q, k, v, bias)
        ctx.scale = scale
        wide = _widened(v, q)
        return scaled_dot_product_attention(q, k, wide, attn_mask=bias.detach(), scale=scale)[..., : v.shape[3]]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        q, k, v, bias = ctx.saved_tensors
        d_q, d_k, d_v = (tensor.new_empty(tensor.shape) for tensor in (q, k, v))
        exact = torch.promote_types(q.dtype, torch.float32)
        d_bias = torch.zeros(bias.shape[1:], dtype=exact, device=bias.device)
        for chunk in _chunks(q):
            queries, keys, values, grads = (tensor[chunk].flatten(0, 1) for tensor in (q, k, v, grad))
            heads = bias[0, chunk[1]]
            repeated = heads.expand(len(queries) // len(heads), *heads.shape)
            scores = torch.baddbmm(repeated.flatten(0, 1), queries, keys.transpose(1, 2), alpha=ctx.scale)
            weights = scores.softmax(dim=2, dtype=exact)
            d_weights = torch.bmm(grads, values.transpose(1, 2)).to(exact)
            d_scores = torch._softmax_backward_data(d_weights, weights, 2, exact)
            d_heads = d_scores.view_as(repeated)
            d_bias[chunk[1]] += d_heads.sum(dim=0) if len(d_heads) > 1 else d_heads[0]
            d_scores = d_scores.to(q.dtype)
            d_q[chunk] = torch.bmm(d_scores, keys).mul_(ctx.scale).view(d_q[chunk].shape)
            d_k[chunk] = torch.bmm(d_scores.transpose(1, 2), queries).mul_(ctx.scale).view(d_k[chunk].shape)
            d_v[chunk] = torch.bmm(weights.to(v.dtype).transpose(1, 2), grads).view(d_v[chunk].shape)
        return d_q, d_k, d_v, d_bias[None].to(bias.dtype), None


def _widened(v: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Return values with as many channels as queries: otherwise, PyTorch's CPU kernel would not be used."""
    return v if v.shape == q.shape else pad(v, (0, ALIGNED))


def _chunks(q: torch.Tensor) -> Iterator[tuple[slice, slice]]:
    """Yield slices of windows and heads of q [windows, heads, n, channels], each with up to `CHUNK` bytes of scores."""
    windows, heads, n, _ = q.shape
    size = CHUNK["cpu"] * torch.get_num_threads() if q.device.type == "cpu" else CHUNK["cuda"]
    max_heads = max(1, size // (4 * n * n))  # over all windows of a chunk
    windows_at_once, heads_at_once = max(1, max_heads // heads), min(heads, max_heads)
    for window in range(0, windows, windows_at_once):
        for head in range(0, heads, heads_at_once):
            yield slice(window, window + windows_at_once), slice(head, head + heads_at_once)
