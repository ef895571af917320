"""TransBTS: a convolutional encoder and decoder with a transformer between them."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.blocks.mlp import MLPBlock
from torch import nn
from torch.nn import functional as F

from ..errors import ArgumentError

BLOCKS = (1, 2, 2, 4)  # residual blocks per encoder level
STRIDE = 8  # voxels; edge of a token, from three steps of stride 2
GROUPS = 8  # groups of the encoder's group norm


class TransBTS(nn.Module):
    """TransBTS (Wang et al., MICCAI 2021, <https://arxiv.org/abs/2103.04430>), with logits as output.

    The encoder (in the paper: 3D CNN) halves the edges three times. A convolution turns the features into tokens of
    8 x 8 x 8 voxels (linear projection), the transformer adds learned positions to the tokens and processes them, and
    two blocks reduce the channels (feature mapping). The decoder doubles the edges three times, each time with the
    encoder's features of the same size (skip connections).

    With 4 modalities, 4 classes and inputs of 128^3 voxels, the network has 32,723,908 parameters. The authors' public
    network has 32,987,588: its linear encoding (262,656) and last layer norm (1,024) do not affect the output and are
    left out. DIFF-30 lists further departures.

    Args:
        in_channels: Number of modalities.
        out_channels: Number of regions.
        patch_size: Edges of the input in voxels, multiples of 8; positions are learned for this size only.
        width: Filters of the first level (paper: 16), a multiple of 8.
        embedding: Length of a token (paper: d = 512), a multiple of `heads`.
        layers: Layers of the transformer (paper: L = 4).
        heads: Attention heads (paper: 8).
        hidden: Width of the transformer's feed-forward network (public code: 4,096).
        dropout: Dropout in the transformer and after the positions, from 0 to 1 (public code: 0.1).

    Shapes:
        input [B, in_channels, *patch_size], output [B, out_channels, *patch_size] (logits).

    Raises:
        ArgumentError: The input of `forward` has a different size.

    Example:
        >>> TransBTS(4, 3, (64, 64, 64), width=8, embedding=64)(torch.rand(1, 4, 64, 64, 64)).shape
        torch.Size([1, 3, 64, 64, 64])
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
        self.patch_size = tuple(patch_size)
        self.first = nn.Conv3d(in_channels, width, kernel_size=3, padding=1)
        self.first_dropout = nn.Dropout3d(0.2)
        self.levels = nn.ModuleList(
            nn.Sequential(*(_EncoderBlock(filters) for _ in range(count)))
            for filters, count in zip(widths, BLOCKS, strict=True)
        )
        self.halvings = nn.ModuleList(
            nn.Conv3d(before, after, kernel_size=3, stride=2, padding=1) for before, after in pairwise(widths)
        )
        self.projection = nn.Sequential(
            nn.BatchNorm3d(widths[-1]), nn.ReLU(), nn.Conv3d(widths[-1], embedding, kernel_size=3, padding=1)
        )
        self.positions = nn.Parameter(torch.zeros(1, embedding, *(edge // STRIDE for edge in patch_size)))
        self.positions_dropout = nn.Dropout(dropout)
        self.transformer = nn.Sequential(*(TransformerLayer(embedding, heads, hidden, dropout) for _ in range(layers)))
        self.mapping = nn.Sequential(_convolutions(embedding, widths[-1]), _DecoderBlock(widths[-1]))
        self.doublings = nn.ModuleList(_Doubling(before, after) for before, after in pairwise(widths[::-1]))
        self.blocks = nn.ModuleList(_DecoderBlock(filters) for filters in widths[-2::-1])
        self.out = nn.Conv3d(width, out_channels, kernel_size=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if tuple(image.shape[2:]) != self.patch_size:
            shape = list(image.shape[2:])
            raise ArgumentError("image", shape, expected=f"the network's patch_size={list(self.patch_size)}")
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
            features = block(doubling(features, skips.pop()))
        return self.out(features)


class _EncoderBlock(nn.Module):
    """Residual block with normalisation and activation before each convolution."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.GroupNorm(GROUPS, filters),
            nn.ReLU(),
            nn.Conv3d(filters, filters, kernel_size=3, padding=1),
            nn.GroupNorm(GROUPS, filters),
            nn.ReLU(),
            nn.Conv3d(filters, filters, kernel_size=3, padding=1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.block(features)


class Attention(nn.Module):
    """Multi-head self-attention of tokens [B, tokens, embedding], with dropout only in training.

    MONAI's `SABlock` applies dropout even in evaluation with flash attention, and without flash attention stores
    4,096 x 4,096 attention weights per head.
    """

    def __init__(self, embedding: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(embedding, 3 * embedding, bias=False)
        self.out = nn.Sequential(nn.Linear(embedding, embedding), nn.Dropout(dropout))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(tokens).chunk(3, 2)
        )
        dropped = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropped)  # [B, heads, tokens, E / heads]
        return self.out(attended.transpose(1, 2).flatten(2))


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward network, each after a layer norm and with a residual connection.

    MONAI's `TransformerBlock` adds an unused layer norm for cross-attention, which DistributedDataParallel refuses.
    """

    def __init__(self, embedding: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(embedding)
        self.attention = Attention(embedding, heads, dropout)
        self.mlp_norm = nn.LayerNorm(embedding)
        self.mlp = MLPBlock(embedding, hidden, dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.attention(self.attention_norm(tokens))
        return tokens + self.mlp(self.mlp_norm(tokens))


def _convolutions(before: int, after: int) -> nn.Sequential:
    """Return two convolutions, each followed by batch norm and activation."""
    return nn.Sequential(
        nn.Conv3d(before, after, kernel_size=3, padding=1),
        nn.BatchNorm3d(after),
        nn.ReLU(),
        nn.Conv3d(after, after, kernel_size=3, padding=1),
        nn.BatchNorm3d(after),
        nn.ReLU(),
    )


class _DecoderBlock(nn.Module):
    """Residual block with normalisation and activation after each convolution."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.block = _convolutions(filters, filters)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.block(features)


class _Doubling(nn.Module):
    """Reduce the filters, double each edge, and merge the result with the encoder's features of the same size."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.narrow = nn.Conv3d(before, after, kernel_size=1)
        self.upsample = nn.ConvTranspose3d(after, after, kernel_size=2, stride=2)
        self.join = nn.Conv3d(2 * after, after, kernel_size=1)

    def forward(self, features: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.join(torch.cat([skip, self.upsample(self.narrow(features))], dim=1))
