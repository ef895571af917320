"""Inspect and convert checkpoints: `python -m scripts.weights inspect|convert`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import weights
from common.errors import InputError, shortened, show
from common.files import digest
from common.made import versions
from common.values import OPTIONS, names_of
from scripts import cli
from scripts.yaml_files import read_yaml

PUBLISHED = Path(__file__).with_name("published.yaml")
SOURCE = "https://huggingface.co/smilelab/BrainSegFounder"


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
    options = {name: OPTIONS[name].parse(name, value) for name, value in given.items() if value is not None}
    checkpoint = weights.read(file)
    details = describe(checkpoint.state, file)
    known = published(checkpoint, details)
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

    Raises an InputError if there is no SwinUNETR encoder of a size in `common.ssl.SIZES`. The remaining tensors are not
    checked; training that starts from the checkpoint reports which of them fit.
    """
    from common.ssl import SIZES, SSLHead  # late import: `--help` stays fast

    shapes = {key: tensor.shape for key, tensor in state.items() if key.startswith(weights.ENCODER)}
    features, channels = shapes.get(weights.STEM, (0, 0))[:2]
    blocks = sum(key.endswith(".attn.qkv.weight") for key in shapes)
    sizes = {(size.feature_size, sum(size.depths)): label for label, size in SIZES.items()}
    model_size = sizes.get((features, blocks), "")
    encoder = SSLHead(channels, model_size, tasks=[]).state_dict() if model_size else {}
    if not shapes or shapes != {key: tensor.shape for key, tensor in encoder.items()}:
        expected = f"the encoder of MONAI's 3D SwinUNETR, version 1, in one of the sizes {', '.join(SIZES)}"
        raise InputError(name, f"unknown tensors, such as {shortened([*state], 3)}", expected)
    facts = {"network": network_of(state), "model_size": model_size, **SIZES[model_size]._asdict()}
    numbers = sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point())
    return facts | {"input_channels": channels, "tensors": len(state), "parameters": numbers}


def network_of(state: Mapping[str, Any]) -> str:
    """Return the kind of network within the SwinUNETR family, judged by tensor names alone."""
    modules = {key.split(".")[0] for key in state}
    if modules >= {"rotation_head", "contrastive_head"} or "masked_out" in modules:
        return "SSLHead"
    if "decoder1" in modules:
        return "SwinUNETR" if "out" in modules else "SwinUNETR without its output layer"
    return "SwinUNETR's encoder"


def published(checkpoint: Any, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of the file in published.yaml that has the layout of a checkpoint; empty for other layouts.

    `details` are from `describe`.
    """
    layout, state = checkpoint.layout, checkpoint.state
    facts = {"wrapper": layout.wrapper, "prefix": layout.prefix, "network": details["network"]}
    facts |= {"channels": details["input_channels"], "outputs": len(state.get("out.conv.conv.bias", ()))}
    facts["has_conv_23"] = "conv.23.weight" in state
    for entry in read_yaml(PUBLISHED):
        if entry["layout"].items() <= facts.items():
            source = f"{SOURCE}, model_weights_{entry['name']}.pt"
            return {**entry["settings"], "source": source, "licence": "uk-biobank-mta"}
    return {}


if __name__ == "__main__":
    cli.run({"inspect": inspect, "convert": convert}, "weights")
