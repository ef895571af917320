"""Ensembles: average several networks, optionally over mirrored inputs."""

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
    """Average the logits of several networks over all combinations of mirroring along the axes `flips` (0 to 2).

    Each network runs 2 ** len(flips) times.
    """

    def __init__(self, networks: Sequence[nn.Module], flips: Sequence[int] = ()) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        axes = [axis + 2 for axis in flips]  # batch and channel come first
        self.mirrors = list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the mean logits [N, R, x, y, z] of windows [N, C, x, y, z]."""
        total: Any = 0
        for network in self.networks:
            for mirror in self.mirrors:
                total = total + network(image.flip(mirror)).flip(mirror)
        return total / (len(self.networks) * len(self.mirrors))


def ensemble(
    network: nn.Module,
    checkpoint: str | Path | Sequence[str],
    modalities: Sequence[str],
    flips: Sequence[int] = (),
    normalization: str | None = None,
) -> Ensemble:
    """Build an ensemble from a checkpoint or a list of them, such as one per fold; the first is loaded into `network`.

    Raise `InputError` if a checkpoint does not fit (see `common.weights.restore`), or if two have equal weights.
    """
    files = weights.checkpoint_files(checkpoint)
    networks = [network, *(deepcopy(network) for _ in files[1:])]
    for member, file in zip(networks, files, strict=True):
        weights.restore(member, file, modalities, normalization)
    for (file, first), (copy, second) in combinations(zip(files, networks, strict=True), 2):
        if all(map(torch.equal, first.state_dict().values(), second.state_dict().values())):
            raise ArgumentError("checkpoint", copy, f"has the weights of {file}; an ensemble needs different networks")
    if len(files) > 1:
        show(f"ensemble: averaging the logits of {len(files)} checkpoints")
    return Ensemble(networks, flips)
