"""Optimiser steps of pretraining and fine-tuning: our code, and stock code built from MONAI's components."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import repeat
from typing import Any

from scripts.benchmark.timing import PLAIN_MEMORY, Works, measure

SIZE, EDGE, CROPS = "small", 96, 2  # defaults: a full-size step; EDGE in voxels
WORKS = ("pretraining", "fine_tuning")
FUNCTION = "scripts.benchmark.step:one_step"


def step() -> Works:
    """Return variants of full-size steps: ours, and stock with and without our memory settings."""
    return {
        work: {
            "ours": partial(measure, FUNCTION, work, "ours"),
            "stock, memory as ours": partial(measure, FUNCTION, work, "stock"),
            "stock": partial(measure, FUNCTION, work, "stock", environment=PLAIN_MEMORY),
        }
        for work in WORKS
    }


def edge_in(code: str) -> str:
    """Return the edge of the crops in a variant's name, such as 128 in "ours fused 128"; empty if there is none."""
    return next((word for word in code.split() if word.isdecimal()), "")


def one_step(
    work: str,
    code: str,
    device: str = "cpu",
    dtype: str = "float32",
    size: str = SIZE,
    edge: int = EDGE,
    batches: Iterator[Any] | None = None,
) -> Callable[[], Any]:
    """Return a function that takes an optimiser step on a random batch; `work` is the task, `code` the implementation.

    Pretraining is stage 1 on two modalities, fine-tuning stage 3 on four. `code` is `ours`, optionally with a value of
    the option `attention` or `flex` (PyTorch's FlexAttention), or `stock`: MONAI's network in a plain loop, with a
    forward pass for each view, as in the public code. Additional words are `channels_last`, `compiled` and a number,
    which replaces `edge`, the edge of the crops in voxels. Views, loss, AdamW and copies to the device are the same.
    `batches` replaces the random batch of `ours`.
    """
    import torch
    from monai.engines import default_prepare_batch
    from monai.losses import DiceLoss

    from common.ssl import set_attention
    from common.ssl.networks import SSLHead, swin_unetr
    from common.ssl.tasks import SSLLoss
    from common.ssl.views import TwoViews
    from scripts.benchmark.flex import set_flex_attention

    kind, *words = code.split()
    edges = [int(edge_in(code) or edge)] * 3
    parts: tuple[Any, Any, Any]
    if work == "pretraining":
        parts = SSLHead(2, size).to(device), SSLLoss(), TwoViews()
        batch = {"image": torch.randn(CROPS, 2, *edges)}
    else:
        parts = swin_unetr(4, 3, size).to(device), DiceLoss(sigmoid=True), default_prepare_batch
        batch = {"image": torch.randn(CROPS, 4, *edges)}
        batch["label"] = (torch.rand(CROPS, 3, *edges) > 0.9).float()
    network, loss, prepare = parts
    if kind == "ours":
        attention = [word for word in words if word not in ("channels_last", "compiled") and not word.isdecimal()]
        if attention == ["flex"]:
            set_flex_attention(network)
        else:
            set_attention(network, *attention, compiled="compiled" in words)
    if "channels_last" in words:
        network.to(memory_format=torch.channels_last_3d)
    if "compiled" in words and kind == "stock":
        network.compile(dynamic=False)
    # `meta` has no fused kernels
    optimizer = torch.optim.AdamW(network.parameters(), fused=device != "meta", foreach=device == "meta")
    if device == "cuda":
        batch = {name: value.pin_memory() for name, value in batch.items()}
    if kind == "ours":
        return _ours(network, loss, prepare, optimizer, batches or repeat(batch), getattr(torch, dtype), device)

    def run() -> None:
        optimizer.zero_grad()
        inputs, target = prepare(batch, torch.device(device), non_blocking=True)
        with torch.autocast(device, getattr(torch, dtype)) if dtype != "float32" else nullcontext():
            outputs = [network(view) for view in inputs.split(CROPS)]
        if isinstance(target, dict):  # pretraining
            prediction = {name: torch.cat([output[name].float() for output in outputs]) for name in outputs[0]}
            loss(prediction, target)["total"].backward()
        else:
            loss(outputs[0].float(), target).backward()
        optimizer.step()

    return run


def _ours(network: Any, loss: Any, prepare: Any, optimizer: Any, batches: Any, dtype: Any, device: str) -> Any:
    """Return a function that takes a step as the bundles do."""
    import torch
    from monai.engines import SupervisedTrainer

    from common.data.datasets import Batches
    from common.training.step import Step

    trainer = SupervisedTrainer(
        device=torch.device(device),
        max_epochs=1,
        train_data_loader=[],
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        prepare_batch=prepare,
        non_blocking=True,
    )
    update = Step(dtype)
    return lambda: update(trainer, Batches(batches, 1))
