"""TransBTS: a convolutional encoder and decoder with a transformer between them."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from einops import rearrange
from monai.networks.blocks.mlp import MLPBlock
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

BLOCKS = (1, 2, 2, 4)  # residual blocks per encoder level
GROUPS = 8  # groups of the encoder's group norm

_convolution = partial(nn.Conv3d, kernel_size=3, padding=1)


class TransBTS(nn.Module):
    """TransBTS (Wang et al., MICCAI 2021, <https://arxiv.org/abs/2103.04430>), with logits as output.

    The encoder halves the edges three times; a convolution turns the features into tokens of 8 x 8 x 8 voxels, which a
    transformer processes; the decoder doubles the edges three times, with skip connections. The linear encoding and the
    last layer norm of the authors' public network do not affect its output and are left out (DIFF-30).

    Positions are learned for the input size `patch_size` only, in voxels, multiples of 8. The first level has `width`
    filters, a multiple of 8; a token has the length `embedding`, a multiple of `heads`; `hidden` is the width of the
    transformer's feed-forward network. Defaults are the paper's and its public code's.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        patch_size: Sequence[int] = (128, 128, 128),
        width: int = 16,
        embedding: int = 512,
        layers: int = 4,
        heads: int = 8,
        hidden: int = 4096,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(len(BLOCKS))]
        self.first = _convolution(in_channels, width)
        self.first_dropout = nn.Dropout3d(0.2)
        self.levels = nn.ModuleList(
            nn.Sequential(*(_encoder_block(filters) for _ in range(count)))
            for filters, count in zip(widths, BLOCKS, strict=True)
        )
        self.halvings = nn.ModuleList(_convolution(before, after, stride=2) for before, after in pairwise(widths))
        self.projection = nn.Sequential(nn.BatchNorm3d(widths[-1]), nn.ReLU(), _convolution(widths[-1], embedding))
        self.positions = nn.Parameter(torch.zeros(1, embedding, *(edge // 8 for edge in patch_size)))
        self.positions_dropout = nn.Dropout(dropout)
        self.transformer = nn.Sequential(*(TransformerLayer(embedding, heads, hidden, dropout) for _ in range(layers)))
        self.mapping = nn.Sequential(
            _convolutions(embedding, widths[-1]), _Residual(_convolutions(widths[-1], widths[-1]))
        )
        self.doublings = nn.ModuleList(_doubling(before, after) for before, after in pairwise(widths[::-1]))
        self.blocks = nn.ModuleList(_Residual(_convolutions(filters, filters)) for filters in widths[-2::-1])
        self.out = nn.Conv3d(width, out_channels, kernel_size=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.levels[0](self.first_dropout(self.first(image)))
        skips = []
        for halving, level in zip(self.halvings, self.levels[1:], strict=True):
            skips.append(features)
            features = level(halving(features))
        features = self.projection(features) + self.positions
        tokens = self.positions_dropout(features.flatten(2).transpose(1, 2))  # [B, tokens, embedding]
        tokens = self.transformer(tokens)
        features = self.mapping(tokens.transpose(1, 2).reshape(features.shape))
        for doubling, block in zip(self.doublings, self.blocks, strict=True):
            doubled = doubling["upsample"](doubling["narrow"](features))
            features = block(doubling["join"](torch.cat([skips.pop(), doubled], dim=1)))
        return self.out(features)


class _Residual(nn.Module):
    """Add the output of a block to its input."""

    def __init__(self, block: nn.Sequential) -> None:
        super().__init__()
        self.block = block

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.block(features)


def _encoder_block(filters: int) -> _Residual:
    """Return a residual block with normalisation and activation before each convolution."""
    first, second = ([nn.GroupNorm(GROUPS, filters), nn.ReLU(), _convolution(filters, filters)] for _ in range(2))
    return _Residual(nn.Sequential(*first, *second))


def _convolutions(before: int, after: int) -> nn.Sequential:
    """Return two convolutions, each followed by batch norm and activation."""
    first = [_convolution(before, after), nn.BatchNorm3d(after), nn.ReLU()]
    return nn.Sequential(*first, _convolution(after, after), nn.BatchNorm3d(after), nn.ReLU())


def _doubling(before: int, after: int) -> nn.ModuleDict:
    """Return layers that reduce the filters, double each edge, and join the encoder's features of the same size."""
    layers = {
        "narrow": nn.Conv3d(before, after, kernel_size=1),
        "upsample": nn.ConvTranspose3d(after, after, kernel_size=2, stride=2),
        "join": nn.Conv3d(2 * after, after, kernel_size=1),
    }
    return nn.ModuleDict(layers)


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward network on tokens [B, tokens, embedding], after layer norms, with residuals.

    MONAI's `TransformerBlock` adds an unused layer norm for cross-attention, which DistributedDataParallel refuses, and
    its `SABlock` stores weights or drops out in evaluation.
    """

    def __init__(self, embedding: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm = nn.LayerNorm(embedding)
        qkv = nn.Linear(embedding, 3 * embedding, bias=False)
        out = nn.Sequential(nn.Linear(embedding, embedding), nn.Dropout(dropout))
        self.attention = nn.ModuleDict({"qkv": qkv, "out": out})
        self.mlp_norm = nn.LayerNorm(embedding)
        self.mlp = MLPBlock(embedding, hidden, dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        qkv = self.attention["qkv"](self.attention_norm(tokens))
        query, key, value = rearrange(qkv, "b n (part heads e) -> part b heads n e", part=3, heads=self.heads)
        dropout = self.dropout if self.training else 0.0
        attended = scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        tokens = tokens + self.attention["out"](rearrange(attended, "b heads n e -> b n (heads e)"))
        return tokens + self.mlp(self.mlp_norm(tokens))
