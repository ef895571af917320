"""Two rotated, corrupted views of a batch of crops (Tang et al., CVPR 2022; paper, section 2.3).

Turns, boxes and swap partners are drawn on the host, from a generator that nothing else uses. Voxels change on the
batch's device, by the same few operations for any number of boxes: nothing waits for the device.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import convert_to_tensor
from numpy.typing import NDArray

from .tasks import ProxyTask, Views, paper_tasks

VIEWS = 2
AXIAL = (1, 2)  # x and y of [C, x, y, z] in RAS: a turn about the z axis (DIFF-5)
EDGES = (0.05, 0.25)  # shortest and longest edge of a box, as fractions of the crop's edge
LARGEST_SHARE = 0.3  # largest target volume of the boxes, as a fraction of the crop
BOXES_AT_ONCE = 64  # boxes drawn per crop at a time; on average, 65 boxes cover 0.15 of a crop with edges of 96 voxels


class TwoViews:
    """Make two views of each crop of a batch, and the targets of the proxy tasks.

    A view is the crop rotated by k x 90 degrees about the z axis (k uniform in 0..3), changed by the tasks, then
    corrupted if a task needs it. Turns and corruption are drawn independently for each crop and each view.

    As a MONAI `prepare_batch`, it returns the inputs [2B, C, H, W, D] (all first views, then all second views) and the
    targets by task: for the paper's tasks {"reconstruction": clean rotated crops [2B, C, H, W, D], "rotation": k [2B]}.
    The target "clean" also holds the clean rotated crops, for pictures.

    As a handler, it restarts from the seed at the start of each run: all validations use the same views. The noise in
    the boxes is reproducible only on the same kind of device.
    """

    def __init__(self, seed: int = 0, tasks: Sequence[ProxyTask] | None = None) -> None:
        self.seed = seed
        self.tasks = paper_tasks() if tasks is None else list(tasks)
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(
        self, batch: Mapping[str, Any], device: torch.device | None = None, non_blocking: bool = False, **_: Any
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        crops = convert_to_tensor(batch["image"]).to(device, non_blocking=non_blocking)
        turns = torch.randint(4, (VIEWS * len(crops),), generator=self._generator)
        clean = rotate([*crops] * VIEWS, turns)
        views = Views(clean, clean, send(turns, crops.device), self._generator)
        for task in self.tasks:
            task.change(views)
        is_corrupted = any(task.corrupts for task in self.tasks)
        views.inputs = corrupt(views.clean, self._generator) if is_corrupted else views.clean
        targets = {"clean": views.clean} | {task.name: task.target(views) for task in self.tasks}
        return views.inputs, {name: target for name, target in targets.items() if target is not None}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda: self._generator.manual_seed(self.seed))

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        self._generator.set_state(state["generator"].cpu())


def rotate(crops: Sequence[torch.Tensor] | torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Rotate B crops [C, H, W, D] with H = W by quarter turns [B] about the z axis, into one tensor [B, C, H, W, D]."""
    turned = crops[0].new_empty(len(crops), *crops[0].shape)
    for output, crop, turn in zip(turned, crops, turns.tolist(), strict=True):
        output.copy_(crop.rot90(turn, AXIAL))
    return turned


