"""Proxy tasks of self-supervised pretraining, and the loss that sums them.

A task has a head, a target made from the views, and a loss. Configs list the tasks; network, views, loss, curves and
pictures iterate over the list. To add a task, write a subclass of `ProxyTask` in a new module and list its path in a
config, such as `{_target_: common.ssl.mirror.Mirrored}`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import ArgumentError
from .losses import NTXentLoss


@dataclass
class Views:
    """Both views of each crop in a batch: all first views, then all second views; tasks may replace the tensors.

    Attributes:
        inputs: Inputs of the network [2B, C, H, W, D].
        clean: Rotated crops before corruption [2B, C, H, W, D].
        turns: Number of quarter turns of each crop [2B], 0..3.
        generator: Random generator of the views, on the host.
    """

    inputs: torch.Tensor
    clean: torch.Tensor
    turns: torch.Tensor
    generator: torch.Generator


class Encoded(NamedTuple):
    """Features of a batch.

    Attributes:
        image: Input of the encoder [B, C, H, W, D].
        levels: Feature maps [B, width, h, w, d] of the encoder's five levels, the bottleneck last.
        tokens: Bottleneck tokens [B, width, n]; the rotation head reads the first, the contrastive head the second.
    """

    image: torch.Tensor
    levels: Sequence[torch.Tensor]
    tokens: torch.Tensor


class ProxyTask(ABC):
    """Base class of proxy tasks: heads, target and loss.

    Attributes:
        name: Name of the task's prediction, target, loss and curve: the class name in lower case.
        least_crops: Number of crops that the loss needs in a batch; validation skips smaller batches.
        corrupts: Whether the task needs corrupted views; if no task does, views are not corrupted.
        modality_axes: Axis with a slice for each modality, by name of a head's tensor.
    """

    name: str
    least_crops = 1
    corrupts = True
    modality_axes: ClassVar[Mapping[str, int]] = {}

    def __init_subclass__(cls) -> None:
        cls.name = cls.__name__.lower()

    @abstractmethod
    def heads(self, in_channels: int, feature_size: int) -> dict[str, nn.Module]:
        """Return modules to add to the network, by name; the bottleneck has 16 * `feature_size` channels."""

    @abstractmethod
    def predict(self, network: nn.Module, encoded: Encoded) -> torch.Tensor:
        """Return the prediction of the heads in `network`; pictures show predictions with the shape of the image."""

    def change(self, views: Views) -> None:  # noqa: B027  most tasks change nothing
        """Change the crops before corruption: replace `views.clean`; `target` of the same views follows."""

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
    token: int

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
    """Match the two views of each crop, with `NTXentLoss`."""

    head, outputs, token = "contrastive_head", 512, 1
    least_crops = 2

    def __init__(self, temperature: float = 0.5, gather: bool = False) -> None:
        self.ntxent = NTXentLoss(temperature, gather)

    def loss(self, prediction: torch.Tensor, target: None) -> torch.Tensor:
        return self.ntxent(prediction)

    def cosine(self, prediction: torch.Tensor) -> torch.Tensor:
        """Return the mean cosine over all pairs of views of different crops; 0 for a single crop."""
        first, second = F.normalize(prediction.float(), dim=1).chunk(2)
        crops, pairs = len(first), first + second
        between = pairs.sum(dim=0).square().sum() - pairs.square().sum()
        return between / max(1, 4 * crops * (crops - 1))


def paper_tasks() -> list[ProxyTask]:
    """Return the paper's tasks (section 2.3): reconstruction, rotation and contrastive."""
    return [Reconstruction(), Rotation(), Contrastive()]


class SSLLoss(nn.Module):
    """Weighted sum of the proxy tasks' losses; in the paper, all weights are 1 (section 2.3).

    Args:
        tasks: Proxy tasks; by default the paper's.
        weights: Task weights, at least 0: a list in the order of the tasks, or a mapping by name (default 1).

    Shapes:
        prediction: output of `SSLHead`; target: targets of `TwoViews`. Output: scalars by name: "total" (to minimise),
        and the unweighted loss of each task.
    """

    def __init__(
        self, tasks: Sequence[ProxyTask] | None = None, weights: Sequence[float] | Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        self.tasks = paper_tasks() if tasks is None else list(tasks)
        names = [task.name for task in self.tasks]
        overrides = {} if weights is None else weights
        is_complete = isinstance(overrides, Mapping) or len(overrides) == len(names)
        given = overrides if isinstance(overrides, Mapping) else dict(zip(names, overrides, strict=False))
        self.weights = dict.fromkeys(names, 1.0) | dict(given)
        is_valid = all(0 <= weight < math.inf for weight in self.weights.values()) and any(self.weights.values())
        if not is_complete or self.weights.keys() != set(names) or not is_valid:
            expected = f"a weight of at least 0 for each of {', '.join(names)}, not all 0"
            raise ArgumentError("loss_weights", weights, expected=expected)

    def forward(self, prediction: Mapping[str, torch.Tensor], target: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        terms = {task.name: task.loss(prediction[task.name], target.get(task.name)) for task in self.tasks}
        weighted = [self.weights[name] * term for name, term in terms.items() if self.weights[name]]
        return {"total": torch.stack(weighted).sum()} | terms
