"""Inspect and convert checkpoints: `python -m scripts.weights inspect|convert`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import cli, weights
from common.errors import InputError, show
from common.files import digest
from common.options import OPTIONS
from scripts.yaml_text import as_yaml

WITHOUT_OUTPUT = "SwinUNETR without its output layer"
ENCODER_ALONE = "SwinUNETR's encoder"


def inspect(file: str) -> None:
    """Print a checkpoint's network, size and input channels, and the layout of the file.

    Args:
        file: a checkpoint of this project, of the paper's authors or of MONAI; nothing in it is unpickled.
    """
    checkpoint = weights.read(file)
    found = describe(checkpoint.state, file)
    layout = checkpoint.layout
    lines = {
        "wrapper": layout.wrapper or "none",
        "beside it": ", ".join(layout.beside) or "nothing",
        "prefix": layout.prefix or "none",
        "encoder": layout.encoder or "no name of its own",
        "left out": ", ".join(layout.left_out) or "nothing",
        **({"other heads": ", ".join(layout.other_heads)} if layout.other_heads else {}),
        **found,
        "modules": weights.by_module(checkpoint.state),
    }
    for name, value in ({"modalities": None} | checkpoint.metadata).items():
        agrees = name not in found or _text(value) == _text(found[name])
        lines[name] = value if agrees else f"{_text(found[name])}, although the file states {_text(value)}"
    components = lines.pop("components", {})
    show(*(f"{name:<18} {_text(value)}" for name, value in lines.items()))
    if components:
        show(*as_yaml(components).splitlines())


def _text(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, str | list | tuple) and not value:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


def convert(
    file: str,
    output: str,
    modalities: str | Sequence[str] | None = None,
    patch_size: Sequence[int] | None = None,
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
    names = modalities.split(",") if isinstance(modalities, str) else modalities
    names = [str(name).strip() for name in names] if isinstance(names, list | tuple) else names
    given = {
        "modalities": None if names is None else OPTIONS["modalities"](names),
        "patch_size": None if patch_size is None else OPTIONS["patch_size"](patch_size),
        "preprocessing": None if preprocessing is None else _text(preprocessing),
    }
    stated = {option: _agreed(option, value, checkpoint.metadata, file) for option, value in given.items()}
    if stated["modalities"] is None or len(stated["modalities"]) != found["input_channels"]:
        raise InputError(
            f"--modalities={_text(stated['modalities'])}: {file} has {found['input_channels']} input channels; "
            "expected their names in order, such as T1,FLAIR"
        )
    layout = checkpoint.layout
    conversion = {"file": Path(file).name, "sha256": digest(file), "layout": asdict(layout)}
    conversion["versions"] = weights.versions()
    metadata = {"versions": None} | checkpoint.metadata | found | stated
    history = metadata.get("conversions", [])
    if not isinstance(history, list):
        raise InputError(f"{file}: metadata's conversions {history!r:.80}; expected a list")
    metadata["conversions"] = [*history, conversion]
    weights.write({"network": checkpoint.state, "metadata": metadata}, output)
    show(f"{output}: {found['network']}, {found['model_size']}, {', '.join(stated['modalities'])}")
    show(*(f"left out: {head} (DIFF-29)" for head in layout.other_heads))
    if layout.left_out:
        show(f"tensors left out, as SSLHead and SwinUNETR lack them: {', '.join(layout.left_out)}")


def _agreed(option: str, given: Any, metadata: Mapping[str, Any], file: str) -> Any:
    """The value of an option or of the file's metadata; None if neither is given, an error if they differ."""
    own = metadata.get(option)
    if given is None or own is None or _text(given) == _text(own):
        return own if given is None else given
    remedy, aliases = "", {}
    if option == "modalities":
        aliases = {new: old for new, old in zip(given, own, strict=False) if new not in own}
    if aliases:
        remedy = f'; to start {", ".join(aliases)} from these filters, give the training --modality_aliases "{aliases}"'
    raise InputError(f"--{option}={_text(given)}: {file} states {_text(own)}; leave the option out{remedy}")


