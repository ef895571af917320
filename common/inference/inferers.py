"""MONAI's inferers in mixed precision, with a single network pass for all windows of zeros; ensembles of networks."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer
from torch import nn

from .. import weights
from ..errors import ArgumentError, show
from ..ssl.networks import check_finite, in_precision
from ..values import AUTO

BATCH = {"cpu": 2, "cuda": 8}  # windows per batch with `sw_batch_size` auto


class CropInferer(SimpleInferer):
    """MONAI's `SimpleInferer` with a network that computes in `dtype`; its output is float32."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(inputs, in_precision(network, self.dtype), *args, **kwargs)


class WindowInferer(SlidingWindowInferer):
    """MONAI's `SlidingWindowInferer` with a network that computes in `dtype`, and a single pass for all empty windows.

    Images are 0 outside the brain, and all windows that are 0 in every channel have the same logits. The host finds the
    empty windows from one mask per volume, so no batch waits for the GPU. Logits are stitched in float32, and must be
    finite. If the GPU's memory is full, batches are halved. `sw_batch_size` auto is that of `BATCH`.

    Shapes:
        inputs [N, C, H, W, D]; the network maps windows [M, C, *roi_size] to logits [M, R, *roi_size], each window on
        its own, unlike batch norm during training.
    """

    sw_batch_size: int

    def __init__(
        self,
        roi_size: Sequence[int],
        sw_batch_size: int | str = 1,
        sw_device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        **kwargs: Any,
    ) -> None:
        size: Any = BATCH[torch.device(sw_device or "cpu").type] if sw_batch_size == AUTO else sw_batch_size
        super().__init__(roi_size, size, sw_device=sw_device, with_coord=True, **kwargs)
        self.dtype = dtype

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        occupied = inputs.as_subclass(torch.Tensor).any(dim=1).cpu()
        outside: list[torch.Tensor] = []

        def logits(windows: torch.Tensor) -> torch.Tensor:
            return self._in_batches(lambda part: in_precision(network, self.dtype)(part, *args, **kwargs), windows)

        def predict(windows: torch.Tensor, boxes: Sequence[Sequence[slice]]) -> torch.Tensor:
            has_brain = [bool(occupied[box[0], *box[2:]].any()) for box in boxes]  # box[1]: all channels
            if all(has_brain):
                return logits(windows)
            if not outside:
                outside.append(logits(torch.zeros_like(windows[:1])))
            inside = [window for window, is_inside in zip(windows, has_brain, strict=True) if is_inside]
            results = iter(logits(torch.stack(inside)) if inside else ())  # not by index, which waits for the GPU
            return torch.stack([next(results) if is_inside else outside[0][0] for is_inside in has_brain])

        stitched = super().__call__(inputs if self.device is None else inputs.to(self.device), predict)
        check_finite(stitched)
        return stitched

    def _in_batches(self, network: Any, windows: torch.Tensor) -> torch.Tensor:
        """Compute logits of windows in batches; halve the batches if the GPU's memory is full."""
        while True:
            size = min(self.sw_batch_size, len(windows))
            try:
                return torch.cat([network(part) for part in windows.split(size)])
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
            self.sw_batch_size = size // 2
            torch.cuda.empty_cache()
            show(f"the GPU's memory is full; windows at a time: {self.sw_batch_size} instead of {size}")


class Ensemble(nn.Module):
    """Average the logits of several networks over all 2 ** len(flips) mirrorings along the axes `flips` (0 to 2)."""

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

    Raise `InputError` if a checkpoint does not fit (see `common.weights.restore`), or is listed twice.
    """
    files = weights.checkpoint_files(checkpoint)
    if len({file.resolve() for file in files}) < len(files):
        raise ArgumentError("checkpoint", checkpoint, "a file is listed twice", "a different file for each network")
    networks = [network, *(deepcopy(network) for _ in files[1:])]
    for member, file in zip(networks, files, strict=True):
        weights.restore(member, file, modalities, normalization)
    return Ensemble(networks, flips)
