"""Proxy tasks of self-supervised pretraining, and the loss that sums them.

A task is a head, a target made by the views, a loss and its chance level. The configs list the tasks, and network,
views, loss, curves, pictures and records iterate over the list. A new task is a `ProxyTask` class in a module of its
own, whose path stands in the list of a config, such as `{_target_: common.ssl.mirror.Mirrored}`.
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

from ..errors import ArgumentError
from .losses import NTXentLoss


@dataclass
class Views:
    """Both views of each crop of a batch, all first views, then all second; proxy tasks make their targets of them.

    Tasks may replace tensors, but not change them in place.

    Attributes:
        inputs: Inputs of the network [2B, C, H, W, D].
        clean: the turned crops before they were corrupted, of the same shape.
        turns: quarter turns k [2B].
        generator: Generator of the views' random numbers, on the host.
        drawn: what tasks have drawn in `ProxyTask.change`, by their names.
    """

    inputs: torch.Tensor
    clean: torch.Tensor
    turns: torch.Tensor
    generator: torch.Generator
    drawn: dict[str, Any] = field(default_factory=dict)


class Encoded(NamedTuple):
    """The features of a batch, from which the heads predict.

    Attributes:
        image: the input [B, C, H, W, D].
        levels: the encoder's five feature maps, [B, width, h, w, d] each, the bottleneck last.
        tokens: Tokens of the bottleneck, for heads that read a vector [B, width, n], n at least 2.
    """

    image: torch.Tensor
    levels: Sequence[torch.Tensor]
    tokens: torch.Tensor


class ProxyTask(ABC):
    """A proxy task: its heads, its target and its loss.

    Attributes:
        name: Name of its prediction, target, loss and curve.
        quantity: Measure of its loss, with the unit.
        least_crops: crops in a batch that its loss needs; validation skips smaller batches.
        corrupts: Whether it needs views that are corrupted; they stay clean if no task of the list does.
        modality_axes: tensors of its heads that have one slice per modality, and the axis of the slices.
    """

    name: str
    quantity = "loss"
    least_crops = 1
    corrupts = True
    modality_axes: ClassVar[Mapping[str, int]] = {}

    @abstractmethod
    def heads(self, in_channels: int, feature_size: int) -> dict[str, nn.Module]:
        """Modules that it adds to the network, by name.

        Args:
            in_channels: number of modalities.
            feature_size: Feature size of the encoder; the bottleneck has 16 times as many channels.
        """

    @abstractmethod
    def predict(self, network: nn.Module, encoded: Encoded) -> torch.Tensor:
        """The prediction by its heads, which are attributes of `network`; drawn if it has the shape of the image."""

    def change(self, views: Views) -> None:  # noqa: B027  most tasks change nothing
        """Change the clean crops before they are corrupted: replace `views.clean`, note in `views.drawn` by what."""

    def target(self, views: Views) -> Any:
        """The target of the prediction; None if the task has none. It may replace `views.inputs`."""
        return None

    @abstractmethod
    def loss(self, prediction: torch.Tensor, target: Any) -> torch.Tensor:
        """The mean loss over the views of a batch: a scalar, in at least float32."""

    def chance(self, crops: int) -> float | None:
        """The loss of a network that cannot tell the views of `crops` crops apart; None if there is no such level."""
        return None

    def cosine(self, prediction: torch.Tensor) -> torch.Tensor | None:
        """The mean cosine of the embeddings of different crops, 1 after a collapse; None for a task without any."""
        return None


class Reconstruction(ProxyTask):
    """Restore the clean turned crop: the mean absolute difference over all voxels (DIFF-8).

    The head is five blocks of convolution, instance norm, leaky ReLU and trilinear upsampling, then a 1x1x1 convolution
    to the input's channels.
    """

    name, quantity = "reconstruction", "L1 (normalised intensity)"
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
    """A task whose head is a linear layer on one token of the bottleneck.

    Attributes:
        head: name of the layer.
        outputs: its number of outputs.
        token: the token that it reads.
    """

    head: str
    outputs: int
    token: int

    def heads(self, in_channels: int, feature_size: int) -> dict[str, nn.Module]:
        return {self.head: nn.Linear(16 * feature_size, self.outputs)}

    def predict(self, network: nn.Module, encoded: Encoded) -> torch.Tensor:
        return getattr(network, self.head)(encoded.tokens[..., self.token])


class Rotation(TokenTask):
    """Tell by how many quarter turns about the z axis a crop was turned: the cross-entropy over four classes."""

    name, quantity = "rotation", "cross-entropy (nats)"
    head, outputs, token = "rotation_head", 4, 0

    def target(self, views: Views) -> torch.Tensor:
        return views.turns

    def loss(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(prediction.float(), target)

    def chance(self, crops: int) -> float:
        """The logarithm of the number of turns."""
        return log(self.outputs)


class Contrastive(TokenTask):
    """Tell which views show the same crop, by `NTXentLoss`.

    Args:
        temperature, gather: see `NTXentLoss`.
    """

    name, quantity = "contrastive", "NT-Xent (nats)"
    head, outputs, token = "contrastive_head", 512, 1
    least_crops = 2

    def __init__(self, temperature: float = 0.5, gather: bool = False) -> None:
        self.ntxent = NTXentLoss(temperature, gather)

    def loss(self, prediction: torch.Tensor, target: None) -> torch.Tensor:
        return self.ntxent(prediction)

    def chance(self, crops: int) -> float:
        """The logarithm of the number of views that a view is compared with."""
        return log(max(1, 2 * crops - 1))

    def cosine(self, prediction: torch.Tensor) -> torch.Tensor:
        """The mean over all pairs of views of different crops; 0 if there is a single crop."""
        first, second = F.normalize(prediction.float(), dim=1).chunk(2)
        crops, of_crop = len(first), first + second
        between = of_crop.sum(dim=0).square().sum() - of_crop.square().sum()
        return between / max(1, 4 * crops * (crops - 1))


def paper_tasks() -> list[ProxyTask]:
    """The tasks of the paper (section 2.3): reconstruction, rotation and contrastive."""
    return [Reconstruction(), Rotation(), Contrastive()]


class SSLLoss(nn.Module):
    """The weighted sum of the losses of proxy tasks; in the paper each has weight 1 (section 2.3).

    Args:
        tasks: Proxy tasks; by default the paper's.
        weights: Weights of the tasks in the total, at least 0: a list in the tasks' order, or a mapping by name, in
            which the default is 1.

    Shapes:
        prediction: output of `common.ssl.SSLHead`; target: targets of `common.ssl.TwoViews`. Output: scalars by name:
        total (to minimise), then each task's, without its weight.

    Raises:
        ArgumentError: the weights do not fit the tasks, or all are 0.
    """

    def __init__(
        self, tasks: Sequence[ProxyTask] | None = None, weights: Sequence[float] | Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        self.tasks = paper_tasks() if tasks is None else list(tasks)
        names = [task.name for task in self.tasks]
        if not names:
            raise ArgumentError("tasks=[]: expected at least one proxy task")
        given = {} if weights is None else weights
        self.weights = dict.fromkeys(names, 1.0)
        self.weights |= given if isinstance(given, Mapping) else dict(zip(names, given, strict=False))
        is_complete = isinstance(given, Mapping) or len(given) == len(names)
        if not is_complete or self.weights.keys() != set(names) or not any(self.weights.values()):
            raise ArgumentError("loss_weights", weights, expected=f"a weight for each of {', '.join(names)}, not all 0")

    @property
    def quantities(self) -> dict[str, str]:
        """What the total and each term measure, with the unit."""
        return {"total": "weighted sum of the terms"} | {task.name: task.quantity for task in self.tasks}

    def chance(self, crops: int) -> dict[str, float]:
        """The chance level of each task that has one and a weight; see `ProxyTask.chance`."""
        levels = {task.name: task.chance(crops) for task in self.tasks if self.weights[task.name]}
        return {name: level for name, level in levels.items() if level is not None}

    def forward(self, prediction: Mapping[str, torch.Tensor], target: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        terms = {task.name: task.loss(prediction[task.name], target.get(task.name)) for task in self.tasks}
        weighted = [self.weights[name] * term for name, term in terms.items() if self.weights[name]]
        return {"total": torch.stack(weighted).sum()} | terms
