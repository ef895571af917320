"""The losses of the three proxy tasks, and their sum."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from math import log
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

__all__ = ["NTXentLoss", "SSLLoss"]


class NTXentLoss(nn.Module):
    """Normalised temperature-scaled cross-entropy (Chen et al., ICML 2020, equation 1), mean over all views.

    For view i with positive j: -log(exp(s_ij / t) / sum over k != i of exp(s_ik / t)), s the cosine similarity.

    Args:
        temperature: t, above 0; 0.5 in the method.
        gather: use the views of all processes as negatives; every process must have as many. No effect without a
            process group or with one process. DistributedDataParallel's averaged gradients then equal those of a single
            process with all views.

    Shapes:
        input [2N, E]: the N first views of a batch, then the N second views. Output: a scalar, computed in at least
        float32; 0 without negatives (N = 1 over all processes).

    Raises:
        ValueError: the temperature is not above 0, or the number of views is odd.
    """

    def __init__(self, temperature: float = 0.5, gather: bool = False) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature {temperature}: expected a number above 0")
        self.temperature, self.gather = temperature, gather

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        views = len(embeddings)
        if views % 2:
            raise ValueError(f"embeddings of {views} views: expected two for each sample")
        kind = embeddings.device.type
        with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
            unit = F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=1)
            everyone, first = unit, 0
            if self.gather and dist.is_initialized():
                everyone, first = _Gathered.apply(unit), views * dist.get_rank()
            similarity = unit @ everyone.T / self.temperature
        own = first + torch.arange(views, device=unit.device)
        similarity = similarity.scatter(1, own[:, None], -torch.inf)
        return F.cross_entropy(similarity, own.roll(views // 2))


class _Gathered(torch.autograd.Function):
    """Concatenate the rows of all processes in the order of ranks; every process has as many.

    A row's gradient is the sum over all processes' losses. PyTorch's own differentiable collective is deprecated.
    """

    @staticmethod
    def forward(_: Any, rows: torch.Tensor) -> torch.Tensor:
        everyone = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(everyone, rows.contiguous())
        return torch.cat(everyone)

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.contiguous()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


class SSLLoss(nn.Module):
    """Reconstruction + rotation + contrastive loss, in the paper each with weight 1 (section 2.3).

    Reconstruction is the mean absolute difference over all voxels to the clean turned crop (DIFF-8), rotation the
    cross-entropy over four quarter turns, contrastive `NTXentLoss`.

    Args:
        temperature, gather: see `NTXentLoss`.
        weights: of the three terms in the total, from 0.

    Shapes:
        prediction: output of `common.ssl.SSLHead`; target: targets of `common.ssl.TwoViews`. Output: scalars by name:
        total (to minimise), then reconstruction, rotation and contrastive, without their weights.
    """

    TERMS = ("reconstruction", "rotation", "contrastive")

    def __init__(
        self, temperature: float = 0.5, gather: bool = False, weights: Sequence[float] = (1.0, 1.0, 1.0)
    ) -> None:
        super().__init__()
        self.weights = dict(zip(self.TERMS, weights, strict=True))
        self.contrastive = NTXentLoss(temperature, gather)

    def chance(self, crops: int) -> dict[str, float]:
        """The terms with a weight of a network that cannot tell the views of `crops` crops, or their turns, apart.

        The logarithms of the 4 turns and of the 2 N - 1 views that a view is compared with. Reconstruction has none.
        """
        levels = {"rotation": log(4), "contrastive": log(max(1, 2 * crops - 1))}
        return {name: level for name, level in levels.items() if self.weights[name]}

    def forward(
        self, prediction: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        terms = {
            "reconstruction": F.l1_loss(prediction["reconstruction"].float(), target["reconstruction"]),
            "rotation": F.cross_entropy(prediction["rotation"].float(), target["rotation"]),
            "contrastive": self.contrastive(prediction["contrastive"]),
        }
        weighted = [self.weights[name] * term for name, term in terms.items() if self.weights[name]]
        return {"total": torch.stack(weighted).sum()} | terms
