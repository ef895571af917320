"""Ensembles: the mean of several networks, optionally with mirrored inputs."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import weights
from ..errors import ArgumentError, show


class Ensemble(nn.Module):
    """Average the logits of several networks over all mirror images along the spatial axes in `flips` (0 to 2).

    That takes 2 ** len(flips) passes for each network.
    """

    def __init__(self, networks: Sequence[nn.Module], flips: Sequence[int] = ()) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        axes = [axis + 2 for axis in flips]  # batch and channel come first
        self.mirrors = list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits [N, R, x, y, z] of windows [N, C, x, y, z]."""
        total: Any = 0
        for network in self.networks:
            for mirror in self.mirrors:
                total = total + (network(image.flip(mirror)).flip(mirror) if mirror else network(image))
        return total / (len(self.networks) * len(self.mirrors))


def ensemble(
    network: nn.Module,
    checkpoint: str | Path | Sequence[str],
    modalities: Sequence[str],
    flips: Sequence[int] = (),
    normalization: str | None = None,
) -> Ensemble:
    """Build an ensemble of the networks in one or several checkpoints.

    Args:
        network: Network of the checkpoints' architecture; the first checkpoint is loaded into it.
        checkpoint: File, or a list of files, such as one for each fold.
        modalities: Modalities that every checkpoint must have been trained with.
        flips: Spatial axes (0 to 2) to mirror along; all combinations are averaged, in 2 ** len(flips) passes.
        normalization: Normalization of the images (see `common.weights.restore`).

    Raises:
        InputError: no checkpoint is given, one does not fit (see `common.weights.restore`), or `flips` is not a list of
            distinct axes from 0 to 2.
    """
    files = weights.checkpoint_files(checkpoint)
    if not files:
        raise ArgumentError("checkpoint=[]: expected at least one file")
    if (
        not isinstance(flips, list | tuple)
        or not all(type(axis) is int and 0 <= axis <= 2 for axis in flips)
        or len(set(flips)) < len(flips)
    ):
        raise ArgumentError("flips", flips, expected="a list of the axes 0, 1, 2, each at most once, such as [0]")
    networks = [network, *(deepcopy(network) for _ in files[1:])]
    for each, file in zip(networks, files, strict=True):
        weights.restore(each, file, modalities, normalization)
    for (one, first), (two, second) in combinations(zip(files, networks, strict=True), 2):
        if all(map(torch.equal, first.state_dict().values(), second.state_dict().values())):
            raise ArgumentError("checkpoint", two, f"has the weights of {one}; an ensemble needs different networks")
    if len(files) > 1:
        show(f"ensemble: {len(files)} checkpoints, whose logits are averaged")
    return Ensemble(networks, flips)
