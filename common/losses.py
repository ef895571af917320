"""The losses of the three proxy tasks, and their sum."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["NTXentLoss", "SSLLoss"]


class NTXentLoss(nn.Module):
    """Normalised temperature-scaled cross-entropy (Chen et al., ICML 2020, equation 1), the mean over all views.

    For view i with positive j: -log(exp(s_ij / t) / sum over k != i of exp(s_ik / t)), s the cosine similarity.

    Args:
        temperature: t, above 0; 0.5 in the method.

    Shapes:
        input [2N, E]: the N first views of a batch, then the N second ones. A scalar comes out, computed in at least
        float32. With N = 1 there is no negative, and the loss is 0.
    """

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature {temperature}: expected a number above 0")
        self.temperature = temperature

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        if len(embeddings) % 2:
            raise ValueError(f"embeddings of {len(embeddings)} views: expected two for each sample")
        with torch.autocast(embeddings.device.type, enabled=False):
            unit = F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=1)
            similarity = unit @ unit.T / self.temperature
        similarity = similarity.masked_fill(torch.eye(len(unit), dtype=torch.bool, device=unit.device), -torch.inf)
        positives = torch.arange(len(unit), device=unit.device).roll(len(unit) // 2)
        return F.cross_entropy(similarity, positives)


class SSLLoss(nn.Module):
    """Reconstruction + rotation + contrastive loss, each with weight 1 (paper, section 2.3).

    Reconstruction is the mean absolute difference over all voxels to the clean turned crop (DIFF-8), rotation the
    cross-entropy over four quarter turns, contrastive `NTXentLoss`.

    Args:
        temperature: of the contrastive loss.

    Shapes:
        prediction: what `common.networks.SSLHead` returns; target: what `common.views.TwoViews` makes.
        The sum comes out, a scalar; `last_terms` then holds it with its three terms, detached, by name:
        total, reconstruction, rotation, contrastive.
    """

    TERMS = ("total", "reconstruction", "rotation", "contrastive")

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        self.contrastive = NTXentLoss(temperature)
        self.last_terms: dict[str, torch.Tensor] = {}

    def forward(self, prediction: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        terms = {
            "reconstruction": F.l1_loss(prediction["reconstruction"], target["reconstruction"]),
            "rotation": F.cross_entropy(prediction["rotation"], target["rotation"]),
            "contrastive": self.contrastive(prediction["contrastive"]),
        }
        total = torch.stack([term.float() for term in terms.values()]).sum()
        self.last_terms = {"total": total.detach()} | {name: term.detach() for name, term in terms.items()}
        return total
