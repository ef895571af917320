"""Optimiser steps of both networks: ours, and as users would otherwise write them with MONAI's own parts."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

from scripts.benchmark.timing import PLAIN_MEMORY, Measured, run_alone, timed

__all__ = ["attention", "fine_tuning_step", "network_pass", "precision", "pretraining_step", "step"]

SIZE, EDGE, CROPS = "small", 96, 2  # of a step at full size


def step() -> dict[str, dict[str, Callable[[], Measured]]]:
    """Steps of pretraining and fine-tuning at full size: ours, and the stock one with our settings of memory or not."""
    return {work: _beside_stock(f"scripts.benchmark.training:{work}_step") for work in ("pretraining", "fine_tuning")}


def _beside_stock(function: str) -> dict[str, Callable[[], Measured]]:
    return {
        "ours": partial(run_alone, function, "float32", threads=0),
        "ours, bfloat16": partial(run_alone, function, "bfloat16", threads=0),
        "stock, memory as ours": partial(run_alone, function, "stock", threads=0),
        "stock": partial(run_alone, function, "stock", threads=0, environment=PLAIN_MEMORY),
    }


def attention() -> dict[str, dict[str, Callable[[], Measured]]]:
    """The pretraining network's passes, alone, on one crop."""
    function = "scripts.benchmark.training:network_pass"
    kinds = {"recomputed (ours)": "recomputed", "stored (MONAI's)": "stored"}
    return {"attention": {name: partial(run_alone, function, kind, threads=0) for name, kind in kinds.items()}}


def precision() -> dict[str, dict[str, Callable[[], float]]]:
    """Steps of the quick start's size in float32 and bfloat16."""
    import torch
    from monai.losses import DiceLoss
    from monai.networks.nets import SwinUNETR

    from common.ssl.networks import SSLHead, settings
    from common.ssl.tasks import SSLLoss
    from common.ssl.views import TwoViews

    torch.set_num_threads(1)
    crops = {"image": torch.randn(2, 4, 64, 64, 64), "label": (torch.rand(2, 3, 64, 64, 64) > 0.9).float()}
    pretraining = SSLHead(4, "micro"), SSLLoss(), TwoViews()
    fine_tuning = SwinUNETR(4, 3, **settings("micro")._asdict()), DiceLoss(sigmoid=True), _supervised
    return {
        name: {kind: _timed_step(deepcopy(parts), crops, getattr(torch, kind)) for kind in ("float32", "bfloat16")}
        for name, parts in (("fine_tuning", fine_tuning), ("pretraining", pretraining))
    }


def pretraining_step(kind: str, device: str = "cpu", size: str = SIZE, edge: str = str(EDGE)) -> Callable[[], Any]:
    """A step of stage 1: ours in a dtype, or `stock`: one forward a view, corrupted crop by crop."""
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
    """Turned crops, corrupted and clean, and their quarter turns."""
    import torch

    from scripts.benchmark.corruption import corrupt_box_by_box

    turns = torch.randint(4, (len(crops),), generator=generator).tolist()
    clean = torch.stack([torch.rot90(crop, turn, (1, 2)) for crop, turn in zip(crops, turns, strict=True)])
    return corrupt_box_by_box(clean, generator), clean, turns


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
    """What a stock loop computes in: bfloat16 where possible on a GPU, float32 on a CPU."""
    import torch

    return torch.autocast(device, torch.bfloat16, enabled=device != "cpu")


def network_pass(kind: str) -> Callable[[], Any]:
    """Forward and backward pass of the pretraining network in size small, with a kind of attention."""
    import torch

    from common.ssl import SSLHead, set_attention

    network, image = set_attention(SSLHead(2, SIZE), kind), torch.randn(1, 2, EDGE, EDGE, EDGE)
    return lambda: torch.stack([output.square().mean() for output in network(image).values()]).sum().backward()


def _supervised(batch: Mapping[str, Any], *_: Any, **__: Any) -> tuple[Any, Any]:
    return batch["image"], batch["label"]


def _timed_step(parts: tuple[Any, Any, Any], crops: Any, dtype: Any) -> Callable[[], float]:
    run = _step(parts, crops, dtype)
    run()  # allocates the optimiser's moments
    return lambda: timed(run)


def _step(parts: tuple[Any, Any, Any], crops: Any, dtype: Any, device: str = "cpu") -> Callable[[], Any]:
    """One optimiser step as in the bundles; `parts`: network, loss, prepare_batch."""
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
