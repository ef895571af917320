"""MONAI's inferers in mixed precision on any device, with a single pass for all empty windows."""

from typing import Any

import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer

from ..ssl.networks import check_finite, in_precision


class CropInferer(SimpleInferer):
    """MONAI's `SimpleInferer` with a network that computes in `dtype`; its output is float32.

    Args:
        dtype: Data type of the network's computation: float32, or bfloat16 or float16 under autocast.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(inputs, in_precision(network, self.dtype), *args, **kwargs)


class WindowInferer(SlidingWindowInferer):
    """MONAI's `SlidingWindowInferer`, with a network that computes in `dtype`, and only once for all empty windows.

    Images are 0 outside the brain, and all windows that are 0 in every channel give the same logits. Logits are
    stitched in float32.

    Args:
        dtype: Data type of the network's computation: float32, or bfloat16 or float16 under autocast.
        kwargs: Further arguments of `SlidingWindowInferer`.

    Shapes:
        inputs [N, C, H, W, D]; the network maps windows [M, C, *roi_size] to logits [M, R, *roi_size], independently of
        each other, as with instance and layer norm, but not with batch norm in training.

    Raises:
        InputError: A logit is not finite.
    """

    def __init__(self, *args: Any, dtype: torch.dtype = torch.float32, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dtype = dtype

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        outside: list[torch.Tensor] = []

        def logits(windows: torch.Tensor) -> torch.Tensor:
            return in_precision(network, self.dtype)(windows, *args, **kwargs)

        def predict(windows: torch.Tensor) -> torch.Tensor:
            is_empty = ~windows.flatten(start_dim=1).any(dim=1)
            if not is_empty.any():
                return logits(windows)
            if not outside:
                outside.append(logits(torch.zeros_like(windows[:1])))
            found = outside[0].repeat(len(windows), *[1] * (outside[0].ndim - 1))
            if not is_empty.all():
                found[~is_empty] = logits(windows[~is_empty])
            return found

        stitched = super().__call__(inputs, predict)
        check_finite(stitched)
        return stitched
