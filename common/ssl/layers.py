"""Layers of MONAI's SwinUNETR with fewer passes over memory, but the same parameters, names and results."""

from functools import lru_cache

import torch
from einops import rearrange
from monai.networks.nets.swin_unetr import PatchMerging
from torch import nn


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


LAYERS: dict[type, type] = {nn.InstanceNorm3d: InstanceNorm}
