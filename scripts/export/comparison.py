"""Compare an exported network with the original."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from torch.nn.functional import cosine_similarity

from common.data.transforms import RegionsToLabeld
from common.ssl.embeddings import EmbeddingInferer

__all__ = ["Comparison", "compare"]


class Comparison(NamedTuple):
    """The differences between two networks on a case.

    Attributes:
        difference: the largest over all outputs and windows; NaN if one is not finite.
        agreement: fraction of voxels with the same label; for an encoder the lowest cosine of its levels' vectors.
        windows: number of windows compared.
    """

    difference: float
    agreement: float
    windows: int


class _Both:
    """Run two networks on the same windows; return the outputs of both and record their differences."""

    def __init__(self, *networks: Callable[[torch.Tensor], Any]) -> None:
        self.networks = networks
        self.differences: list[float] = []
        self.windows = 0

    def __call__(self, windows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ours, theirs = (self._outputs(network(windows)) for network in self.networks)
        self.differences += [(one - other).abs().max().item() for one, other in zip(ours, theirs, strict=True)]
        self.windows += len(windows)
        return (*ours, *theirs)

    @staticmethod
    def _outputs(found: Any) -> tuple[torch.Tensor, ...]:
        return (found,) if isinstance(found, torch.Tensor) else tuple(found)


def compare(
    network: Callable[[torch.Tensor], Any],
    exported: Callable[[torch.Tensor], Any],
    image: torch.Tensor,
    inferer: SlidingWindowInferer | EmbeddingInferer,
    convention: str | None = None,
) -> Comparison:
    """Compare two networks on all windows of a case, and the results for the whole case.

    Args:
        network: the original; windows [N, C, x, y, z] to logits, or to a tuple of an encoder's features.
        exported: the exported network, such as `torch.jit.load` of a file.
        image: [C, H, W, D], preprocessed as in the bundle's inference.yaml.
        inferer: of inference.yaml: a sliding window or an `EmbeddingInferer`.
        convention: of the labels, if logits are compared.
    """
    both = _Both(network, exported)
    with torch.no_grad():
        if isinstance(inferer, EmbeddingInferer):
            of_levels = EmbeddingInferer(inferer.roi_size, inferer.overlap, inferer.sw_batch_size, levels=True)
            vectors = [vector for name, vector in of_levels(image[None], both).items() if name != "embedding"]
            half = len(vectors) // 2
            cosines = [cosine_similarity(*pair).item() for pair in zip(vectors[:half], vectors[half:], strict=True)]
            agreement = min(cosines)
        else:
            to_label = RegionsToLabeld("label", str(convention))
            stitched = SlidingWindowInferer.__call__(inferer, image[None], both)  # empty windows, too
            ours, theirs = (to_label({"label": logits[0] > 0})["label"] for logits in stitched)
            agreement = (ours == theirs).double().mean().item()
    return Comparison(float(np.max(both.differences)), agreement, both.windows)
