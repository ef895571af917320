"""Masked autoencoding: SwinUNETR or SegResNet restores hidden blocks of its input."""

from collections.abc import Sequence
from math import ceil, prod
from typing import Any, ClassVar

import torch
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import nn

from .tasks import Encoded, ProxyTask, Views
from .views import send

MIN_VARIANCE = 0.01  # lower bound of the variance that divides the loss; a z-scored brain has about 1
LEFT_OUT = ("swinViT", "out")  # SwinUNETR's encoder, which the network already has, and its segmentation layer


class Masked(ProxyTask):
    """Restore hidden blocks of the rotated, uncorrupted crop with SwinUNETR's encoder and decoder (DIFF-33).

    Modules have their names in SwinUNETR, `encoder1` to `decoder1`, so fine-tuning starts with a pretrained decoder.

    The loss is the mean squared error over the hidden voxels of all views, divided by the variance of these voxels (at
    least 0.01) around the mean of each view and channel. Predicting these means gives 1, the chance level.

    Args:
        share: Fraction of hidden blocks, the same blocks in all channels; nnssl's masked autoencoder: 0.75, the
            baseline of the FOMO25 challenge: 0.6.
        edge: Block edge in voxels; blocks that overhang the end of a side are cropped. nnssl: 16, FOMO25: 4.
    """

    corrupts = False
    modality_axes: ClassVar = {"masked_out.weight": 0, "masked_out.bias": 0}

    def __init__(self, share: float = 0.75, edge: int = 16) -> None:
        self.share, self.edge = share, edge

    def heads(self, in_channels: int, feature_size: int) -> dict[str, nn.Module]:
        unet = SwinUNETR(in_channels, in_channels, feature_size=feature_size, depths=(1, 1, 1, 1))
        decoder = {name: module for name, module in unet.named_children() if name not in LEFT_OUT}
        return decoder | {"masked_out": nn.Conv3d(feature_size, in_channels, kernel_size=1)}

    def predict(self, network: Any, encoded: Encoded) -> torch.Tensor:
        finest, *levels, bottleneck = encoded.levels
        x = network.decoder5(network.encoder10(bottleneck), levels[2])
        x = network.decoder4(x, network.encoder4(levels[1]))
        x = network.decoder3(x, network.encoder3(levels[0]))
        x = network.decoder2(x, network.encoder2(finest))
        x = network.decoder1(x, network.encoder1(encoded.image))
        return network.masked_out(x)

    def target(self, views: Views) -> dict[str, torch.Tensor]:
        """Set hidden voxels of the inputs to 0; return clean crops and the mask of hidden voxels [2B, 1, H, W, D]."""
        count, _, *sides = views.inputs.shape
        hidden = hidden_blocks(count, sides, self.share, self.edge, views.generator, views.inputs.device)
        views.inputs = views.inputs.masked_fill(hidden, 0)
        return {"clean": views.clean, "hidden": hidden}

    def loss(self, prediction: torch.Tensor, target: dict[str, torch.Tensor]) -> torch.Tensor:
        clean, hidden = target["clean"], target["hidden"]
        counts = hidden.sum(dim=(2, 3, 4), keepdim=True)
        means = (clean * hidden).sum(dim=(2, 3, 4), keepdim=True) / counts
        estimates = (prediction.float(), means)
        squared, deviations = ((hidden * (estimate - clean).square()).sum() for estimate in estimates)
        return squared / torch.maximum(deviations, MIN_VARIANCE * clean.shape[1] * counts.sum())


class MaskedSegResNet(SegResNet):
    """SegResNet that restores its input, for the task `Masked` alone; the last layer has another name, `masked_out`.

    Fine-tuning therefore takes every tensor but the last layer's.

    Shapes:
        input [B, in_channels, H, W, D], edges multiples of 8 voxels; output {"masked": as the input}.
    """

    modality_axes = Masked.modality_axes

    def __init__(self, in_channels: int, tasks: Sequence[ProxyTask], **options: Any) -> None:
        super().__init__(in_channels=in_channels, out_channels=in_channels, **options)
        self.tasks = tasks
        self.masked_out = self.conv_final.pop(2).conv

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {Masked.name: self.masked_out(super().forward(image))}


def hidden_blocks(
    count: int, sides: list[int], share: float, edge: int, generator: torch.Generator, device: torch.device
) -> torch.Tensor:
    """Draw the blocks to hide, the same number in each crop, on a grid that starts at the first voxel.

    At least one block is hidden and one stays visible. `sides` are H, W, D in voxels; `generator` is on the host.
    Return a mask [count, 1, H, W, D], true for hidden voxels.
    """
    grid = [ceil(side / edge) for side in sides]
    blocks = prod(grid)
    hidden = min(max(1, round(share * blocks)), blocks - 1)
    ranks = torch.stack([torch.randperm(blocks, generator=generator) for _ in range(count)])
    mask = send(ranks < hidden, device).view(count, 1, *grid)
    for axis, side in enumerate(sides, start=2):
        mask = mask.repeat_interleave(edge, dim=axis).narrow(axis, 0, side)
    return mask
