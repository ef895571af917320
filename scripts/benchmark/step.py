"""Optimiser steps of both networks: ours, and as typically written with MONAI's components."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from scripts.benchmark.timing import PLAIN_MEMORY, Works, measure

SIZE, EDGE, CROPS = "small", 96, 2  # a full-size step
WORKS = ("pretraining", "fine_tuning")
FUNCTION = "scripts.benchmark.step:{}_step"


def step() -> Works:
    """Full-size steps of pretraining and fine-tuning: ours, and stock with and without our memory settings."""

    def variants(function: str) -> dict[str, Callable[[], Any]]:
        return {
            "ours": partial(measure, function, "float32"),
            "ours, bfloat16": partial(measure, function, "bfloat16"),
            "stock, memory as ours": partial(measure, function, "stock"),
            "stock": partial(measure, function, "stock", environment=PLAIN_MEMORY),
        }

    return {work: variants(FUNCTION.format(work)) for work in WORKS}


def on_gpu() -> dict[str, dict[str, Callable[[], Any]]]:
    """The same on a GPU, both under bfloat16 autocast."""
    kinds = {"ours": "bfloat16", "stock": "stock"}
    return {
        f"{work}, GPU": {name: partial(measure, FUNCTION.format(work), kind, "cuda") for name, kind in kinds.items()}
        for work in WORKS
    }


def pretraining_step(kind: str, device: str = "cpu", size: str = SIZE, edge: str = str(EDGE)) -> Callable[[], Any]:
    """A step of stage 1: ours in a dtype, or `stock` with one forward pass per view and crop-by-crop corruption."""
    import torch

    from common.ssl.networks import SSLHead
    from common.ssl.tasks import SSLLoss
    from common.ssl.views import TwoViews

    network, crops = SSLHead(2, size).to(device), torch.randn(CROPS, 2, *[int(edge)] * 3)
    if kind != "stock":
        parts = network, SSLLoss(), TwoViews()
        return _step(parts, {"image": crops.to(device)}, getattr(torch, kind), device)
    generator, loss, optimizer = torch.Generator().manual_seed(0), SSLLoss(), torch.optim.AdamW(network.parameters())

    def run() -> None:
        optimizer.zero_grad()
        views = [_plain_view(crops, generator) for _ in range(2)]
        with _autocast(device):
            outputs = [network(corrupted.to(device)) for corrupted, _, _ in views]
        prediction = {name: torch.cat([output[name].float() for output in outputs]) for name in outputs[0]}
        clean, turns = torch.cat([view[1] for view in views]), torch.tensor(views[0][2] + views[1][2])
        loss(prediction, {"reconstruction": clean.to(device), "rotation": turns.to(device)})["total"].backward()
        optimizer.step()

    return run


def _plain_view(crops: Any, generator: Any) -> tuple[Any, Any, list[int]]:
    """Rotated crops, corrupted and clean, and their quarter turns."""
    import torch

    turns = torch.randint(4, (len(crops),), generator=generator).tolist()
    clean = torch.stack([torch.rot90(crop, turn, (1, 2)) for crop, turn in zip(crops, turns, strict=True)])
    return corrupt_box_by_box(clean, generator), clean, turns


def corrupt_box_by_box(crops: Any, generator: Any) -> Any:
    """The plain implementation: noise in boxes, one at a time, then boxes from a partner crop."""
    import torch

    result = crops.clone()
    darkest, brightest = crops.amin(dim=(2, 3, 4), keepdim=True), crops.amax(dim=(2, 3, 4), keepdim=True)
    for index, sample in enumerate(result):
        for box in _draw_boxes(sample.shape[1:], generator):
            place = sample[(slice(None), *box)]
            noise = torch.randn(place.shape, generator=generator)
            noise = (noise - noise.min()) / (noise.max() - noise.min())
            place.copy_(torch.lerp(darkest[index], brightest[index], noise))
    for index, sample in enumerate(result):
        partner = int(torch.randint(len(result), (1,), generator=generator))
        if partner != index:
            for box in _draw_boxes(sample.shape[1:], generator):
                sample[(slice(None), *box)] = result[partner][(slice(None), *box)]
    return result


def _draw_boxes(shape: Any, generator: Any) -> Iterator[list[slice]]:
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


def fine_tuning_step(kind: str, device: str = "cpu", size: str = SIZE, edge: str = str(EDGE)) -> Callable[[], Any]:
    """A step of stage 3 on four modalities: ours in a dtype, or `stock`."""
    import torch
    from monai.losses import DiceLoss
    from monai.networks.nets import SwinUNETR

    from common.ssl.networks import settings

    network, loss = SwinUNETR(4, 3, **settings(size)._asdict()).to(device), DiceLoss(sigmoid=True)
    edges = [int(edge)] * 3
    image = torch.randn(CROPS, 4, *edges, device=device)
    label = (torch.rand(CROPS, 3, *edges, device=device) > 0.9).float()
    if kind != "stock":
        parts = network, loss, _supervised
        return _step(parts, {"image": image, "label": label}, getattr(torch, kind), device)
    optimizer = torch.optim.AdamW(network.parameters())

    def run() -> None:
        optimizer.zero_grad()
        with _autocast(device):
            logits = network(image)
        loss(logits.float(), label).backward()
        optimizer.step()

    return run


def _autocast(device: str) -> Any:
    """The precision of a stock loop: bfloat16 autocast on a GPU, float32 on a CPU."""
    import torch

    return torch.autocast(device, torch.bfloat16, enabled=device != "cpu")


def _supervised(batch: Mapping[str, Any], *_: Any, **__: Any) -> tuple[Any, Any]:
    return batch["image"], batch["label"]


def _step(parts: tuple[Any, Any, Any], crops: Any, dtype: Any, device: str = "cpu") -> Callable[[], Any]:
    """One optimiser step as in the bundles; `parts` are network, loss and prepare_batch."""
    import torch
    from monai.engines import SupervisedTrainer

    from common.data.datasets import Batches
    from common.ssl import set_attention
    from common.training.step import Step

    network, loss, prepare = parts
    set_attention(network, "recomputed")
    trainer = SupervisedTrainer(
        device=torch.device(device),
        max_epochs=1,
        train_data_loader=[],
        network=network,
        optimizer=torch.optim.AdamW(network.parameters()),
        loss_function=loss,
        prepare_batch=prepare,
    )
    update = Step(dtype)
    return lambda: update(trainer, Batches(iter([crops]), 1))
