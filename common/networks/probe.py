"""Linear probe: segmentation by linear layers on a frozen encoder, to measure the quality of its features."""

import torch
from torch import nn
from torch.nn.functional import interpolate

from ..ssl.networks import ModelSize, encoder, settings


class Probe(nn.Module):
    """SwinUNETR's encoder, frozen, with a trainable 1x1x1 convolution on each of its five levels.

    The logits of the levels are interpolated to the image size and added. The encoder's parameters, `swinViT.*`, have
    the names of SwinUNETR.
    """

    def __init__(
        self, in_channels: int, out_channels: int, model_size: str | ModelSize = "small", merging: str = "monai_1_5"
    ) -> None:
        super().__init__()
        size = settings(model_size)
        self.swinViT = encoder(in_channels, size, use_checkpoint=False, merging=merging).requires_grad_(False)
        self.heads = nn.ModuleList(
            nn.Conv3d(size.feature_size * 2**level, out_channels, kernel_size=1) for level in range(5)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            levels = self.swinViT(image.contiguous())
        logits = [head(level) for head, level in zip(self.heads, levels, strict=True)]
        return torch.stack([interpolate(part, size=image.shape[2:], mode="trilinear") for part in logits]).sum(dim=0)
