"""Optimiser steps of both networks: ours, and as typically written with MONAI's components."""

from collections.abc import Callable
from functools import partial
from typing import Any

from scripts.benchmark.timing import PLAIN_MEMORY, Works, measure

SIZE, EDGE, CROPS = "small", 96, 2  # a full-size step
WORKS = ("pretraining", "fine_tuning")
FUNCTION = "scripts.benchmark.step:one_step"


def step() -> Works:
    """Full-size steps of pretraining and fine-tuning: ours, and stock with and without our memory settings."""
    return {
        work: {
            "ours": partial(measure, FUNCTION, work, "float32"),
            "stock, memory as ours": partial(measure, FUNCTION, work, "stock"),
            "stock": partial(measure, FUNCTION, work, "stock", environment=PLAIN_MEMORY),
        }
        for work in WORKS
    }


def on_gpu() -> dict[str, dict[str, Callable[[], Any]]]:
    """The same on a GPU, both under bfloat16 autocast."""
    kinds = {"ours": "bfloat16", "stock": "stock"}
    return {
        f"{work}, GPU": {name: partial(measure, FUNCTION, work, kind, "cuda") for name, kind in kinds.items()}
        for work in WORKS
    }


def one_step(work: str, kind: str, device: str = "cpu", size: str = SIZE, edge: str = str(EDGE)) -> Callable[[], Any]:
    """A function that takes a step of `work`: ours in the dtype `kind`, or `stock`.

    Pretraining is stage 1 on two modalities, fine-tuning stage 3 on four. Stock makes the views on the host, and has a
    forward pass for each; on a GPU it runs under bfloat16 autocast.
    """
    import torch
    from monai.losses import DiceLoss

    from common.ssl.networks import SSLHead, swin_unetr
    from common.ssl.tasks import SSLLoss
    from common.ssl.views import TwoViews

    parts: tuple[Any, Any, Any]
    if work == "pretraining":
        parts = SSLHead(2, size).to(device), SSLLoss(), TwoViews()
        batch = {"image": torch.randn(CROPS, 2, *[int(edge)] * 3)}
    else:
        parts = swin_unetr(4, 3, size).to(device), DiceLoss(sigmoid=True), _supervised
        batch = {"image": torch.randn(CROPS, 4, *[int(edge)] * 3)}
        batch["label"] = (torch.rand(CROPS, 3, *[int(edge)] * 3) > 0.9).float()
    if kind != "stock":
        return _ours(parts, {name: value.to(device) for name, value in batch.items()}, getattr(torch, kind), device)
    network, loss, prepare = parts
    optimizer = torch.optim.AdamW(network.parameters())

    def run() -> None:
        optimizer.zero_grad()
        inputs, target = prepare(batch)
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            outputs = [network(view.to(device)) for view in inputs.split(CROPS)]
        if isinstance(target, dict):  # of pretraining
            prediction = {name: torch.cat([output[name].float() for output in outputs]) for name in outputs[0]}
            loss(prediction, {name: value.to(device) for name, value in target.items()})["total"].backward()
        else:
            loss(outputs[0].float(), target.to(device)).backward()
        optimizer.step()

    return run


def _supervised(batch: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
    return batch["image"], batch["label"]


def _ours(parts: tuple[Any, Any, Any], crops: Any, dtype: Any, device: str) -> Callable[[], Any]:
    """A step as in the bundles; `parts` are network, loss and prepare_batch."""
    import torch
    from monai.engines import SupervisedTrainer

    from common.data.datasets import Batches
    from common.ssl import set_attention
    from common.training.step import Step

    network, loss, prepare = parts
    trainer = SupervisedTrainer(
        device=torch.device(device),
        max_epochs=1,
        train_data_loader=[],
        network=set_attention(network),
        optimizer=torch.optim.AdamW(network.parameters()),
        loss_function=loss,
        prepare_batch=prepare,
    )
    update = Step(dtype)
    return lambda: update(trainer, Batches(iter([crops]), 1))
