"""Describe a checkpoint's network by its tensors."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import nn

from common import weights
from common.errors import InputError
from common.ssl.networks import SIZES, ModelSize, SSLHead

__all__ = ["describe"]

WITHOUT_OUTPUT = "SwinUNETR without its output layer"
ENCODER_ALONE = "SwinUNETR's encoder"


def describe(state: Mapping[str, torch.Tensor], name: str = "checkpoint") -> dict[str, Any]:
    """Describe a checkpoint's network by its tensors.

    Args:
        state: tensors by name, as `common.weights.read` returns them.
        name: of the file, for messages.

    Returns:
        "network" (SSLHead, SwinUNETR, SwinUNETR without its output layer, or the encoder of both), "model_size" (a key
        of `common.ssl.SIZES`, or else depths and feature size), "depths", "feature_size",
        "window_size", "num_heads", "input_channels", "output_channels" (of SwinUNETR), "tensors", "parameters".

    Raises:
        InputError: there is no SwinUNETR encoder that MONAI can build, or the other tensors do not fit the network that
            their names suggest.
    """
    stem = state.get(weights.STEM)
    if stem is None or stem.ndim != 5 or not stem.numel():
        raise InputError(
            f"{name}: an unknown network; expected SwinUNETR's 3D encoder, alone or in a larger network; "
            f"its {len(state)} tensors begin with {', '.join(list(state)[:3])}"
        )
    size = _size(state, name)
    _refuse_other_encoder(state, size, name)
    _refuse_other_heads(state, size, name)
    sizes = [known for known, settings in SIZES.items() if settings == size]
    model_size = sizes[0] if sizes else f"depths {size.depths}, feature size {size.feature_size}"
    found = {"network": _network(state), "model_size": model_size, **size._asdict(), "input_channels": stem.shape[1]}
    if "out.conv.conv.bias" in state:
        found["output_channels"] = len(state["out.conv.conv.bias"])
    numbers = sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point())
    return found | {"tensors": len(state), "parameters": numbers}


def _network(state: Mapping[str, torch.Tensor]) -> str:
    modules = {name.split(".")[0] for name in state}
    if modules >= {"rotation_head", "contrastive_head", "conv"}:
        return "SSLHead"
    if "decoder1" in modules:
        return "SwinUNETR" if "out" in modules else WITHOUT_OUTPUT
    return ENCODER_ALONE


def _size(state: Mapping[str, torch.Tensor], name: str) -> ModelSize:
    """The size of an encoder, from the names and shapes of its attention tables: [(2 window - 1)^3, heads]."""
    block = re.compile(
        rf"{re.escape(weights.ENCODER)}layers([1-4])\.0\.blocks\.\d+\.attn\.relative_position_bias_table$"
    )
    tables = {level: [t for key, t in state.items() if (m := block.match(key)) and m[1] == level] for level in "1234"}
    if not all(tables.values()):
        raise InputError(f"{name}: SwinUNETR's encoder lacks levels; expected blocks in layers1 to layers4")
    if odd := [table for found in tables.values() for table in found if table.ndim != 2 or not table.numel()]:
        raise InputError(
            f"{name}: an unknown variant of SwinUNETR's encoder; expected tables of [(2 window - 1)^3, heads]; "
            f"{len(odd)} have another shape, first {list(odd[0].shape)}"
        )
    depths, heads = zip(*((len(found), found[0].shape[-1]) for found in tables.values()), strict=True)
    edge = round(len(tables["1"][0]) ** (1 / 3))
    width = state[weights.STEM].shape[0]
    if any(width * 2**level % count for level, count in enumerate(heads)):
        raise InputError(
            f"{name}: an unknown variant of SwinUNETR's encoder; its {width} filters, twice as many a level, "
            f"do not divide into {', '.join(map(str, heads))} heads; expected a multiple"
        )
    return ModelSize(depths, width, (edge + 1) // 2, heads)


def _refuse_other_encoder(state: Mapping[str, torch.Tensor], size: ModelSize, name: str) -> None:
    """Check that an encoder has exactly the tensors and shapes of MONAI's encoder of that size."""
    encoder = SwinTransformer(
        in_chans=state[weights.STEM].shape[1],
        embed_dim=size.feature_size,
        window_size=(size.window_size,) * 3,
        patch_size=(2, 2, 2),
        depths=size.depths,
        num_heads=size.num_heads,
    )
    _compare(
        {weights.ENCODER + key: tensor.shape for key, tensor in encoder.state_dict().items()},
        {key: tensor.shape for key, tensor in state.items() if key.startswith(weights.ENCODER)},
        f"{name}: an unknown variant of SwinUNETR's encoder; expected that of MONAI's SwinUNETR, version 1",
    )


def _refuse_other_heads(state: Mapping[str, torch.Tensor], size: ModelSize, name: str) -> None:
    """Check that the other tensors fit the network that `_network` recognises; unknown modules are ignored.

    SSLHead exists only in the feature sizes of `common.ssl.SIZES`; at other sizes its heads are not checked.
    """
    kind = _network(state)
    channels = state[weights.STEM].shape[1]
    message = f"{name}: an unknown variant of {kind}; to use its encoder, save {weights.ENCODER}* alone"
    alike = [known for known, settings in SIZES.items() if settings.feature_size == size.feature_size]
    network: nn.Module
    if kind == "SSLHead" and alike:
        network = SSLHead(channels, alike[0])  # the heads depend only on the feature size
    elif kind.startswith("SwinUNETR") and kind != ENCODER_ALONE:
        if size.feature_size % 12:
            raise InputError(f"{message}; its feature size is {size.feature_size}, expected a multiple of 12")
        outputs = state["out.conv.conv.bias"].numel() if "out.conv.conv.bias" in state else 1
        network = SwinUNETR(channels, max(1, outputs), **size._asdict())
    else:
        return
    expected = {
        key: tensor.shape for key, tensor in network.state_dict().items() if not key.startswith(weights.ENCODER)
    }
    if kind == WITHOUT_OUTPUT:
        expected = {key: shape for key, shape in expected.items() if not key.startswith("out.")}
    modules = {key.split(".")[0] for key in expected}
    _compare(expected, {key: tensor.shape for key, tensor in state.items() if key.split(".")[0] in modules}, message)


def _compare(expected: Mapping[str, torch.Size], given: Mapping[str, torch.Size], message: str) -> None:
    if wrong := sorted(key for key in expected.keys() | given.keys() if expected.get(key) != given.get(key)):
        raise InputError(
            f"{message}; {len(wrong)} tensors are missing, unexpected or have another shape, first {wrong[0]}"
        )