def corrupt(crops: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Fill random boxes of each crop with noise, then copy further boxes from a partner crop of the same view.

    A box's noise is Gaussian, scaled to 0..1 over the box and all channels together, then mapped to each channel's
    range in the crop (DIFF-6); a box of one voxel and one channel gets the lowest value. Where boxes overlap, the later
    box wins. Each crop draws its partner from its view; the copied boxes include the partner's noise (DIFF-7). A crop
    that draws itself copies no boxes. `crops` [2B, C, H, W, D] are not changed; `generator` is on the host.
    """
    count, _, *sides = crops.shape
    size = count // VIEWS
    partners = torch.randint(size, (VIEWS, size), generator=generator)
    partners = (partners + size * torch.arange(VIEWS)[:, None]).flatten()  # within each view
    filled = boxes(count, sides, generator)
    swapped = boxes(count, sides, generator, partners != torch.arange(count))
    noisy = _fill(crops, *filled, generator)
    inside = np.zeros((count, 1, *sides), bool)
    for box in _parts_in(inside[:, 0], *swapped):
        box[:] = True
    swaps = send(torch.from_numpy(inside), crops.device)
    return torch.where(swaps, noisy[send(partners, crops.device)], noisy).contiguous()


def boxes(
    count: int, sides: Sequence[int], generator: torch.Generator, wanted: torch.Tensor | bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw boxes in each crop until the sum of their volumes reaches a fraction of the crop's.

    The fraction is uniform in 0..0.3. A box starts anywhere except in the last 5 % of each side. Its edges are whole
    voxels, from 5 % to just under 25 % of the side, cut off at the end of the crop. Crops with a side below 8 voxels
    get no boxes. `wanted` is a mask [count] of crops that get boxes.

    Return starts and edges [count, N, 3] in voxels, in drawing order; surplus boxes have edges of 0.
    """
    shortest, longest = ([int(edge * side) for side in sides] for edge in EDGES)
    last_starts = [side - edge for side, edge in zip(sides, shortest, strict=True)]  # exclusive, like `longest`
    largest = LARGEST_SHARE if min(longest) >= 2 else 0.0
    target = torch.rand(count, generator=generator, dtype=torch.float64) * largest * math.prod(sides) * wanted
    covered = torch.zeros_like(target)
    starts, edges = [torch.empty(count, 0, 3, dtype=torch.int64)], [torch.empty(count, 0, 3, dtype=torch.int64)]
    while (covered < target).any():
        start = _integers([0, 0, 0], last_starts, count, generator)
        edge = torch.minimum(_integers(shortest, longest, count, generator), torch.tensor(sides) - start)
        volume = edge.prod(dim=-1)
        before = covered[:, None] + volume.cumsum(dim=1) - volume
        starts.append(start)
        edges.append(edge * (before < target[:, None])[..., None])
        covered = covered + volume.sum(dim=1)
    return torch.cat(starts, dim=1), torch.cat(edges, dim=1)


def _integers(low: list[int], high: list[int], count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw integers [count, BOXES_AT_ONCE, 3], uniform in low..high-1 on each axis."""
    axes = [torch.randint(*ends, (count, BOXES_AT_ONCE), generator=generator) for ends in zip(low, high, strict=True)]
    return torch.stack(axes, dim=-1)


def _fill(crops: torch.Tensor, starts: torch.Tensor, edges: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return the crops with noise in the boxes [B, N, 3]."""
    volumes = torch.cat([torch.ones(1, dtype=torch.int64), edges.prod(dim=2).flatten()])  # first: outside all boxes
    box_number = torch.repeat_interleave(send(volumes, crops.device), output_size=int(volumes.sum()))
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    on_device, dtype = torch.Generator(crops.device).manual_seed(seed), torch.promote_types(crops.dtype, torch.float32)
    noise = torch.randn(crops.shape[1], len(box_number), generator=on_device, device=crops.device, dtype=dtype)
    low, high = (
        noise.new_full((len(volumes),), start).scatter_reduce(0, box_number, values, reduce)
        for start, values, reduce in ((math.inf, noise.amin(dim=0), "amin"), (-math.inf, noise.amax(dim=0), "amax"))
    )
    span = (high - low).clamp_(min=torch.finfo(noise.dtype).tiny)  # noise of one value becomes 0, not 0 / 0
    noise = (noise - low[box_number]) / span[box_number]
    painted = np.zeros((len(crops), 1, *crops.shape[2:]), np.int32)  # the last box at each voxel gives its noise
    numbers = np.arange(1, len(box_number), dtype=np.int32)
    for box in _parts_in(painted[:, 0], starts, edges):
        box[:] = numbers[: box.size].reshape(box.shape)
        numbers = numbers[box.size :]
    index = send(torch.from_numpy(painted), crops.device)
    share = noise.index_select(1, index.flatten()).view(-1, len(crops), *crops.shape[2:]).transpose(0, 1)
    darkest, brightest = (limit(dim=(2, 3, 4), keepdim=True).to(noise.dtype) for limit in (crops.amin, crops.amax))
    return torch.where(index > 0, torch.lerp(darkest, brightest, share).to(crops.dtype), crops)


def _parts_in(volumes: NDArray[Any], starts: torch.Tensor, edges: torch.Tensor) -> Iterator[NDArray[Any]]:
    """Yield the part of volumes [B, H, W, D] in each box [B, N, 3]."""
    for volume, corners in zip(volumes, torch.stack([starts, starts + edges], dim=-1).tolist(), strict=True):
        for x, y, z in corners:
            yield volume[slice(*x), slice(*y), slice(*z)]


def send(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy host values to a device without waiting for it; to a GPU, from pinned memory."""
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)
