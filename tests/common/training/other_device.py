"""A device other than the host's, for machines without one: `python -m tests.common.training.other_device`.

Its tensors hold their values on the host, but PyTorch takes them for those of another device. An operation that mixes
them with tensors of the host fails as it would on a GPU; one that waits for a value of the device is counted. Prints
what the forward passes and losses of a pretraining and of a fine-tuning step give there, and on the CPU, as JSON.
"""

import json
from collections.abc import Mapping
from typing import Any

import torch
from monai.engines import SupervisedTrainer
from monai.losses import DiceLoss
from monai.networks.nets import SwinUNETR
from torch import nn
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from common.ssl import SSLHead, attention, set_attention, views
from common.ssl.networks import settings
from common.ssl.tasks import SSLLoss
from common.ssl.views import TwoViews
from common.training.step import Step

NAME = "other"
COPIES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)
WAITS: list[str] = []  # operations that gave the host a value of the device


class DeviceTensor(torch.Tensor):
    """A tensor of the device; `host` has its values."""

    @staticmethod
    def __new__(cls, host):
        layout = {"strides": host.stride(), "storage_offset": host.storage_offset(), "dtype": host.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, host.shape, device=NAME, **layout)

    def __init__(self, host):
        self.host = host

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), options=None):
        return run(function, arguments, options or {})


class Device(TorchDispatchMode):
    """Where tensors can be made on the device and sent to it."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        leaves = tree_leaves((arguments, options))
        is_there = target_of(options) == NAME or any(isinstance(leaf, DeviceTensor) for leaf in leaves)
        return run(function, arguments, options) if is_there else function(*arguments, **options)


def target_of(options: Mapping[str, Any]) -> str | None:
    device = options.get("device")
    return None if device is None else torch.device(device).type


def run(function, arguments, options):
    """Run an operation on the host's values."""
    tensors = [leaf for leaf in tree_leaves((arguments, options)) if isinstance(leaf, torch.Tensor)]
    there = {id(tensor.host): tensor for tensor in tensors if isinstance(tensor, DeviceTensor)}
    strangers = [tensor for tensor in tensors if not isinstance(tensor, DeviceTensor) and tensor.ndim]
    if there and strangers and function not in COPIES:
        raise RuntimeError(f"{function}: a tensor of the host, {tuple(strangers[0].shape)}, among those of the device")
    target = target_of(options)
    arguments, options = tree_map(
        lambda leaf: leaf.host if isinstance(leaf, DeviceTensor) else leaf, (arguments, options)
    )
    if target is not None:
        options = {name: value for name, value in options.items() if name != "pin_memory"} | {"device": "cpu"}
    result = function(*arguments, **options)
    if target not in (None, NAME) or not any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(result)):
        WAITS.extend([str(function)] if there else [])
        return result
    return tree_map(lambda leaf: _on_device(leaf, there), result)


def _on_device(leaf: Any, there: Mapping[int, DeviceTensor]) -> Any:
    """The tensor of the device that has these values; operations in place return one that was there."""
    if not isinstance(leaf, torch.Tensor):
        return leaf
    return there[id(leaf)] if id(leaf) in there else DeviceTensor(leaf)


def move(network: nn.Module) -> nn.Module:
    for module in network.modules():
        for name, value in module._parameters.items():
            module._parameters[name] = None if value is None else nn.Parameter(value.detach().to(NAME))
        for name, value in module._buffers.items():
            module._buffers[name] = None if value is None else value.to(NAME)
    return network


def losses(work: str, kind: str, device: str) -> dict[str, float]:
    """The terms of a step's loss."""
    torch.manual_seed(0)
    attention.shifted_windows.cache_clear()
    image, label = torch.randn(2, 4, 64, 64, 64), (torch.rand(2, 3, 64, 64, 64) > 0.9).float()
    network: nn.Module = SSLHead(4, "micro")
    loss: nn.Module = SSLLoss()
    prepare: Any = TwoViews()
    if work == "fine-tuning":
        network, loss = SwinUNETR(4, 3, **settings("micro")._asdict()), DiceLoss(sigmoid=True)
        prepare = lambda batch, device, _: (batch["image"].to(device), batch["label"].to(device))  # noqa: E731
    network = set_attention(network, kind)
    trainer = SupervisedTrainer(
        device=torch.device(device),
        max_epochs=1,
        train_data_loader=[],
        network=network if device == "cpu" else move(network),
        optimizer=None,
        loss_function=loss,
        prepare_batch=prepare,
    )
    _, terms = Step()._forward(trainer, {"image": image, "label": label})
    return {name: float(getattr(term, "host", term)) for name, term in terms.items()}


def main() -> None:
    backend_registration._setup_privateuseone_for_python_backend(NAME)
    host_generator = torch.Generator
    views.torch.Generator = lambda device="cpu": host_generator()  # the device has none
    found = []
    for work in ("pretraining", "fine-tuning"):
        for kind in ("stored", "recomputed", "fused"):
            expected = losses(work, kind, "cpu")
            WAITS.clear()
            with Device():
                terms = losses(work, kind, NAME)
            found.append({"work": work, "attention": kind, "cpu": expected, NAME: terms, "waits": [*WAITS]})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
