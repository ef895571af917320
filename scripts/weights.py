"""What a checkpoint is, and how a foreign one is made to say it: `python -m scripts.weights inspect|convert`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from common import weights
from common.networks import SIZES
from common.preflight import InputError
from scripts import cli

__all__ = ["convert", "describe", "inspect"]

STEM = f"{weights.ENCODER}patch_embed.proj.weight"


def inspect(file: str) -> None:
    """Say which network a checkpoint holds, its size, its input channels and the modalities that it names.

    Args:
        file: a checkpoint of this project, of the paper's authors or of MONAI; nothing in it is unpickled.
    """
    checkpoint = weights.read(file)
    lines = describe(checkpoint.state) | checkpoint.metadata
    print("\n".join(f"{name:<18} {_text(value)}" for name, value in lines.items()))


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def describe(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What the tensors of a checkpoint tell of its network.

    Args:
        state: tensors by name, as `common.weights.read` gives them.

    Returns:
        "network" (SSLHead, SwinUNETR or SwinUNETR's encoder), "model_size" (by name where it is one of
        `common.networks.SIZES`, else depths and feature size), "input_channels", "tensors", "parameters".

    Raises:
        InputError: there is no SwinUNETR encoder among them.
    """
    if STEM not in state:
        raise InputError(f"checkpoint: no tensor {STEM}; expected SwinUNETR's encoder, alone or in a larger network")
    heads = {name.split(".")[0] for name in state} - {weights.ENCODER.rstrip(".")}
    network = "SSLHead" if "rotation_head" in heads else "SwinUNETR" if "out" in heads else "SwinUNETR's encoder"
    return {
        "network": network,
        "model_size": _size(state),
        "input_channels": state[STEM].shape[1],
        "tensors": len(state),
        "parameters": sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point()),
    }


def _size(state: Mapping[str, torch.Tensor]) -> str:
    blocks = [
        set(re.findall(rf"{re.escape(weights.ENCODER)}layers{level}\.0\.blocks\.(\d+)\.", "\n".join(state)))
        for level in (1, 2, 3, 4)
    ]
    depths, feature_size = tuple(map(len, blocks)), state[STEM].shape[0]
    names = [name for name, size in SIZES.items() if (size.depths, size.feature_size) == (depths, feature_size)]
    return names[0] if names else f"depths {depths}, feature size {feature_size}"


def convert(file: str, modalities: str | Sequence[str], output: str) -> None:
    """Write a checkpoint again in this project's layout, with its modalities in it.

    Args:
        file: a checkpoint of any layout that `inspect` reads.
        modalities: what its input channels are, by name and in order, such as T1,FLAIR.
        output: the file to write; one that is there already is left alone.
    """
    names = modalities.split(",") if isinstance(modalities, str) else list(modalities)
    checkpoint = weights.read(file)
    found = describe(checkpoint.state)
    if len(names) != found["input_channels"]:
        raise InputError(f"--modalities={','.join(names)}: {file} has {found['input_channels']} input channels")
    if Path(output).exists():
        raise InputError(f"--output={output}: exists already; expected a new file")
    described = {"network": found["network"], "model_size": found["model_size"], "modalities": names}
    metadata = checkpoint.metadata | described | {"converted_from": Path(file).name}
    weights.write({"network": checkpoint.state, "metadata": metadata}, output)
    print(f"{output}: {found['network']} {found['model_size']}, {', '.join(names)}")


if __name__ == "__main__":
    cli.run({"inspect": inspect, "convert": convert}, "weights")
