"""Build the network of an architecture and a model size, for segmentation or pretraining."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.nets.segresnet import SegResNet
from torch import nn
from torch.nn.functional import interpolate

from ..errors import ArgumentError, choice
from ..ssl import SIZES, Masked, MaskedSegResNet, ProxyTask, SSLHead, encoder, swin_unetr
from .transbts import TransBTS

ARCHITECTURES = ("swin_unetr", "swin_unetr_v2", "segresnet", "transbts", "probe")
# DIFF-30: "small" is the published network, of the Model Zoo for SegResNet; "micro" is for trials on a CPU (DIFF-14)
SEGRESNET: dict[str, dict[str, Any]] = {
    "small": {"init_filters": 16, "blocks_down": (1, 2, 2, 4), "blocks_up": (1, 1, 1)},  # brats_mri_segmentation
    "micro": {"init_filters": 8, "blocks_down": (1, 1, 1, 1), "blocks_up": (1, 1, 1)},
}
TRANSBTS: dict[str, dict[str, int]] = {
    "small": {},  # Wang et al., MICCAI 2021
    "micro": {"width": 8, "embedding": 64, "layers": 1, "heads": 4, "hidden": 128},
}


def segmentation_network(
    architecture: str,
    in_channels: int,
    out_channels: int,
    model_size: str = "small",
    patch_size: Sequence[int] = (96, 96, 96),
    drop_rate: float = 0.0,
    use_checkpoint: bool = False,
    prior: float | None = None,
    merging: str = "monai_1_5",
    **arguments: Any,
) -> nn.Module:
    """Build a segmentation network: images [B, in_channels, *patch_size] to logits [B, out_channels, *patch_size].

    `architecture` is swin_unetr (paper, Table 2), swin_unetr_v2 (He et al., MICCAI 2023), segresnet (Myronenko, 2018),
    transbts, or probe (of a frozen encoder). `model_size` is a key of `common.ssl.SIZES` for SwinUNETR and Probe,
    otherwise "small" (the published network) or "micro". Edges of `patch_size` are in voxels, multiples of 32 (of 8 for
    SegResNet and TransBTS).

    `drop_rate` (dropout), `use_checkpoint` (recomputed activations) and `merging` (DIFF-38) are those of SwinUNETR's
    encoder. `prior` is the initial probability of each region in each voxel, set by the bias of the last convolution
    (Lin et al., ICCV 2017, section 4.1); by default about 0.5. The network's class takes further `arguments`, such as
    SwinUNETR's `dropout_path_rate`.

    Example:
        >>> sum(p.numel() for p in segmentation_network("segresnet", 4, 3).parameters())
        4702227
    """
    choice("architecture", architecture, ARCHITECTURES)
    network: nn.Module
    if architecture.startswith("swin_unetr"):
        options = {"drop_rate": drop_rate, "use_checkpoint": use_checkpoint, "use_v2": architecture == "swin_unetr_v2"}
        network = swin_unetr(in_channels, out_channels, model_size, merging, **options, **arguments)
    elif architecture == "probe":
        network = Probe(in_channels, out_channels, model_size, merging, **arguments)
    elif architecture == "segresnet":
        others: dict[str, Any] = choice("model_size", model_size, SEGRESNET) | {"dropout_prob": 0.2} | arguments
        network = SegResNet(in_channels=in_channels, out_channels=out_channels, **others)
    else:
        size = choice("model_size", model_size, TRANSBTS)
        network = TransBTS(in_channels, out_channels, patch_size, **size, **arguments)
    if prior is not None:
        *_, last = (layer for layer in network.modules() if isinstance(layer, nn.Conv3d))
        nn.init.constant_(last.bias, math.log(prior / (1 - prior)))
    return network


def pretraining_network(
    architecture: str, in_channels: int, tasks: Sequence[ProxyTask], model_size: str = "small", **arguments: Any
) -> nn.Module:
    """Build a network with the heads of proxy tasks: images [B, in_channels, H, W, D] to predictions by task.

    `architecture` is swin_unetr (`SSLHead`, which takes the further `arguments`), or segresnet, which has only the task
    `Masked` (DIFF-33).
    """
    if architecture == "swin_unetr":
        return SSLHead(in_channels, model_size, tasks=tasks, **arguments)
    size = choice("model_size", model_size, SEGRESNET)
    if architecture != "segresnet" or [type(task) for task in tasks] != [Masked]:
        expected = "swin_unetr, or segresnet with the overlay masked"
        raise ArgumentError("architecture", architecture, "lacks heads of these proxy tasks", expected)
    return MaskedSegResNet(in_channels, tasks, **size)


class Probe(nn.Module):
    """Linear probe: SwinUNETR's encoder, frozen, with a trainable 1x1x1 convolution on each of its five levels.

    The logits of the levels are interpolated to the image size and added. The encoder's parameters, `swinViT.*`, have
    the names of SwinUNETR.
    """

    def __init__(
        self, in_channels: int, out_channels: int, model_size: str = "small", merging: str = "monai_1_5"
    ) -> None:
        super().__init__()
        size = SIZES[model_size]
        self.swinViT = encoder(in_channels, size, use_checkpoint=False, merging=merging).requires_grad_(False)
        self.heads = nn.ModuleList(
            nn.Conv3d(size.feature_size * 2**level, out_channels, kernel_size=1) for level in range(5)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            levels = self.swinViT(image.contiguous())
        logits = [head(level) for head, level in zip(self.heads, levels, strict=True)]
        return torch.stack([interpolate(part, size=image.shape[2:], mode="trilinear") for part in logits]).sum(dim=0)
