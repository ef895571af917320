"""Normalise intensities, by default to z-scores over the brain, which deepbet finds in scans with skull."""

from collections.abc import Callable, Sequence
from functools import cache
from math import ceil
from pathlib import Path

import cc3d
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from scipy import ndimage

from ..errors import choice
from .preparation import is_brain
from .transforms import EachKeyd

EDGES = (128, 128, 128)  # voxels of deepbet's input
GRID = 4.0  # mm; approximate voxel size for the head mask
CLOSING = 9.0  # mm; half the width of the fissures and ventricles that are closed
NORMALIZATIONS = ("brain", "nonzero", "fixed_range", "none")
BRIGHTEST = 99  # intensities are clipped to this percentile before the threshold


class NormalizeBraind(EachKeyd):
    """Scale the intensities of each channel of an image [C, H, W, D] (DIFF-9: z-scores).

    "brain" gives z-scores by the masks of `brain_and_head`, "nonzero" by all non-zero voxels; the background becomes
    zero, and so does a constant channel. Both are equal for images without skull. "fixed_range" scales -1000 to 1000
    to 0 to 1, and clips; "none" changes nothing. Voxels of a tensor without affine count as 1 mm.
    """

    def __init__(self, keys: KeysCollection, normalization: str = "brain") -> None:
        super().__init__(keys)
        self.normalization = choice("normalization", normalization, NORMALIZATIONS)

    def convert(self, volume: torch.Tensor) -> torch.Tensor:
        image = volume.float().clone()
        spacing = image.pixdim.tolist() if isinstance(image, MetaTensor) else [1.0, 1.0, 1.0]
        for number, channel in enumerate(torch.as_tensor(image)):
            image[number] = self._scale(channel, spacing)
        return image

    def _scale(self, channel: torch.Tensor, spacing: Sequence[float]) -> torch.Tensor:
        if self.normalization == "none":
            return channel
        if self.normalization == "fixed_range":
            return (channel.clamp(-1000, 1000) + 1000) / 2000
        brain = foreground = channel != 0
        if self.normalization == "brain":
            brain, foreground = brain_and_head(channel, spacing)
        values = channel[brain]
        if not len(values):
            return torch.zeros_like(channel)
        deviation = values.std(unbiased=False).item() or 1.0
        return torch.where(foreground, (channel - values.mean().item()) / deviation, 0.0)


def brain_and_head(channel: torch.Tensor, spacing: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return masks of brain and head, [H, W, D], of an MR image [H, W, D] in RAS order with voxels of `spacing` mm.

    If the non-zero voxels are a brain without skull (`is_brain`), both masks are these voxels. Otherwise deepbet's
    first network (Fisch et al., Computers in Biology and Medicine 2024) segments the brain; if none is found, the brain
    mask holds all non-zero voxels. The head mask holds the segmented brain and the voxels above Otsu's threshold, in
    4 mm voxels, closed and filled. The masks are precise enough to measure intensities, not to remove a skull.
    """
    inside = channel != 0
    if is_brain(inside.cpu().numpy(), spacing):
        return inside, inside
    factors = [max(1, round(GRID / edge)) for edge in spacing]
    missing = [(-size) % factor for size, factor in zip(channel.shape, factors, strict=True)]
    padded = torch.nn.functional.pad(channel.float(), [width for size in reversed(missing) for width in (0, size)])
    coarse = torch.nn.functional.avg_pool3d(padded[None, None], factors)[0, 0].cpu().numpy()
    tissue = coarse > otsu(np.minimum(coarse, np.percentile(coarse, BRIGHTEST)))
    head = _closed(tissue, [edge * factor for edge, factor in zip(spacing, factors, strict=True)])
    brain, enlarged = _brain(channel), torch.from_numpy(np.kron(head, np.ones(factors, bool)))
    enlarged = enlarged[tuple(map(slice, channel.shape))].to(channel.device)
    return (brain if brain.any() else inside), enlarged | brain


@cache
def _deepbet() -> Callable[[torch.Tensor], torch.Tensor]:
    """Load deepbet's whole-image network, fused to halve its run time."""
    from deepbet.utils import DATA_PATH  # imported here, as only heads need it

    network = torch.jit.load(Path(DATA_PATH, "models", "bbox_model.pt"), map_location="cpu").eval()
    return torch.jit.optimize_for_inference(torch.jit.freeze(network))


def _brain(head: torch.Tensor) -> torch.Tensor:
    """Run deepbet's first steps: resize to 128 x 128 x 128 voxels, clip, scale, predict, keep the largest component."""
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
    """Close gaps of up to 18 mm in a mask and fill its holes; edge voxels are repeated beyond the volume."""
    margin = ceil(CLOSING / min(edges)) + 1
    near = ndimage.distance_transform_edt(~np.pad(mask, margin, mode="edge"), sampling=edges) <= CLOSING
    filled = ndimage.distance_transform_edt(ndimage.binary_fill_holes(near), sampling=edges) > CLOSING
    return filled[margin:-margin, margin:-margin, margin:-margin]


def otsu(values: np.ndarray) -> float:
    """Return Otsu's threshold (IEEE Trans SMC 1979) over 256 bins: the edge between the two classes."""
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[1:] + edges[:-1]) / 2
    lower, upper = np.cumsum(counts)[:-1], np.cumsum(counts[::-1])[-2::-1]
    mass = counts * centres
    means = np.cumsum(mass)[:-1] / np.maximum(lower, 1), np.cumsum(mass[::-1])[-2::-1] / np.maximum(upper, 1)
    return float(edges[1:][np.argmax(lower * upper * (means[0] - means[1]) ** 2)])
