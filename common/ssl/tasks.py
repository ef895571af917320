"""Proxy tasks of self-supervised pretraining, and the loss that sums them.

A task has a head, a target made from the views, a loss and its chance level. Configs list the tasks; network, views,
loss, curves, pictures and records iterate over the list. To add a task, write a subclass of `ProxyTask` in a new module
and list its path in a config, such as `{_target_: common.ssl.mirror.Mirrored}`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import log
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .losses import NTXentLoss
from .weighting import task_name, task_weights


@dataclass
class Views:
    """Both views of each crop in a batch: all first views, then all second views.

    Proxy tasks make their targets from the views. They may replace the tensors, but not change them in place.

    Attributes:
        inputs: Inputs of the network [2B, C, H, W, D].
        clean: Rotated crops before corruption [2B, C, H, W, D].
        turns: Number of quarter turns of each crop [2B], 0..3.
        generator: Random generator of the views, on the host.
        drawn: Random draws of `ProxyTask.change`, by task name.
    """

    inputs: torch.Tensor
    clean: torch.Tensor
    turns: torch.Tensor
    generator: torch.Generator
    drawn: dict[str, Any] = field(default_factory=dict)


class Encoded(NamedTuple):
    """Features of a batch, from which the heads of proxy tasks predict.

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
        quantity: Quantity that the loss measures, with the unit.
        least_crops: Number of crops that the loss needs in a batch; validation skips smaller batches.
        corrupts: Whether the task needs corrupted views; if no task does, views are not corrupted.
        modality_axes: Axis with a slice for each modality, by name of a head's tensor.
    """

    name: str
    quantity = "loss"
    least_crops = 1
    corrupts = True
    modality_axes: ClassVar[Mapping[str, int]] = {}

    def __init_subclass__(cls) -> None:
        if "name" in vars(cls):  # options derive the name from the class's path
            raise TypeError(f"{cls.__name__}.name: follows from the class's name; leave it out")
        cls.name = task_name(cls.__name__)

    @abstractmethod
    def heads(self, in_channels: int, feature_size: int) -> dict[str, nn.Module]:
        """Return modules to add to the network, by name; the bottleneck has 16 * `feature_size` channels."""

    @abstractmethod
    def predict(self, network: nn.Module, encoded: Encoded) -> torch.Tensor:
        """Return the prediction of the heads in `network`; pictures show predictions with the shape of the image."""

    def change(self, views: Views) -> None:  # noqa: B027  most tasks change nothing
        """Change the crops before corruption: replace `views.clean`, and store random draws in `views.drawn[name]`."""

    def target(self, views: Views) -> Any:
        """Return the target, or None for a task without targets; may replace `views.inputs`."""
        return None

    @abstractmethod
    def loss(self, prediction: torch.Tensor, target: Any) -> torch.Tensor:
        """Return the mean loss over the views of a batch, a scalar in at least float32."""

    def chance(self, crops: int) -> float | None:
        """Return the loss of a prediction without information about the input, for `crops` crops; None if undefined."""
        return None

    def cosine(self, prediction: torch.Tensor) -> torch.Tensor | None:
        """Return the mean cosine of embeddings of different crops (1 after a collapse); None without embeddings."""
        return None


class Reconstruction(ProxyTask):
    """Reconstruct the rotated crop as it was before corruption.

    The loss is the mean absolute difference over all voxels (DIFF-8).

    The head is five blocks of convolution, instance norm, leaky ReLU and trilinear upsampling, then a 1x1x1 convolution
    to the input's channels.
    """

    quantity = "L1 (normalised intensity)"
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
    """A task with a linear head on one token of the bottleneck.

    Attributes:
        head: Name of the layer.
        outputs: Number of outputs of the layer.
        token: Index of the token that the layer reads.
    """

    head: str
    outputs: int
    token: int

    def heads(self, in_channels: int, feature_size: int) -> dict[str, nn.Module]:
        return {self.head: nn.Linear(16 * feature_size, self.outputs)}

    def predict(self, network: nn.Module, encoded: Encoded) -> torch.Tensor:
        return getattr(network, self.head)(encoded.tokens[..., self.token])


class Rotation(TokenTask):
    """Predict the number of quarter turns of a crop about the z axis; the loss is the cross-entropy of four classes."""

    quantity = "cross-entropy (nats)"
    head, outputs, token = "rotation_head", 4, 0

    def target(self, views: Views) -> torch.Tensor:
        return views.turns

    def loss(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(prediction.float(), target)

    def chance(self, crops: int) -> float:
        """Return the logarithm of the number of turns."""
        return log(self.outputs)


class Contrastive(TokenTask):
    """Match the two views of each crop, with `NTXentLoss`."""

    quantity = "NT-Xent (nats)"
    head, outputs, token = "contrastive_head", 512, 1
    least_crops = 2

    def __init__(self, temperature: float = 0.5, gather: bool = False) -> None:
        self.ntxent = NTXentLoss(temperature, gather)

    def loss(self, prediction: torch.Tensor, target: None) -> torch.Tensor:
        return self.ntxent(prediction)

    def chance(self, crops: int) -> float:
        """Return the logarithm of the number of views with which each view is compared: 2 * `crops` - 1."""
        return log(max(1, 2 * crops - 1))

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
        prediction: output of `common.ssl.SSLHead`; target: targets of `common.ssl.TwoViews`. Output: scalars by name:
        "total" (to minimise), and the unweighted loss of each task.

    Raises:
        ArgumentError: There are no tasks, the weights do not match the tasks, or all weights are 0.
    """

    def __init__(
        self, tasks: Sequence[ProxyTask] | None = None, weights: Sequence[float] | Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        self.tasks = paper_tasks() if tasks is None else list(tasks)
        self.weights = task_weights([task.name for task in self.tasks], weights)

    @property
    def quantities(self) -> dict[str, str]:
        """Quantity of the total and of each task's loss, with the unit, by name."""
        return {"total": "weighted sum of the terms"} | {task.name: task.quantity for task in self.tasks}

    def chance(self, crops: int) -> dict[str, float]:
        """Return the defined chance levels of the tasks with a weight above 0, by task; see `ProxyTask.chance`."""
        levels = {task.name: task.chance(crops) for task in self.tasks if self.weights[task.name]}
        return {name: level for name, level in levels.items() if level is not None}

    def forward(self, prediction: Mapping[str, torch.Tensor], target: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        terms = {task.name: task.loss(prediction[task.name], target.get(task.name)) for task in self.tasks}
        weighted = [self.weights[name] * term for name, term in terms.items() if self.weights[name]]
        return {"total": torch.stack(weighted).sum()} | terms
