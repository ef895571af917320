"""Download, inspect and convert checkpoints: `python -m scripts.weights download|inspect|convert`."""

import json
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError

from common import cli, weights
from common.data.modalities import modality_of
from common.errors import ArgumentError, InputError, show
from common.files import atomic_write, check_new_files, digest
from common.literals import names_of
from common.options import OPTIONS, check_network
from scripts.published import published

SILENCE = 60  # seconds without an answer that end a download
MOST_BLOCKS = 100  # of an encoder; the paper's largest has 24


def download(url: str, output: str, *, sha256: str) -> None:
    """Download a checkpoint or package, and keep it only if it is the published file.

    Args:
        url: address that begins with https:// or http://.
        output: file to write; an existing file is not overwritten.
        sha256: SHA-256 of the file, as its publisher states it: 64 hexadecimal digits.
    """
    target = weights.path_of("output", output)
    check_new_files(f"--output={output}", target)
    if not re.fullmatch("[0-9a-f]{64}", sha256.lower()):
        raise ArgumentError("sha256", sha256, expected="64 hexadecimal digits")
    if not re.match("https?://", url):
        raise ArgumentError("url", url, expected="an address that begins with https:// or http://")
    from torch.hub import download_url_to_file  # late import: slow

    socket.setdefaulttimeout(SILENCE)
    with atomic_write(target) as temporary:
        try:
            download_url_to_file(url, str(temporary))
        except (URLError, HTTPException, ConnectionError, TimeoutError, UnicodeError) as error:
            raise ArgumentError("url", url, f"cannot be downloaded: {error}") from error
        if (received := digest(temporary)) != sha256.lower():
            raise ArgumentError("sha256", sha256, f"{url} has {received}; nothing was kept")
    show(f"{output}: {target.stat().st_size} bytes, with the requested SHA-256")


def inspect(file: str) -> None:
    """Print a checkpoint's layout, network, size, input channels and metadata.

    Args:
        file: a checkpoint of this project, of the paper's authors or of MONAI; nothing in it is unpickled.
    """
    weights.check_file(file)
    checkpoint = weights.read(file)
    layout = checkpoint.layout
    lines = {
        "wrapper": layout.wrapper or "none",
        "beside it": ", ".join(layout.beside) or "nothing",
        "prefix": layout.prefix or "none",
        "encoder": layout.encoder or "unnamed",
        "left out": ", ".join(layout.left_out) or "nothing",
        **(details := describe(checkpoint.state, file)),
        "modules": weights.by_module(checkpoint.state),
        "modalities": None,
        "merging": None,
        **{name: _stated(name, value) for name, value in checkpoint.metadata.items() if name not in details},
    }
    show(*(f"{name:<18} {_text(value)}" for name, value in lines.items()))


def _stated(name: str, value: Any) -> Any:
    return "null" if value is None and name in OPTIONS and OPTIONS[name].nullable else value


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
        output: file to write; an existing file is not overwritten. A name that ends in .safetensors gives that format,
            with the metadata in a JSON file beside it.
        modalities: names of the input channels in order, such as T1,FLAIR, if the file does not state them.
        patch_size: size of the training crops in voxels, such as 96,96,96, if the file does not state it.
        merging: monai_1_4 if the network was trained with MONAI up to 1.4, monai_1_5 if later; needed if the file does
            not state it.
    """
    target = weights.path_of("output", output)
    is_plain = target.suffix == weights.SAFETENSORS
    check_new_files(f"--output={output}", target, *([weights.record_of(target)] if is_plain else []))
    names = None if modalities is None else names_of(modalities)
    given = {"modalities": names, "patch_size": patch_size, "merging": merging}
    options = {option: OPTIONS[option](value) for option, value in given.items() if value is not None}
    weights.check_file(file)
    checkpoint = weights.read(file)
    details = describe(checkpoint.state, file)
    known = published(checkpoint, details["network"], details["input_channels"])
    is_other = any(_text(known.get(option, wanted)) != _text(wanted) for option, wanted in options.items())
    if is_other or {"modalities", "merging"} <= options.keys():
        known = {}  # a different network in the same layout
    stated = dict.fromkeys(("patch_size", "versions", "modalities", "merging")) | known | checkpoint.metadata
    for option, wanted in options.items():
        if stated[option] is not None and _text(wanted) != _text(stated[option]):
            raise InputError(
                f"--{option}={_text(wanted)}: {file} states {_text(stated[option])}; leave the option out; to start a "
                "modality from the filters of a different modality, train with --modality_aliases"
            )
        stated[option] = wanted
    if not isinstance(stated["modalities"], list | tuple) or len(stated["modalities"]) != details["input_channels"]:
        raise InputError(
            f"--modalities={_text(stated['modalities'])}: {file} has {details['input_channels']} input channels; "
            "expected their names in order, such as T1,FLAIR"
        )
    if stated["merging"] is None:
        raise InputError(f"--merging: {file} states no MONAI version; expected monai_1_4 (up to 1.4) or monai_1_5")
    if stated["patch_size"] is not None:
        check_network(stated["patch_size"])
    conversion = {"file": Path(file).name, "sha256": digest(file), "layout": asdict(checkpoint.layout)}
    conversion["versions"] = weights.versions()
    history = stated.get("conversions", [])
    if not isinstance(history, list):
        raise InputError(file, f"metadata: conversions={history!r:.80}", "a list of earlier conversions")
    metadata = stated | details | {"conversions": [*history, conversion]}
    if is_plain:
        with atomic_write(target) as temporary:
            temporary.write_bytes(as_safetensors(checkpoint.state, stated["merging"]))
            weights.write_record(target, digest(temporary), metadata)
    else:
        weights.write({"network": checkpoint.state, "metadata": metadata}, target)
    show(f"{output}: {details['network']}, {details['model_size']}, {', '.join(stated['modalities'])}")
    if known:
        show(f"recognised: {known['source']}, licence {known['licence']}; else give --modalities and --merging")
    for name in stated["modalities"]:
        if (usual := modality_of(name)) not in (None, name):
            effect = "training finds a modality's filters by name, so map the names with --modality_aliases"
            show(f"warning: {name}: datalists usually call this modality {usual}; {effect}")
    if left_out := checkpoint.layout.left_out:
        show(f"tensors left out, as SSLHead and SwinUNETR lack them: {', '.join(left_out)}")


def arguments_of(state: Mapping[str, Any], merging: str, name: str = "checkpoint") -> dict[str, Any] | None:
    """Return the arguments that build SwinUNETR for these tensors; None for any other network.

    They include `merging` if the installed MONAI's class lacks it; that class then refuses them.
    """
    if network_of(state) != "SwinUNETR":
        return None
    from common.ssl import ModelSize  # late import: `--help` stays fast

    details = describe(state, name)
    channels = {"in_channels": details["input_channels"], "out_channels": len(state["out.conv.conv.bias"])}
    size = {setting: details[setting] for setting in ModelSize._fields}
    return channels | size | ({} if merging == "monai_1_5" else {"merging": merging})


def as_safetensors(state: Mapping[str, Any], merging: str) -> bytes:
    """Return the content of a safetensors file; for a SwinUNETR, the header has the arguments of MONAI's class."""
    from safetensors.torch import save  # late import: `--help` stays fast

    header = {"format": "pt"}
    if arguments := arguments_of(state, merging):
        header |= {"network": "monai.networks.nets.SwinUNETR", "arguments": json.dumps(arguments)}
    return save({name: tensor.contiguous().clone() for name, tensor in state.items()}, header)


