"""Embed volumes with a pretrained encoder, for linear probes and retrieval."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data.utils import dense_patch_slices
from monai.inferers import Inferer
from monai.utils import convert_to_tensor
from torch.nn.functional import avg_pool3d

from .networks import check_finite, in_precision


class EmbeddingInferer(Inferer):
    """Average the deepest features of an encoder over the brain, in sliding windows.

    Foreground voxels are nonzero in at least one channel. Each takes the features of its token, averaged over the
    windows that contain the voxel; the vector is the mean over all foreground voxels, which weigh the same.

    Windows have `roi_size` voxels (use the size of the training crops) and overlap by a fraction `overlap`;
    `sw_batch_size` of them are passed at a time, through a network that computes in `dtype`.

    Shapes:
        inputs [1, C, H, W, D], no edge shorter than the window's. The network maps windows [N, C, *roi_size] to feature
        maps, the last of which is [N, E, *(roi_size / stride)], as `SSLHead.swinViT` does (stride 32). Output
        {"embedding": [1, E]}, float32.

    Raises:
        ValueError: More than one volume.
        InputError: The vector is not finite.
    """

    def __init__(
        self, roi_size: Sequence[int], overlap: float = 0.5, sw_batch_size: int = 2, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.roi_size, self.overlap, self.sw_batch_size = tuple(roi_size), overlap, sw_batch_size
        self.dtype = dtype

    def __call__(self, inputs: torch.Tensor, network: Any, *_: Any, **__: Any) -> dict[str, torch.Tensor]:
        image = convert_to_tensor(inputs)  # without metadata
        if len(image) != 1:
            raise ValueError(f"inputs {list(image.shape)}: expected one volume")
        is_inside = (image != 0).any(dim=1, keepdim=True)  # [1, 1, H, W, D]
        inside, foreground = is_inside.cpu(), is_inside.double()  # windows are chosen on the host: no further waits
        steps = tuple(max(1, int(edge * (1 - self.overlap))) for edge in self.roi_size)
        windows = [(..., *window) for window in dense_patch_slices(image.shape[2:], self.roi_size, steps)]
        windows = [window for window in windows if inside[window].any()]
        coverage = torch.zeros_like(foreground)
        for window in windows:
            coverage[window] += 1
        weight = foreground / coverage.clamp(min=1)  # a voxel's weights over all windows add up to 1
        total: Any = 0
        for first in range(0, len(windows), self.sw_batch_size):
            batch = windows[first : first + self.sw_batch_size]
            features = in_precision(network, self.dtype)(torch.cat([image[window] for window in batch]))[-1]
            weights = torch.cat([weight[window] for window in batch])
            stride = [voxels // tokens for voxels, tokens in zip(self.roi_size, features.shape[2:], strict=True)]
            # A token weighs as much as its voxels together
            token_weights = avg_pool3d(weights, stride) * np.prod(stride)
            total = total + (features.double() * token_weights).sum(dim=(0, 2, 3, 4))
        vector = (total / foreground.sum()).float()[None]
        check_finite(vector)
        return {"embedding": vector}
