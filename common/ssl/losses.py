"""Contrastive loss."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn


class NTXentLoss(nn.Module):
    """Normalised temperature-scaled cross-entropy (Chen et al., ICML 2020, equation 1), averaged over all views.

    For view i and the other view j of its crop: -log(exp(s_ij / t) / sum over k != i of exp(s_ik / t)), where s is the
    cosine similarity.

    Args:
        temperature: Temperature t, above 0; 0.5 in the method.
        gather: Whether the views of all processes serve as negatives; each process needs the same number of views.
            The gradients that DistributedDataParallel averages then equal those of a single process with all views.
            Ignored without gradients: processes may have different numbers of validation batches.

    Shapes:
        input [2N, E]: the N first views of a batch, then the N second views. Output: a scalar in at least float32; 0
        without negatives (a single crop over all processes).
    """

    def __init__(self, temperature: float = 0.5, gather: bool = False) -> None:
        super().__init__()
        self.temperature, self.gather = temperature, gather

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        views = len(embeddings)
        with torch.autocast(embeddings.device.type, enabled=False):
            unit = F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=1)
            gathered, first = unit, 0
            if self.gather and unit.requires_grad and dist.is_initialized():
                gathered, first = _Gathered.apply(unit), views * dist.get_rank()
            similarity = unit @ gathered.T / self.temperature
        columns = first + torch.arange(views, device=unit.device)
        similarity = similarity.scatter(1, columns[:, None], -torch.inf)
        return F.cross_entropy(similarity, columns.roll(views // 2))


class _Gathered(torch.autograd.Function):
    """Concatenate the rows of all processes by rank; a row's gradient is the sum over the losses of all processes."""

    @staticmethod
    def forward(_: Any, rows: torch.Tensor) -> torch.Tensor:
        gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.contiguous()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]
