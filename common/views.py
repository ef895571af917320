"""Two rotated, corrupted views of a batch of crops: the `prepare_batch` of self-supervised training.

The method is that of Tang et al., CVPR 2022, which the paper takes over (section 2.3). What is to be done is drawn on
the host, from a generator that belongs to the views, so that no other random number of the run moves them. It is done
on the batch's own device to all boxes of the batch at once, and nothing waits for that device.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from ignite.engine import Engine, Events

__all__ = ["TwoViews", "boxes", "corrupt", "rotate"]

VIEWS = 2
AXIAL = (1, 2)  # DIFF-5: x and y of [C, x, y, z] after reorientation to RAS; a turn about the z axis
EDGES = (0.05, 0.25)  # a box's edges, as fractions of the crop's
LARGEST_SHARE = 0.3  # of the crop's volume that boxes cover
BOXES_AT_ONCE = 64  # drawn for each crop in a go; of a crop of 96 voxels, 65 boxes cover 0.15


class TwoViews:
    """Make two views of each crop of a batch, and what the network is to say of them.

    Each view is the clean crop, turned by k x 90 degrees about the z axis (k uniform in 0..3), then corrupted. Both are
    drawn independently for each sample and each view.

    Called as a MONAI `prepare_batch`, it returns the inputs [2B, C, H, W, D] (all first views, then all second views)
    and the targets {"reconstruction": the clean turned crops [2B, C, H, W, D], "rotation": k [2B]}. Crops must be as
    long in x as in y.

    Attached to an engine as a handler, it begins each run of that engine with its seed again: a validator then sees the
    same views every time, and its figures can be compared over a training.

    The seed decides turns, boxes and partners on every kind of device; the noise in the boxes is the device's own, so
    it is the same again on the same kind of device.

    Args:
        seed: of the generator; ranks of one run take different ones.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(
        self, batch: Mapping[str, Any], device: torch.device | None = None, non_blocking: bool = False, **_: Any
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        crops = torch.as_tensor(batch["image"]).to(device, non_blocking=non_blocking)
        crops = crops.as_tensor() if hasattr(crops, "as_tensor") else crops
        turns = torch.randint(4, (VIEWS * len(crops),), generator=self._generator)
        clean = rotate([*crops] * VIEWS, turns)
        inputs = corrupt(clean, self._generator, VIEWS)
        return inputs, {"reconstruction": clean, "rotation": _send(turns, crops.device)}

    def attach(self, engine: Engine) -> None:
        """Begin every run of `engine` with the seed."""
        engine.add_event_handler(Events.STARTED, self.restart)

    def restart(self) -> None:
        """Go back to the first view that the seed gives."""
        self._generator.manual_seed(self.seed)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The generator's state, for a checkpoint; it fits every kind of device."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on where `state` was taken."""
        self._generator.set_state(state["generator"].cpu())


def rotate(crops: Sequence[torch.Tensor] | torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turn each crop by its own number of quarter turns about the z axis.

    Args:
        crops: B of [C, H, W, D] with H = W.
        turns: [B], integers 0..3, on the host.

    Raises:
        ValueError: H and W differ.
    """
    _, height, width, depth = crops[0].shape
    if height != width:
        raise ValueError(f"crops of {height, width, depth} voxels: expected x and y equally long, to be turned about z")
    turned = crops[0].new_empty(len(crops), *crops[0].shape)
    for place, crop, turn in zip(turned, crops, turns.tolist(), strict=True):
        place.copy_(crop.rot90(turn, AXIAL))
    return turned


def corrupt(crops: torch.Tensor, generator: torch.Generator, views: int = 1) -> torch.Tensor:
    """Fill boxes with noise, then replace others by the same place of another sample of the same view.

    A box's noise is Gaussian, scaled over the box and all its channels to 0..1, then laid over each channel's range in
    its crop (DIFF-6); a box of one voxel of one channel gets the lowest value. Where boxes overlap, the later one is
    seen. Each sample draws a partner from its view; where it draws itself, nothing is replaced. What is copied is the
    partner with its noise (DIFF-7).

    Args:
        crops: [views x B, C, H, W, D], view by view; they are left as they are.
        generator: of the host, whatever device the crops are on; a generator for the noise is seeded from it.
        views: which do not mix.
    """
    count, _, *sides = crops.shape
    partners = _partners(count // views, views, generator)
    filled = boxes(count, sides, generator)
    swapped = boxes(count, sides, generator, partners != torch.arange(count))
    corrupted = crops.clone(memory_format=torch.contiguous_format)
    _fill(corrupted, *filled, generator)
    _swap(corrupted, *swapped, partners)
    return corrupted


def _partners(count: int, views: int, generator: torch.Generator) -> torch.Tensor:
    """Whose place each of `count` crops a view gets: uniform in its view, itself too [views x count]."""
    partners = torch.randint(count, (views, count), generator=generator)
    return (partners + count * torch.arange(views)[:, None]).flatten()


def boxes(
    count: int, sides: Sequence[int], generator: torch.Generator, wanted: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw boxes for each of `count` crops until their volumes, overlaps counted twice, reach a share of the crop's.

    The share is uniform in 0..0.3. A box begins anywhere but in the last 5 % of each side, and each of its edges has 5
    up to, but not including, 25 % of the side, in whole voxels, less what would stick out of the crop. Sides below 8
    voxels leave no voxel for an edge: such crops get no boxes.

    Args:
        count: of the crops.
        sides: H, W, D in voxels.
        generator: of the host.
        wanted: [count], whether a crop gets boxes; all do if it is left out.

    Returns:
        Starts and edges [count, N, 3] in voxels, in the order of dropping. N is enough for every crop; boxes beyond
        those that a crop needs have edges of 0.
    """
    shortest, longest = ([int(edge * side) for side in sides] for edge in EDGES)
    last_starts = [side - edge for side, edge in zip(sides, shortest, strict=True)]  # exclusive, as `longest` is
    target = torch.rand(count, generator=generator, dtype=torch.float64) * LARGEST_SHARE * torch.Size(sides).numel()
    if wanted is not None:
        target = target * wanted
    if min(longest) < 2:
        target = torch.zeros_like(target)
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
    """Uniform in low..high-1, axis by axis: [count, BOXES_AT_ONCE, 3]."""
    axes = [torch.randint(*ends, (count, BOXES_AT_ONCE), generator=generator) for ends in zip(low, high, strict=True)]
    return torch.stack(axes, dim=-1)


def _layers(starts: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """Layers [count, N], from 0, of boxes [count, N, 3]: a box lies above every earlier one that it overlaps."""
    starts, ends = starts.short(), (starts + edges).short()
    last_start = torch.maximum(starts[:, :, None], starts[:, None])
    first_end = torch.minimum(ends[:, :, None], ends[:, None])
    covers = (last_start < first_end).all(dim=-1).tril(-1)  # [count, N, N]: a box, one dropped before it
    layers = torch.zeros_like(starts[..., 0])
    while True:
        higher = (covers * (layers[:, None] + 1)).amax(dim=-1)
        if torch.equal(higher, layers):
            return layers
        layers = higher


def _fill(crops: torch.Tensor, starts: torch.Tensor, edges: torch.Tensor, generator: torch.Generator) -> None:
    """Put noise into the boxes of contiguous clean crops.

    It is done layer by layer: within one no boxes overlap, so the result does not depend on what is written first.
    """
    some = edges.all(dim=-1)
    if not some.any():
        return
    layers, by_layer = _layers(starts, edges)[some].sort(stable=True)
    crop, starts, edges = (values[by_layer] for values in (some.nonzero()[:, 0], starts[some], edges[some]))
    voxels = _Voxels.of(crops, crop, starts, edges)
    noise = _noise(crops.shape[1], len(voxels.place), crops, generator)
    low, high = voxels.box_by_box(noise.amin(dim=0), "min"), voxels.box_by_box(noise.amax(dim=0), "max")
    span = (high - low).clamp(min=torch.finfo(noise.dtype).tiny)  # noise of one value is 0 then, not 0 / 0
    noise.sub_(voxels.voxel_by_voxel(low)).div_(voxels.voxel_by_voxel(span))
    of_box = _send(crop, crops.device)
    darkest, brightest = (
        voxels.voxel_by_voxel(ends.to(noise.dtype).T.index_select(1, of_box))
        for ends in (crops.amin(dim=(2, 3, 4)), crops.amax(dim=(2, 3, 4)))
    )
    noise = darkest.lerp_(brightest, noise).to(crops.dtype)
    volumes = edges.prod(dim=-1)
    sizes = [int(volumes[layers == layer].sum()) for layer in layers.unique()]
    for places, values in zip(voxels.place.split(sizes), noise.split(sizes, dim=1), strict=True):
        for channel, channel_values in zip(_channels(crops), values, strict=True):
            channel.scatter_(0, places, channel_values)


def _swap(crops: torch.Tensor, starts: torch.Tensor, edges: torch.Tensor, partners: torch.Tensor) -> None:
    """Copy the boxes from the partners into contiguous crops. All is read before any is written."""
    some = edges.all(dim=-1)
    if not some.any():
        return
    crop = some.nonzero()[:, 0]
    voxels = _Voxels.of(crops, crop, starts[some], edges[some])
    away = _send((partners[crop] - crop) * crops[0].numel(), crops.device)
    source = voxels.voxel_by_voxel(away).add_(voxels.place)
    for channel in _channels(crops):
        channel.scatter_(0, voxels.place, channel.index_select(0, source))  # where boxes overlap, the same value twice


def _channels(crops: torch.Tensor) -> list[torch.Tensor]:
    """The flat crops from each channel on: a place in a crop's first channel is one in that channel there."""
    size = crops[0, 0].numel()
    return [crops.view(-1)[channel * size :] for channel in range(crops.shape[1])]


class _Voxels(NamedTuple):
    """The T voxels of K boxes, box by box, in R rows along z."""

    place: torch.Tensor  # [T], of each voxel in the flat crops, in its crop's first channel
    row: torch.Tensor  # [T], number of each voxel's row
    box: torch.Tensor  # [R], number of each row's box
    count: torch.Tensor  # [K], of each box's voxels

    @classmethod
    def of(cls, crops: torch.Tensor, crop: torch.Tensor, starts: torch.Tensor, edges: torch.Tensor) -> "_Voxels":
        """Of boxes [K, 3] on the host that lie in `crop` [K] each; the voxels are on the device of the crops."""
        rows, count = edges[:, 0] * edges[:, 1], edges.prod(dim=-1)
        all_rows, all_voxels = int(rows.sum()), int(count.sum())
        strides = torch.tensor(crops.stride())[[0, 2, 3, 4]]
        corner = (torch.cat([crop[:, None], starts], dim=1) * strides).sum(dim=1)
        table = _send(torch.stack([rows, count, _before(rows), corner, edges[:, 1], edges[:, 2]]), crops.device)
        box = torch.repeat_interleave(table[0], output_size=all_rows)
        before, corner, wide, deep = table[2:].index_select(1, box)
        number = torch.arange(all_rows, device=crops.device) - before
        start = corner + number // wide * crops.stride(2) + number % wide * crops.stride(3)
        row = torch.repeat_interleave(deep, output_size=all_voxels)
        place = (start - _before(deep)).index_select(0, row).add_(torch.arange(all_voxels, device=crops.device))
        return cls(place, row, box, table[1])

    def voxel_by_voxel(self, values: torch.Tensor) -> torch.Tensor:
        """Values of boxes [..., K], for each of their voxels [..., T]."""
        return values.index_select(-1, self.box).index_select(-1, self.row)

    def box_by_box(self, values: torch.Tensor, reduce: str) -> torch.Tensor:
        """The "min" or "max" of values of voxels [T] over each box [K]."""
        return torch.segment_reduce(values, reduce, lengths=self.count, unsafe=True)  # safe would wait for the device


def _before(lengths: torch.Tensor) -> torch.Tensor:
    """What comes before each one."""
    return lengths.cumsum(dim=0) - lengths


def _noise(channels: int, voxels: int, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Gaussian noise on the device of `like`, at least in single precision, from a seed that `generator` draws."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    own = torch.Generator(like.device).manual_seed(seed)
    dtype = torch.promote_types(like.dtype, torch.float32)
    return torch.randn((channels, voxels), generator=own, device=like.device, dtype=dtype)


def _send(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Host values on the device, without waiting for it: from pinned memory to a GPU."""
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)
