"""Layers of MONAI's SwinUNETR with fewer passes over memory; parameters, their names and results stay the same."""

from functools import lru_cache

import torch
from einops import rearrange
from monai.networks.nets.swin_unetr import PatchMerging
from torch import nn


class Merging(PatchMerging):
    """MONAI's `PatchMerging` in two copies; the gradient of its eight slices takes 31 passes over the whole input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 5 or any(edge % 2 for edge in x.shape[1:4]):
            return super().forward(x)
        x = rearrange(x, "b (d i) (h j) (w k) c -> b d h w (k j i) c", i=2, j=2, k=2)
        return self.reduction(self.norm(x.index_select(4, _order(x.device)).flatten(start_dim=4)))


@lru_cache
def _order(device: torch.device) -> torch.Tensor:
    """Places of MONAI's slices 000, 100, 010, 001, 110, 101, 011, 111 among 000, 100, 010, 110, 001, ..."""
    with torch.inference_mode(False):  # what is kept may be used in a training later
        return torch.tensor([0, 1, 2, 4, 3, 5, 6, 7], device=device)


class InstanceNorm(nn.InstanceNorm3d):
    """PyTorch's `InstanceNorm3d`, whose output is no view for autograd.

    The in-place activation and sum of MONAI's blocks then need no copies of whole gradients.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.aten._unsafe_view(super().forward(x), x.shape)


LAYERS: dict[type, type] = {PatchMerging: Merging, nn.InstanceNorm3d: InstanceNorm}
