"""Two rotated, corrupted views of a batch of crops: the `prepare_batch` of self-supervised training.

The method is that of Tang et al., CVPR 2022, which the paper takes over (section 2.3). A whole batch is made at once on
its own device, from a generator that belongs to the views, so that no other random number of the run moves them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events

__all__ = ["TwoViews", "boxes", "corrupt", "rotate"]

AXIAL = (2, 3)  # DIFF-5: x and y of [B, C, x, y, z] after reorientation to RAS; a turn about the z axis
EDGES = (0.05, 0.25)  # a box's edges, as fractions of the crop's
LARGEST_SHARE = 0.3  # of the crop's volume that boxes cover
MOST_BOXES = 256  # on average they would cover 0.8 of the crop, so 0.3 is reached


class TwoViews:
    """Make two views of each crop of a batch, and what the network is to say of them.

    Each view is the clean crop, turned by k x 90 degrees about the z axis (k uniform in 0..3), then corrupted. Both are
    drawn independently for each sample and each view.

    Called as a MONAI `prepare_batch`, it returns the inputs [2B, C, H, W, D] (all first views, then all second views)
    and the targets {"reconstruction": the clean turned crops [2B, C, H, W, D], "rotation": k [2B]}. Crops must be as
    long in x as in y.

    Attached to an engine as a handler, it begins each run of that engine with its seed again: a validator then sees the
    same views every time, and its figures can be compared over a training.

    Args:
        seed: of the generator; ranks of one run take different ones.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._generator: torch.Generator | None = None
        self._resumed: torch.Tensor | None = None

    def __call__(
        self, batch: Mapping[str, Any], device: torch.device | None = None, non_blocking: bool = False, **_: Any
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        crops = torch.as_tensor(batch["image"]).to(device, non_blocking=non_blocking)
        crops = crops.as_tensor() if hasattr(crops, "as_tensor") else crops
        generator = self._generator_on(crops.device)
        turns = torch.randint(4, (2 * len(crops),), generator=generator, device=crops.device)
        clean = rotate(crops.repeat(2, 1, 1, 1, 1), turns)
        inputs = torch.cat([corrupt(view, generator) for view in clean.chunk(2)])
        return inputs, {"reconstruction": clean, "rotation": turns}

    def attach(self, engine: Engine) -> None:
        """Begin every run of `engine` with the seed."""
        engine.add_event_handler(Events.STARTED, self.restart)

    def restart(self) -> None:
        """Go back to the first view that the seed gives."""
        self._generator = self._resumed = None

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The generator's state (empty before the first batch), for a checkpoint."""
        return {} if self._generator is None else {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on where `state` was taken, on the same kind of device."""
        self._generator, self._resumed = None, state.get("generator")

    def _generator_on(self, device: torch.device) -> torch.Generator:
        if self._generator is None:
            self._generator = torch.Generator(device).manual_seed(self.seed)
            if self._resumed is not None:
                self._generator.set_state(self._resumed.cpu())
        return self._generator


def rotate(crops: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turn each crop by its own number of quarter turns about the z axis.

    Args:
        crops: [B, C, H, W, D] with H = W.
        turns: [B], integers 0..3.

    Raises:
        ValueError: H and W differ.
    """
    if crops.shape[2] != crops.shape[3]:
        raise ValueError(
            f"crops of {tuple(crops.shape[2:])} voxels: expected x and y equally long, to be turned about z"
        )
    turned = crops
    for turn in (1, 2, 3):
        chosen = (turns == turn).view(-1, 1, 1, 1, 1)
        turned = torch.where(chosen, torch.rot90(crops, turn, AXIAL), turned)
    return turned


def corrupt(crops: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Fill boxes with noise, then replace others by the same place of another sample of the batch.

    The noise is Gaussian, scaled to each crop's and channel's own range (DIFF-6). Each sample draws its partner from
    the batch; where it draws itself, nothing is replaced. What is copied is the partner with its noise (DIFF-7).

    Args:
        crops: [B, C, H, W, D]; they are left as they are.
        generator: on the crops' device.
    """
    noisy = torch.where(boxes(crops, generator), _noise_like(crops, generator), crops)
    count = len(crops)
    partners = torch.randint(count, (count,), generator=generator, device=crops.device)
    return torch.where(boxes(crops, generator), noisy[partners], noisy)


def boxes(crops: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Draw a mask of boxes [B, 1, H, W, D] for each crop.

    For each crop a share of its volume is drawn uniformly from 0..0.3, then boxes with edges of 5 to 25 % of the crop's
    are added until their volumes (overlaps counted twice) reach it.
    """
    count, device = len(crops), crops.device
    sides = torch.tensor(crops.shape[2:], device=device)
    shape = (count, MOST_BOXES, 3)
    shortest, longest = (torch.tensor([int(edge * side) for side in crops.shape[2:]], device=device) for edge in EDGES)
    starts = _uniform_integers(shape, sides - shortest, generator)
    edges = shortest + _uniform_integers(shape, (longest - shortest).clamp(min=1), generator)
    ends = torch.minimum(starts + edges, sides)
    covered = (ends - starts).prod(dim=-1).cumsum(dim=-1)
    target = torch.rand((count, 1), generator=generator, device=device) * LARGEST_SHARE * sides.prod()
    needed = torch.cat([torch.zeros_like(covered[:, :1]), covered[:, :-1]], dim=1) < target  # not yet reached before it
    x, y, z = (
        ((places >= starts[..., axis, None]) & (places < ends[..., axis, None])).to(crops.dtype)
        for axis, places in enumerate(torch.arange(side, device=device) for side in crops.shape[2:])
    )
    return torch.einsum("bkx,bky,bkz->bxyz", x * needed[..., None], y, z)[:, None] > 0


def _uniform_integers(shape: tuple[int, ...], below: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Integers in 0..below-1; `below` is broadcast."""
    return (torch.rand(shape, generator=generator, device=below.device) * below).long()


def _noise_like(crops: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    noise = torch.randn(crops.shape, generator=generator, device=crops.device, dtype=crops.dtype)
    space = (2, 3, 4)
    low, high = noise.amin(space, keepdim=True), noise.amax(space, keepdim=True)
    darkest, brightest = crops.amin(space, keepdim=True), crops.amax(space, keepdim=True)
    return darkest + (noise - low) / (high - low) * (brightest - darkest)
