"""Patch merging of MONAI's SwinUNETR up to 1.4 and since 1.5, its eight slices written out."""

import torch
from torch import nn

SLICES = {  # first voxel of each slice along x, y, z
    "monai_1_4": [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1)],
    "monai_1_5": [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)],
}


class Slices(nn.Module):
    """The layer with MONAI's names of parameters; a subclass states its `merging`."""

    def __init__(self, dim, norm_layer=nn.LayerNorm, spatial_dims=3):
        super().__init__()
        self.reduction = nn.Linear(8 * dim, 2 * dim, bias=False)
        self.norm = norm_layer(8 * dim)

    def forward(self, x):
        slices = [x[:, i::2, j::2, k::2] for i, j, k in SLICES[self.merging]]
        return self.reduction(self.norm(torch.cat(slices, dim=-1)))


LAYERS = {name: type(name, (Slices,), {"merging": name}) for name in SLICES}
