"""Proxy tasks of self-supervised pretraining.

A task has a head, a target made from the views, and a loss. Configs list the tasks; network, views, loss, curves and
pictures iterate over the list. To add a task, write a subclass of `ProxyTask` in a new module and list its path in a
config, such as `{_target_: common.ssl.mirror.Mirrored}`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn


@dataclass
class Views:
    """Both views of each crop in a batch: all first views, then all second views; tasks may replace the tensors."""

    inputs: torch.Tensor  # of the network [2B, C, H, W, D]
    clean: torch.Tensor  # rotated crops before corruption [2B, C, H, W, D]
    turns: torch.Tensor  # quarter turns of each crop [2B], 0..3
    generator: torch.Generator  # of the views, on the host


class Encoded(NamedTuple):
    """Features of a batch."""

    image: torch.Tensor  # input of the encoder [B, C, H, W, D]
    levels: Sequence[torch.Tensor]  # feature maps [B, width, h, w, d] of its five levels, the bottleneck last
    tokens: torch.Tensor  # of the bottleneck [B, width, n]


class ProxyTask(ABC):
    """Base class of proxy tasks: heads, target and loss."""

    name: str  # of the task's prediction, target, loss and curve: the class name in lower case
    least_crops = 1  # crops that the loss needs in a batch; validation skips smaller batches
    corrupts = True  # whether the task needs corrupted views; if no task does, views are not corrupted
    modality_axes: ClassVar[Mapping[str, int]] = {}  # tensor of a head -> its axis with a slice for each modality

    def __init_subclass__(cls) -> None:
        cls.name = cls.__name__.lower()

    @abstractmethod
    def heads(self, in_channels: int, feature_size: int) -> dict[str, nn.Module]:
        """Return modules to add to the network, by name; the bottleneck has 16 * `feature_size` channels."""

    @abstractmethod
    def predict(self, network: nn.Module, encoded: Encoded) -> torch.Tensor:
        """Return the prediction of the heads in `network`; pictures show predictions with the shape of the image."""

    def change(self, views: Views) -> None:  # noqa: B027  most tasks change nothing
        """Change the crops before corruption: replace `views.clean`; `target` follows: keep its draws on the task."""

    def target(self, views: Views) -> Any:
        """Return the target, or None for a task without targets; may replace `views.inputs`."""
        return None

    @abstractmethod
    def loss(self, prediction: torch.Tensor, target: Any) -> torch.Tensor:
        """Return the mean loss over the views of a batch, a scalar in at least float32."""

    def cosine(self, prediction: torch.Tensor) -> torch.Tensor | None:
        """Return the mean cosine of embeddings of different crops (1 after a collapse); None without embeddings."""
        return None


class Reconstruction(ProxyTask):
    """Reconstruct the rotated crop as it was before corruption; the loss is the mean absolute difference (DIFF-8)."""

    modality_axes: ClassVar = {"conv.20.weight": 0, "conv.20.bias": 0}

    def heads(self, in_channels: int, feature_size: int) -> dict[str, nn.Module]:
        widths = [feature_size * share for share in (16, 8, 4, 2, 1, 1)]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [
                nn.Conv3d(before, after, kernel_size=3, padding=1),
                nn.InstanceNorm3d(after),
                nn.LeakyReLU(),
                nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False),
            ]
        return {"conv": nn.Sequential(*layers, nn.Conv3d(widths[-1], in_channels, kernel_size=1))}

    def predict(self, network: Any, encoded: Encoded) -> torch.Tensor:
        return network.conv(encoded.levels[-1])

    def target(self, views: Views) -> torch.Tensor:
        return views.clean

    def loss(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.l1_loss(prediction.float(), target)


class TokenTask(ProxyTask):
    """A task whose linear layer `head` maps the bottleneck's token of index `token` to `outputs` values."""

    head: str
    outputs: int
    token: int  # 0 or 1, as the smallest crop has two tokens; tasks may share one

    def heads(self, in_channels: int, feature_size: int) -> dict[str, nn.Module]:
        return {self.head: nn.Linear(16 * feature_size, self.outputs)}

    def predict(self, network: nn.Module, encoded: Encoded) -> torch.Tensor:
        return getattr(network, self.head)(encoded.tokens[..., self.token])


class Rotation(TokenTask):
    """Predict the number of quarter turns of a crop about the z axis; the loss is the cross-entropy of four classes."""

    head, outputs, token = "rotation_head", 4, 0

    def target(self, views: Views) -> torch.Tensor:
        return views.turns

    def loss(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(prediction.float(), target)


class Contrastive(TokenTask):
    """Match the two views of each crop by their embeddings; `temperature` and `gather` are those of `nt_xent`."""

    head, outputs, token = "contrastive_head", 512, 1
    least_crops = 2

    def __init__(self, temperature: float = 0.5, gather: bool = False) -> None:
        self.temperature, self.gather = temperature, gather

    def loss(self, prediction: torch.Tensor, target: None) -> torch.Tensor:
        return nt_xent(prediction, self.temperature, self.gather)

    def cosine(self, prediction: torch.Tensor) -> torch.Tensor:
        """Return the mean cosine over all pairs of views of different crops; 0 for a single crop."""
        first, second = F.normalize(prediction.float(), dim=1).chunk(2)
        crops, pairs = len(first), first + second
        between = pairs.sum(dim=0).square().sum() - pairs.square().sum()
        return between / max(1, 4 * crops * (crops - 1))


def paper_tasks() -> list[ProxyTask]:
    """Return the paper's tasks (section 2.3): reconstruction, rotation and contrastive."""
    return [Reconstruction(), Rotation(), Contrastive()]


def nt_xent(embeddings: torch.Tensor, temperature: float = 0.5, gather: bool = False) -> torch.Tensor:
    """Return the normalised temperature-scaled cross-entropy (Chen et al., ICML 2020, equation 1), over all views.

    For view i and the other view j of its crop: -log(exp(s_ij / t) / sum over k != i of exp(s_ik / t)), where s is the
    cosine similarity and t the temperature, above 0.

    `embeddings` [2N, E] are the N first views of a batch, then the N second views. The loss is a mean in at least
    float32; 0 without negatives (a single crop over all processes).

    With `gather`, the views of all processes serve as negatives; each process needs the same number of views. The
    gradients that DistributedDataParallel averages then equal those of a single process with all views. Ignored without
    gradients: processes may have different numbers of validation batches.
    """
    views = len(embeddings)
    with torch.autocast(embeddings.device.type, enabled=False):
        unit = F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=1)
        gathered, first = unit, 0
        if gather and unit.requires_grad and dist.is_initialized():
            gathered, first = _Gathered.apply(unit), views * dist.get_rank()
        similarity = unit @ gathered.T / temperature
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