def describe(state: Mapping[str, Any], name: str = "checkpoint") -> dict[str, Any]:
    """Describe a checkpoint's network by its tensors: kind, size, channels and numbers of tensors and parameters.

    Raises an InputError if there is no SwinUNETR encoder that MONAI can build. The remaining tensors are not checked;
    training that starts from the checkpoint reports which of them fit.
    """
    from common.ssl import SIZES, SSLHead  # late import: `--help` stays fast

    stem = state.get(weights.STEM)
    if stem is None or stem.ndim != 5 or not stem.numel():
        problem = f"an unknown network, with tensors such as {', '.join(list(state)[:3])}"
        raise InputError(name, problem, "SwinUNETR's 3D encoder, alone or in a larger network")
    size = _size(state, name)
    try:
        encoder = SSLHead(stem.shape[1], size, tasks=[]).state_dict()
    except (ArithmeticError, ValueError) as error:  # MONAI's check of the feature size, or heads of width 0
        raise InputError(f"{name}: not a variant of SwinUNETR that MONAI can build: {error}") from error
    expected = {key: tensor.shape for key, tensor in encoder.items()}
    shapes = {key: tensor.shape for key, tensor in state.items() if key.startswith(weights.ENCODER)}
    if wrong := sorted(key for key in expected.keys() | shapes.keys() if expected.get(key) != shapes.get(key)):
        raise InputError(
            f"{name}: an unknown variant of SwinUNETR's encoder; expected MONAI's, version 1; tensors missing, "
            f"unexpected or of a different shape: {len(wrong)}, first {wrong[0]}"
        )
    unnamed = f"depths {size.depths}, feature size {size.feature_size}"
    model_size = next((label for label, settings in SIZES.items() if settings == size), unnamed)
    facts = {"network": network_of(state), "model_size": model_size, **size._asdict(), "input_channels": stem.shape[1]}
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


def _size(state: Mapping[str, Any], name: str) -> Any:
    """Return an encoder's `ModelSize`, from names and shapes [(2 window - 1)^3, heads] of its attention tables."""
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
    heads = tuple(level[0].shape[1] for level in tables.values())
    size = ModelSize(tuple(map(len, tables.values())), state[weights.STEM].shape[0], (edge + 1) // 2, heads)
    blocks = sum(size.depths)
    stored = sum(tensor.numel() for key, tensor in state.items() if key.startswith(weights.ENCODER))
    needed = sum(depth * 12 * (size.feature_size << level) ** 2 for level, depth in enumerate(size.depths))
    if blocks > MOST_BLOCKS or needed + blocks * size.window_size**6 > stored:
        raise InputError(
            f"{name}: {blocks} blocks of feature size {size.feature_size} and window {size.window_size} in {stored} "
            f"weights; expected MONAI's SwinUNETR, with {MOST_BLOCKS} blocks at most"
        )
    return size


if __name__ == "__main__":
    cli.run({"download": download, "inspect": inspect, "convert": convert}, "weights")
