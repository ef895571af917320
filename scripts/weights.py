"""Inspect and convert checkpoints: `python -m scripts.weights inspect|convert`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import weights
from common.errors import InputError, shortened, show
from common.files import digest
from common.made import versions
from common.values import OPTIONS, names_of
from scripts import cli
from scripts.published import published


def inspect(file: str) -> None:
    """Print a checkpoint's layout, network, size, input channels and metadata.

    Args:
        file: a checkpoint of this project, of the paper's authors or of MONAI; nothing in it is unpickled.
    """
    checkpoint = weights.read(file)
    details = describe(checkpoint.state, file)
    modules = {"modules": weights.by_module(checkpoint.state), "modalities": None, "merging": None}
    lines = checkpoint.layout._asdict() | modules | checkpoint.metadata | details
    show(*(f"{name:<18} {'unknown' if value is None else value}" for name, value in lines.items()))


def convert(
    file: str,
    output: str,
    *,
    modalities: str | Sequence[str] | None = None,
    patch_size: Sequence[int] | None = None,
    merging: str | None = None,
) -> None:
    """Convert a checkpoint to this project's layout, which includes a description of the network and its training.

    Metadata in the file are kept; metadata that neither the file nor an option gives are recorded as unknown.
    Modalities keep the names that the file states; to train with different names, use the option `modality_aliases`.

    Args:
        file: a checkpoint of any layout that `inspect` reads.
        output: file to write; an existing file is not overwritten.
        modalities: names of the input channels in order, such as T1,FLAIR, if the file does not state them.
        patch_size: size of the training crops in voxels, such as 96,96,96, if the file does not state it.
        merging: monai_1_4 if the network was trained with MONAI up to 1.4, monai_1_5 if later; needed if the file does
            not state it.
    """
    target = Path(output).expanduser()
    if target.exists():
        raise InputError(f"--output={output}: exists already")
    given = {"modalities": modalities and names_of(modalities), "patch_size": patch_size, "merging": merging}
    options = {name: OPTIONS[name](value) for name, value in given.items() if value is not None}
    checkpoint = weights.read(file)
    details = describe(checkpoint.state, file)
    known = published(checkpoint, details["network"], details["input_channels"])
    is_other = any(known.get(name, value) != value for name, value in options.items())
    if is_other or {"modalities", "merging"} <= options.keys():
        known = {}  # a different network in the same layout
    stated = dict.fromkeys(("patch_size", "versions", "modalities", "merging")) | known | checkpoint.metadata
    for name, value in options.items():
        if stated[name] is not None and value != stated[name]:
            raise InputError(f"--{name}={value}", f"{file} states {stated[name]}", "no such option")
    stated |= options
    if len(stated["modalities"] or ()) != details["input_channels"]:
        problem = f"{file} has {details['input_channels']} input channels"
        raise InputError(f"--modalities={stated['modalities']}", problem, "their names in order, such as T1,FLAIR")
    if stated["merging"] is None:
        raise InputError("--merging", f"{file} states no MONAI version", "monai_1_4 (up to 1.4) or monai_1_5")
    conversion = {"file": Path(file).name, "sha256": digest(file), "layout": checkpoint.layout._asdict()}
    conversions = [*stated.get("conversions", []), conversion | {"versions": versions()}]
    metadata = stated | details | {"conversions": conversions}
    weights.write({"network": checkpoint.state, "metadata": metadata}, target)
    show(f"{output}: {details['network']}, {details['model_size']}, {', '.join(stated['modalities'])}")
    if known:
        show(f"recognised: {known['source']}, licence {known['licence']}; else give --modalities and --merging")
    if left_out := checkpoint.layout.left_out:
        show(f"tensors left out, as SSLHead and SwinUNETR lack them: {', '.join(left_out)}")


def describe(state: Mapping[str, Any], name: str = "checkpoint") -> dict[str, Any]:
    """Describe a checkpoint's network by its tensors: kind, size, channels and numbers of tensors and parameters.

    Raises an InputError if there is no SwinUNETR encoder that MONAI can build. The remaining tensors are not checked;
    training that starts from the checkpoint reports which of them fit.
    """
    from common.ssl import SIZES, SSLHead  # late import: `--help` stays fast

    expected = "MONAI's 3D SwinUNETR encoder, version 1, alone or in a larger network"
    try:
        size, channels = _size(state), state[weights.STEM].shape[1]
        encoder = {key: tensor.shape for key, tensor in SSLHead(channels, size, tasks=[]).state_dict().items()}
    except (ArithmeticError, IndexError, KeyError, ValueError) as error:
        raise InputError(name, f"unknown tensors, such as {shortened([*state], 3)}", expected) from error
    shapes = {key: tensor.shape for key, tensor in state.items() if key.startswith(weights.ENCODER)}
    if wrong := sorted(key for key in encoder.keys() | shapes.keys() if encoder.get(key) != shapes.get(key)):
        raise InputError(name, f"tensors that differ from MONAI's encoder: {len(wrong)}, first {wrong[0]}", expected)
    unnamed = f"depths {size.depths}, feature size {size.feature_size}"
    model_size = next((label for label, settings in SIZES.items() if settings == size), unnamed)
    facts = {"network": network_of(state), "model_size": model_size, **size._asdict(), "input_channels": channels}
    numbers = sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point())
    return facts | {"tensors": len(state), "parameters": numbers}


def network_of(state: Mapping[str, Any]) -> str:
    """Return the kind of network within the SwinUNETR family, judged by tensor names alone."""
    modules = {key.split(".")[0] for key in state}
    if modules >= {"rotation_head", "contrastive_head"} or "masked_out" in modules:
        return "SSLHead"
    if "decoder1" in modules:
        return "SwinUNETR" if "out" in modules else "SwinUNETR without its output layer"
    return "SwinUNETR's encoder"


def _size(state: Mapping[str, Any]) -> Any:
    """Return an encoder's `ModelSize`, from names and shapes [(2 window - 1)^3, heads] of its attention tables."""
    from common.ssl import ModelSize

    table = re.compile(rf"{re.escape(weights.ENCODER)}layers(\d)\.0\.blocks\.\d+\.attn\.relative_position_bias_table")
    shapes: dict[str, list[Any]] = {level: [] for level in "1234"}
    for key, tensor in state.items():
        if match := table.fullmatch(key):
            shapes[match[1]].append(tensor.shape)
    edge = round(shapes["1"][0][0] ** (1 / 3))
    heads = tuple(level[0][1] for level in shapes.values())
    depths = tuple(map(len, shapes.values()))
    return ModelSize(depths, state[weights.STEM].shape[0], (edge + 1) // 2, heads)


if __name__ == "__main__":
    cli.run({"inspect": inspect, "convert": convert}, "weights")
