"""One intensity scale for brains with and without skull: the z-score over the brain, which deepbet finds if need be."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage

from ..errors import choice

LARGEST_BRAIN = 2.5  # litres; brains of the embedded cohort have up to 2.2 in MNI space, its heads from 3.5
EDGES = (128, 128, 128)  # voxels that deepbet looks at
GRID = 4.0  # mm; edge of the voxels of the head's estimate, about
CLOSING = 9.0  # mm; half the width of the fissures and ventricles that are closed
BRIGHTEST = 99  # percentile that intensities are clipped to before the threshold


class NormalizeBraind(MapTransform):
    """z-score each channel of an image [C, H, W, D] over its brain; the background becomes zero (DIFF-9).

    Args:
        keys: of the images. A `MetaTensor` knows the size of its voxels; other tensors are taken to have 1 mm.
        normalization: brain, with brain and background as in `brain_and_head`, or nonzero, for which all voxels that
            are not zero count, and zeros are background. Both are the same, to the bit, in images without skull. A
            channel of one value becomes zero.

    Raises:
        ArgumentError: `normalization` is neither.
    """

    def __init__(self, keys: KeysCollection, normalization: str = "brain", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.masks = choice("normalization", normalization, {"brain": brain_and_head, "nonzero": _nonzero})

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key] = result[key].float().clone()
            spacing = image.pixdim.tolist() if isinstance(image, MetaTensor) else [1.0, 1.0, 1.0]
            for number, channel in enumerate(torch.as_tensor(image)):
                counted, foreground = self.masks(channel, spacing)
                image[number] = _scaled(channel, counted, foreground)
        return result


def _nonzero(channel: torch.Tensor, spacing: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    return channel != 0, channel != 0


def _scaled(channel: torch.Tensor, counted: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
    values = channel[counted]
    if not len(values):
        return torch.zeros_like(channel)
    deviation = values.std(unbiased=False).item() or 1.0
    return torch.where(foreground, (channel - values.mean().item()) / deviation, 0.0)


def brain_and_head(channel: torch.Tensor, spacing: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """The voxels of the brain and of the head in an MR image of either, of any contrast.

    Where the voxels that are not zero have at most 2.5 litres, the skull has been removed, and they are both masks.
    Otherwise the brain is what the first of deepbet's two networks (Fisch et al., Computers in Biology and Medicine
    2024) finds; if that is nothing, all voxels that are not zero. The head is what lies above Otsu's threshold of the
    image in voxels of about 4 mm, closed and filled.

    Args:
        channel: image [H, W, D], in the order RAS.
        spacing: edges of a voxel, mm.

    Returns:
        Two masks [H, W, D]. They serve to measure intensities, not to remove a skull.
    """
    inside = channel != 0
    if inside.sum().item() * float(np.prod(spacing)) <= LARGEST_BRAIN * 1e6:
        return inside, inside
    factors = [max(1, round(GRID / edge)) for edge in spacing]
    missing = [(-size) % factor for size, factor in zip(channel.shape, factors, strict=True)]
    padded = torch.nn.functional.pad(channel.float(), [each for size in reversed(missing) for each in (0, size)])
    coarse = torch.nn.functional.avg_pool3d(padded[None, None], factors)[0, 0].cpu().numpy()
    tissue = coarse > otsu(np.minimum(coarse, np.percentile(coarse, BRIGHTEST)))
    head = _closed(tissue, [edge * factor for edge, factor in zip(spacing, factors, strict=True)])
    brain = _brain(channel)
    return (brain if brain.any() else inside), _enlarged(head, factors, channel) | brain


@cache
def _deepbet() -> Callable[[torch.Tensor], torch.Tensor]:
    """Deepbet's network that looks at the whole image; fused, it takes half the time."""
    from deepbet.utils import DATA_PATH  # here, as only heads need it

    network = torch.jit.load(Path(DATA_PATH, "models", "bbox_model.pt"), map_location="cpu").eval()
    return torch.jit.optimize_for_inference(torch.jit.freeze(network))


def _brain(head: torch.Tensor) -> torch.Tensor:
    """Deepbet's first steps: the image in 128 x 128 x 128 voxels, clipped and scaled, and the largest component."""
    resize = torch.nn.functional.interpolate
    small = resize(head.cpu().float()[None, None], EDGES, mode="nearest-exact")
    low, high = np.percentile(small.numpy(), (0.5, 99.5))
    if high <= low:
        return torch.zeros_like(head, dtype=torch.bool)
    small = ((small - low) / (high - low)).clamp(0, 1)
    with torch.no_grad():
        mask = _deepbet()(0.226 * (small - small.mean()) / small.std() + 0.449)[0, 1] > 0.5
    largest = torch.from_numpy(cc3d.largest_k(mask.numpy(), k=1) > 0)
    return resize(largest[None, None].float(), head.shape, mode="nearest-exact")[0, 0].bool().to(head.device)


def _closed(mask: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """A mask with its gaps of up to 18 mm closed and its holes filled; beyond the volume it goes on."""
    margin = ceil(CLOSING / min(edges)) + 1
    near = ndimage.distance_transform_edt(~np.pad(mask, margin, mode="edge"), sampling=edges) <= CLOSING
    filled = ndimage.distance_transform_edt(ndimage.binary_fill_holes(near), sampling=edges) > CLOSING
    return filled[margin:-margin, margin:-margin, margin:-margin]


def _enlarged(mask: np.ndarray, factors: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    fine = torch.from_numpy(mask)
    for axis, factor in enumerate(factors):
        fine = fine.repeat_interleave(factor, axis)
    height, width, depth = like.shape
    return fine[:height, :width, :depth].to(like.device)


def otsu(values: np.ndarray) -> float:
    """The threshold that maximises the variance between two classes (Otsu, IEEE Trans SMC 1979), of 256 levels.

    Args:
        values: at least one.

    Returns:
        The upper edge of the last bin of the lower class.
    """
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[1:] + edges[:-1]) / 2
    lower, upper = np.cumsum(counts)[:-1], np.cumsum(counts[::-1])[-2::-1]
    mass = counts * centres
    means = np.cumsum(mass)[:-1] / np.maximum(lower, 1), np.cumsum(mass[::-1])[-2::-1] / np.maximum(upper, 1)
    return float(edges[1:][np.argmax(lower * upper * (means[0] - means[1]) ** 2)])
