"""Corruption of a batch for the proxy tasks: all boxes drawn together, or each on its own."""

from collections.abc import Callable
from typing import Any

from scripts.benchmark.timing import timed

__all__ = ["corrupt_box_by_box", "draw_boxes", "views"]

CALLS = 20  # of a timing: how much of a crop is corrupted is drawn


def views() -> dict[str, dict[str, Callable[[], float]]]:
    """Corruption of four crops with two channels."""
    import torch

    from common.ssl.views import corrupt

    torch.set_num_threads(1)
    crops = torch.randn(4, 2, 96, 96, 96)

    def variant(run: Callable[[Any, Any], Any]) -> Callable[[], float]:
        generator = torch.Generator().manual_seed(0)
        run(crops, generator)  # takes memory that later calls reuse
        return lambda: timed(lambda: [run(crops, generator) for _ in range(CALLS)]) / CALLS

    return {"views": {"drawn together (ours)": variant(corrupt), "each box on its own": variant(corrupt_box_by_box)}}


def corrupt_box_by_box(crops: Any, generator: Any) -> Any:
    """The plain implementation: noise into one box after the other, then boxes of a partner."""
    import torch

    result = crops.clone()
    darkest, brightest = crops.amin(dim=(2, 3, 4), keepdim=True), crops.amax(dim=(2, 3, 4), keepdim=True)
    for index, sample in enumerate(result):
        for box in draw_boxes(sample.shape[1:], generator):
            place = sample[(slice(None), *box)]
            noise = torch.randn(place.shape, generator=generator)
            noise = (noise - noise.min()) / (noise.max() - noise.min())
            place.copy_(torch.lerp(darkest[index], brightest[index], noise))
    for index, sample in enumerate(result):
        partner = int(torch.randint(len(result), (1,), generator=generator))
        if partner != index:
            for box in draw_boxes(sample.shape[1:], generator):
                sample[(slice(None), *box)] = result[partner][(slice(None), *box)]
    return result


def draw_boxes(shape: Any, generator: Any) -> Any:
    """Random boxes as slices of the axes, until they cover a random share, up to 30 %, of a volume."""
    import torch

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    target = float(torch.rand(1, generator=generator)) * 0.3 * shape.numel()
    covered = 0
    while covered < target:
        box = []
        for side in shape:
            start = draw(0, side - int(0.05 * side))
            box.append(slice(start, min(side, start + draw(int(0.05 * side), int(0.25 * side)))))
        covered += (box[0].stop - box[0].start) * (box[1].stop - box[1].start) * (box[2].stop - box[2].start)
        yield box
