"""Inspect and convert checkpoints: `python -m scripts.weights inspect|convert`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import nn

from common import cli, weights
from common.errors import InputError
from common.files import digest
from common.ssl.networks import SIZES, ModelSize, SSLHead
from scripts.yaml_text import as_yaml

__all__ = ["convert", "describe", "inspect"]

WITHOUT_OUTPUT = "SwinUNETR without its output layer"
ENCODER_ALONE = "SwinUNETR's encoder"


def inspect(file: str) -> None:
    """Print a checkpoint's network, size and input channels, and the layout of the file.

    Args:
        file: a checkpoint of this project, of the paper's authors or of MONAI; nothing in it is unpickled.
    """
    checkpoint = weights.read(file)
    found = describe(checkpoint.state, file)
    lines = _layout(checkpoint.layout) | found | {"modules": weights.by_module(checkpoint.state)}
    for name, value in ({"modalities": None} | checkpoint.metadata).items():
        agrees = name not in found or _text(value) == _text(found[name])
        lines[name] = value if agrees else f"{_text(found[name])}, although the file states {_text(value)}"
    components = lines.pop("components", {})
    print("\n".join(f"{name:<18} {_text(value)}" for name, value in lines.items()))
    if components:
        print(as_yaml(components))


def _layout(layout: weights.Layout) -> dict[str, str]:
    """The lines of `inspect` about the layout of a file."""
    return {
        "wrapper": layout.wrapper or "none",
        "beside it": ", ".join(layout.beside) or "nothing",
        "prefix": layout.prefix or "none",
        "encoder": layout.encoder or "no name of its own",
        "left out": ", ".join(layout.left_out) or "nothing",
        **({"other heads": ", ".join(layout.other_heads)} if layout.other_heads else {}),
    }


def _text(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, str | list | tuple) and not value:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


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


def convert(
    file: str,
    output: str,
    modalities: str | Sequence[str] | None = None,
    patch_size: int | Sequence[int] | None = None,
    preprocessing: str | Sequence[str] | None = None,
) -> None:
    """Convert a checkpoint to this project's layout, which includes a description of the network and its training.

    Metadata in the file are kept; metadata that neither the file nor an option gives are recorded as unknown. A file
    that names its modalities states what it was trained with: they are not renamed, a training has `modality_aliases`.

    Args:
        file: a checkpoint of any layout that `inspect` reads.
        output: file to write; an existing file is not overwritten.
        modalities: names of the input channels in order, such as T1,FLAIR, if the file does not state them.
        patch_size: size of the training crops in voxels, such as 96,96,96, if the file does not state it.
        preprocessing: preprocessing of the training scans, in words, if the file does not state it.
    """
    if weights.path_of("output", output).exists():
        raise InputError(f"--output={output}: exists already; expected a new file")
    checkpoint = weights.read(file)
    found = describe(checkpoint.state, file)
    given = {
        "modalities": _names(modalities),
        "patch_size": _patch(patch_size),
        "preprocessing": None if preprocessing is None else _text(preprocessing),
    }
    stated = {option: _agreed(option, value, checkpoint.metadata, file) for option, value in given.items()}
    _check_modalities(stated["modalities"], found["input_channels"], file)
    conversion = {
        "file": Path(file).name,
        "sha256": digest(file),
        "layout": asdict(checkpoint.layout),
        "versions": weights.versions(),
    }
    history = [*_conversions(checkpoint.metadata, file), conversion]
    metadata = {"versions": None} | checkpoint.metadata | found | stated | {"conversions": history}
    weights.write({"network": checkpoint.state, "metadata": metadata}, output)
    print(f"{output}: {found['network']}, {found['model_size']}, {', '.join(stated['modalities'])}")
    for head in checkpoint.layout.other_heads:
        print(f"left out: {head} (DIFF-29)")
    if checkpoint.layout.left_out:
        print(f"tensors left out, as SSLHead and SwinUNETR lack them: {', '.join(checkpoint.layout.left_out)}")


def _names(modalities: str | Sequence[str] | None) -> list[str] | None:
    if modalities is None:
        return None
    given = modalities.split(",") if isinstance(modalities, str) else modalities
    names = [str(name).strip() for name in given] if isinstance(given, list | tuple) else []
    if not names or not all(names):
        shown = ",".join(names) if names else modalities
        raise InputError(f"--modalities={shown}: expected names such as T1,FLAIR")
    return names


def _patch(size: int | Sequence[int] | None) -> list[int] | None:
    if size is None:
        return None
    edges: list[Any] = list(size) if isinstance(size, list | tuple) else [size] * 3
    if len(edges) != 3 or any(isinstance(edge, bool) or not isinstance(edge, int) or edge < 1 for edge in edges):
        raise InputError(f"--patch_size={size}: expected three lengths in voxels, such as 96,96,96")
    return edges


def _agreed(option: str, given: Any, metadata: Mapping[str, Any], file: str) -> Any:
    """The value of an option or of the file; None if neither has one."""
    own = metadata.get(option)
    if given is not None and own is not None and _text(given) != _text(own):
        remedy = _alias(given, own) if option == "modalities" else ""
        raise InputError(f"--{option}={_text(given)}: {file} states {_text(own)}; leave the option out{remedy}")
    return own if given is None else given


def _alias(wanted: Sequence[str], own: Sequence[str]) -> str:
    """How a training starts a modality from another one's filters, for whoever tries to rename a file's modalities."""
    if aliases := {new: old for new, old in zip(wanted, own, strict=False) if new not in own}:
        return f'; to start {", ".join(aliases)} from these filters, give the training --modality_aliases "{aliases}"'
    return ""


def _conversions(metadata: Mapping[str, Any], file: str) -> list[Any]:
    """The file's own history of conversions."""
    history = metadata.get("conversions", [])
    if not isinstance(history, list):
        raise InputError(f"{file}: metadata's conversions are {' '.join(repr(history).split()):.80}; expected a list")
    return history


def _check_modalities(modalities: list[str] | None, channels: int, file: str) -> None:
    if modalities is None:
        raise InputError(
            f"--modalities: missing; {file} has {channels} input channels and does not name them; "
            "expected their names in order, such as T1,FLAIR"
        )
    if len(modalities) != channels:
        raise InputError(f"--modalities={','.join(modalities)}: {file} has {channels} input channels")


if __name__ == "__main__":
    cli.run({"inspect": inspect, "convert": convert}, "weights")