def describe(state: Mapping[str, Any], name: str = "checkpoint") -> dict[str, Any]:
    """Describe a checkpoint's network by its tensors: kind, size, channels and numbers of tensors and parameters.

    Raises an InputError if there is no SwinUNETR encoder that MONAI can build, or if the other tensors do not fit the
    network that their names suggest; unknown modules are ignored.
    """
    from common.ssl import SIZES  # late import: `--help` stays fast

    stem = state.get(weights.STEM)
    if stem is None or stem.ndim != 5 or not stem.numel():
        raise InputError(
            f"{name}: an unknown network; expected SwinUNETR's 3D encoder, alone or in a larger network; "
            f"its {len(state)} tensors begin with {', '.join(list(state)[:3])}"
        )
    size = _size(state, name)
    unnamed = f"depths {size.depths}, feature size {size.feature_size}"
    model_size = next((known for known, settings in SIZES.items() if settings == size), unnamed)
    found = {"network": _kind(state), "model_size": model_size, **size._asdict(), "input_channels": stem.shape[1]}
    bias = state.get("out.conv.conv.bias")
    found |= {} if bias is None else {"output_channels": bias.numel()}
    try:
        expected = _shapes(found, size)
    except ValueError as error:  # MONAI's check of the feature size
        raise InputError(f"{name}: no variant of {found['network']} that MONAI builds: {error}") from error
    modules = {key.split(".")[0] for key in expected}
    given = {key: tensor.shape for key, tensor in state.items() if key.split(".")[0] in modules}
    if wrong := sorted(key for key in expected.keys() | given.keys() if expected.get(key) != given.get(key)):
        raise InputError(
            f"{name}: an unknown variant of {found['network']}; expected MONAI's, version 1; {len(wrong)} tensors are "
            f"missing, unexpected or have another shape, first {wrong[0]}; its encoder alone are {weights.ENCODER}*"
        )
    numbers = sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point())
    return found | {"tensors": len(state), "parameters": numbers}


def _kind(state: Mapping[str, Any]) -> str:
    from common.ssl.tasks import paper_tasks

    modules = {key.split(".")[0] for key in state}
    if modules >= {head for task in paper_tasks() for head in task.heads(1, 1)}:
        return "SSLHead"
    if "decoder1" in modules:
        return "SwinUNETR" if "out" in modules else WITHOUT_OUTPUT
    return ENCODER_ALONE


def _size(state: Mapping[str, Any], name: str) -> Any:
    """An encoder's size, from the names and shapes of its attention tables: [(2 window - 1)^3, heads]."""
    from common.ssl import ModelSize

    block = re.compile(
        rf"{re.escape(weights.ENCODER)}layers([1-4])\.0\.blocks\.\d+\.attn\.relative_position_bias_table$"
    )
    tables: dict[str, list[Any]] = {level: [] for level in "1234"}
    for key, tensor in state.items():
        if (match := block.match(key)) and tensor.ndim == 2 and tensor.numel():
            tables[match[1]].append(tensor)
    if not all(tables.values()):
        raise InputError(f"{name}: SwinUNETR's encoder lacks levels; expected blocks in layers1 to layers4")
    edge = round(len(tables["1"][0]) ** (1 / 3))
    heads = tuple(found[0].shape[1] for found in tables.values())
    return ModelSize(tuple(map(len, tables.values())), state[weights.STEM].shape[0], (edge + 1) // 2, heads)


def _shapes(found: Mapping[str, Any], size: Any) -> dict[str, Any]:
    """The shapes of the tensors of a network that `describe` recognised."""
    from monai.networks.nets import SwinUNETR

    from common.ssl import SSLHead

    kind, channels = found["network"], found["input_channels"]
    network: Any
    if kind in ("SwinUNETR", WITHOUT_OUTPUT):
        network = SwinUNETR(channels, max(1, found.get("output_channels", 1)), **size._asdict())
    else:
        network = SSLHead(channels, size, tasks=[] if kind == ENCODER_ALONE else None)
    shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
    return {key: shape for key, shape in shapes.items() if kind != WITHOUT_OUTPUT or not key.startswith("out.")}


if __name__ == "__main__":
    cli.run({"inspect": inspect, "convert": convert}, "weights")
