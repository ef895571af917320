"""Embeddings compared with a loop over voxels and windows."""

from itertools import product

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.ssl.embeddings import EmbeddingInferer


def pooling(*strides):
    """An encoder without context: a token's channels are the mean and the mean square of its block."""

    def encode(windows):
        both = torch.cat([windows, windows**2], dim=1)
        return [torch.nn.functional.avg_pool3d(both, stride) for stride in strides]

    return encode


def volume(*sides):
    """A volume of one channel, zero outside a ball."""
    centre = torch.tensor(sides)[:, None, None, None] / 2
    distance = (((torch.stack(torch.meshgrid(*map(torch.arange, sides), indexing="ij")) + 0.5) - centre) ** 2).sum(0)
    values = torch.rand(sides, generator=torch.Generator().manual_seed(0)) + 0.1
    return (values * (distance < (min(sides) / 2) ** 2))[None, None]


def starts(side, edge, step):
    """Starts of windows, from the start of a side; the last window touches its end."""
    places = list(range(0, side - edge + 1, step))
    return places if places[-1] == side - edge else [*places, side - edge]


def by_hand(image, edge, step, stride, encode):
    """The mean over foreground voxels of the mean over windows of the features of the voxel's token."""
    sides = image.shape[2:]
    total, voxels = 0, 0
    windows = list(product(*(starts(side, edge, step) for side in sides)))
    maps = {
        (x, y, z): encode(image[..., x : x + edge, y : y + edge, z : z + edge])[0][0].double() for x, y, z in windows
    }
    for voxel in np.argwhere(image[0].numpy().any(axis=0)):
        holding = [corner for corner in windows if all(0 <= p - c < edge for p, c in zip(voxel, corner, strict=True))]
        tokens = [(voxel - np.array(corner)) // stride for corner in holding]
        features = [maps[corner][:, x, y, z] for corner, (x, y, z) in zip(holding, tokens, strict=True)]
        total = total + torch.stack(features).mean(dim=0)
        voxels += 1
    return (total / voxels)[None]


@pytest.mark.parametrize(("overlap", "step", "batch"), [(0.5, 4, 3), (0.25, 6, 1), (0, 8, 2), (0.9, 1, 4)])
def test_each_brain_voxel_counts_once(overlap, step, batch):
    image = torch.cat([volume(13, 16, 9), volume(13, 16, 9).roll(3, dims=2)], dim=1)
    (vector,) = EmbeddingInferer((8, 8, 8), overlap, batch)(MetaTensor(image), pooling(2, 4)).values()
    np.testing.assert_allclose(vector, by_hand(image, 8, step, 4, pooling(4)), rtol=1e-6)
    assert (type(vector), vector.dtype) == (torch.Tensor, torch.float32)
