"""Read checkpoints of any known layout; tensors get the names that this project's networks use."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, report_in_one_line
from .plain import read_record, record_of
from .storage import load, path_of

__all__ = [
    "ENCODER",
    "STEM",
    "Checkpoint",
    "Layout",
    "checkpoint_files",
    "measured_of",
    "metadata_of",
    "read",
    "settings_of",
]

ENCODER = "swinViT."  # prefix of the encoder, the part that pretraining hands on
STEM = f"{ENCODER}patch_embed.proj.weight"  # the encoder's first layer; its name marks an encoder in a file
WRAPPERS = ("network", "state_dict", "model", "model_state_dict")  # ours; public; MONAI's; the public BraTS code's

# Prefixes of the encoder: ours and MONAI's networks; MONAI's SSL code until August 2022; MONAI's
# ssl_pretrained_weights.pth; MONAI's model_swinvit.pt, which has none.
ENCODER_NAMES = (ENCODER, "swin_vit.", "encoder.", "")
ENCODER_PART = re.compile(r"(patch_embed|layers\d\w*|norm|mask_token)(\.|$)")
RENAMED = {  # within the encoder: pattern and replacement
    r"\.mlp\.fc([12])\.": r".mlp.linear\1.",  # model_swinvit.pt
    r"^(layers\d)\.0\.0\.": r"\1.0.",  # ssl_pretrained_weights.pth
}
LEFT_OUT = re.compile(r"(norm\.(weight|bias)|mask_token)$")  # encoder tensors that MONAI's encoder lacks
RECONSTRUCTION = "out."  # in ssl_pretrained_weights.pth this layer restores the image; it does not segment
OTHER_HEADS = {  # of the paper's code, not in SSLHead (DIFF-29): what they are, and the tensors of their first module
    "a reconstruction head of type large_kernel_deconv; expected vae": ["conv.weight", "conv.bias"],
    "a reconstruction head of type deconv; expected vae": [
        f"conv.{layer}.{kind}" for layer in range(5) for kind in ("weight", "bias")
    ],
    "a rotation head of two layers; expected one": ["rotation_pre.weight", "rotation_pre.bias"],
    "a contrastive head of two layers; expected one": ["contrastive_pre.weight", "contrastive_pre.bias"],
}

FIGURES = {"spacing": 3, "extent": 3, "volume": 1, "air": 1, "overlap": 1}  # numbers of common.data.measure's figures
PLAIN = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
PLAIN |= {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


@dataclass(frozen=True)
class Layout:
    """How a file stores its tensors.

    Attributes:
        wrapper: key of the dictionary that holds the tensors; None if they are at the top level.
        beside: other keys next to the tensors.
        prefix: prefix that all names share, such as `module.`; may be empty.
        encoder: prefix of the encoder after `prefix`; None if the file has no encoder.
        left_out: tensors, by their names in the file, that MONAI's networks and SSLHead lack.
        other_heads: what heads these tensors are, and what was expected; a head is left out as a whole.
    """

    wrapper: str | None
    beside: list[str]
    prefix: str
    encoder: str | None
    left_out: list[str]
    other_heads: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors by parameter name, its metadata (empty for a foreign file), and its layout.

    `missing` is the JSON that a plain state dict lacks, and with it all metadata; None if there is one, or for a file
    that holds more than tensors.
    """

    state: dict[str, torch.Tensor]
    metadata: dict[str, Any]
    layout: Layout
    missing: Path | None = None


def read(path: str | Path) -> Checkpoint:
    """Read a checkpoint without unpickling anything; tensors get the names that SSLHead and SwinUNETR use.

    Known layouts: a state dict, at the top level or under one of `WRAPPERS`; with or without a prefix that all names
    share, such as DistributedDataParallel's `module.`; the encoder under any of `ENCODER_NAMES`. This covers our files,
    those of the paper's authors, and the two that MONAI publishes for SwinUNETR (docs/weights.md). The metadata are in
    the file, or in the JSON beside a plain state dict (see `common.weights.plain`).

    Raises:
        InputError: the file is missing or cannot be read safely; it has no named tensors, or tensors that are not
            finite or not plain numbers; its names are ambiguous; its modalities, model size, patch size or label
            convention are more than plain words and numbers; or the JSON beside it is about another file.
    """
    content = load(path)
    wrapper = _wrapper(content, path)
    given = _tensors(content, wrapper, path)
    prefix, encoder = _prefix_and_encoder(given, path)
    names = {name: _own_name(name.removeprefix(prefix), encoder) for name in given}
    heads = _other_heads(names.values())
    names |= {name: None for name, own in names.items() if own is not None and own.startswith(tuple(heads))}
    state = {own: given[name] for name, own in names.items() if own is not None}
    left_out = [name for name, own in names.items() if own is None]
    if len(state) + len(left_out) < len(given):
        twice = next(own for own in state if list(names.values()).count(own) > 1)
        raise InputError(f"checkpoint {path}: several tensors map to {twice}; expected one")
    beside = [str(name) for name in content if name not in given and name not in (wrapper, "metadata")]
    layout = Layout(wrapper, beside, prefix, encoder, left_out, list(heads.values()))
    metadata = _metadata(content, path)
    missing = record_of(path) if not metadata and _is_plain(content) and not record_of(path).exists() else None
    return Checkpoint(state, metadata, layout, missing)


def settings_of(checkpoint: str | Path | Sequence[str]) -> dict[str, Any]:
    """What a checkpoint says of the network and the images that it was trained with: some of `OPTIONS`.

    Args:
        checkpoint: a file, or several that must agree. A file of another project says nothing, nor does one that does
            not exist: a config can be read before there are weights, and loading them names the file that is missing.

    Raises:
        InputError: a file cannot be read, or two disagree.
    """
    report_in_one_line()  # before `common.options.read`, whose defaults these are
    files = checkpoint_files(checkpoint)
    stated = [_settings_in(file) if file.exists() else {} for file in files]
    for file, settings in zip(files[1:], stated[1:], strict=True):
        for name in settings.keys() & stated[0].keys():
            if settings[name] != stated[0][name]:
                raise InputError(
                    f"checkpoint {file}: trained with {name}={settings[name]}, and {files[0]} with {stated[0][name]}; "
                    "expected the same of all"
                )
    return stated[0] if stated else {}


def measured_of(checkpoint: str | Path | Sequence[str]) -> list[dict[str, Any]]:
    """How the scans that checkpoints were trained on were prepared, one for each file that says it.

    Args:
        checkpoint: a file or several; see `settings_of`.

    Raises:
        InputError: a file cannot be read, or says it in other than `FIGURES` by pairs of finite numbers or of lists.
    """
    report_in_one_line()  # as in `settings_of`
    files = checkpoint_files(checkpoint)
    stated = {file: metadata_of(file).get("measured") for file in files if file.exists()}
    for file, measured in stated.items():
        if measured is not None and not _are_ranges(measured):
            raise InputError(f"checkpoint {file}: metadata's measured {measured!s:.80}; expected ranges of figures")
    return [dict(measured) for measured in stated.values() if measured is not None]


def _are_ranges(measured: Any) -> bool:
    if not isinstance(measured, Mapping) or measured.keys() != FIGURES.keys():
        return False
    return all(
        isinstance(measured[name], list | tuple)
        and len(measured[name]) == 2
        and all(_are_numbers(side, count) for side in measured[name])
        for name, count in FIGURES.items()
    )


def _are_numbers(side: Any, count: int) -> bool:
    numbers = list(side) if isinstance(side, list | tuple) else [side]
    return len(numbers) == count and all(type(number) in (int, float) and isfinite(number) for number in numbers)


def checkpoint_files(checkpoint: str | Path | Sequence[str]) -> list[Path]:
    """The files of the option `checkpoint`, which names one or several.

    Raises:
        ArgumentError: one is no path.
    """
    several = list(checkpoint) if isinstance(checkpoint, list | tuple) else [checkpoint]
    return [path_of("checkpoint", file) for file in several]


def metadata_of(checkpoint: str | Path) -> dict[str, Any]:
    """What a checkpoint says of its training; empty for a file of another project.

    Raises:
        InputError: the file cannot be read.
    """
    return _metadata(load(checkpoint, lazily=True), checkpoint)


def _settings_in(file: Path) -> dict[str, Any]:
    metadata = metadata_of(file)
    return {name: metadata[name] for name in OPTIONS if metadata.get(name) is not None}


def _wrapper(content: Mapping[str, Any], path: str | Path) -> str | None:
    """The key that the tensors are under; None if they are at the top level."""
    found = [
        key
        for key in WRAPPERS
        if isinstance(content.get(key), Mapping) and any(isinstance(v, torch.Tensor) for v in content[key].values())
    ]
    if len(found) > 1:
        raise InputError(f"checkpoint {path}: tensors under {' and '.join(found)}; expected one network")
    return found[0] if found else None


def _tensors(content: Mapping[str, Any], wrapper: str | None, path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors by their names in the file, checked to be finite plain numbers."""
    entries = content if wrapper is None else content[wrapper]
    given = {
        name: value for name, value in entries.items() if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if not given:
        keys = ", ".join(map(str, content)) or "nothing"
        raise InputError(
            f"checkpoint {path}: holds no named tensors, but {keys:.80}; expected a state dict, at the top level or "
            f"under one of {', '.join(WRAPPERS)}"
        )
    for name, value in given.items():
        if (kind := _special_kind(value)) is not None:
            raise InputError(
                f"checkpoint {path}: {name} is a {kind} tensor; expected plain numbers, such as float32, to train from"
            )
    if broken := [name for name, value in given.items() if not value.isfinite().all()]:
        raise InputError(f"checkpoint {path}: {len(broken)} tensors are not finite, first {broken[0]}")
    return given


def _special_kind(tensor: torch.Tensor) -> str | None:
    """The kind of a tensor that is not plain numbers, such as "nested" or "complex64"; None for plain numbers."""
    if tensor.is_nested or tensor.is_meta:
        return "nested" if tensor.is_nested else "meta"
    kind = tensor.layout if tensor.layout != torch.strided else tensor.dtype  # quantised tensors have their own dtypes
    return None if kind in PLAIN else str(kind).removeprefix("torch.")


def _prefix_and_encoder(names: Collection[str], path: str | Path) -> tuple[str, str | None]:
    """The prefix that all names share, and the encoder's prefix after it; None if there is no encoder."""
    stem = STEM.removeprefix(ENCODER)
    stems = [name for name in names if name.endswith(stem)]
    if len(stems) > 1:
        raise InputError(f"checkpoint {path}: {len(stems)} encoders, {', '.join(stems)}; expected one")
    encoder = None
    if stems:
        before = stems[0].removesuffix(stem)
        encoder = next(name for name in ENCODER_NAMES if before.endswith(name))
        prefix = before.removesuffix(encoder)
    else:
        prefix = "module." if any(name.startswith("module.") for name in names) else ""
    if others := [name for name in names if not name.startswith(prefix)]:
        raise InputError(
            f"checkpoint {path}: {len(names) - len(others)} tensors begin with {prefix} and {len(others)} do not, "
            f"first {others[0]}; expected all or none"
        )
    return prefix, encoder


def _own_name(name: str, encoder: str | None) -> str | None:
    """The name that a tensor has in SSLHead and SwinUNETR; None if they lack it."""
    if encoder == "encoder." and name.startswith(RECONSTRUCTION):
        return None
    part = name.removeprefix(encoder or "")
    if encoder is None or not name.startswith(encoder) or not ENCODER_PART.match(part):
        return name
    if LEFT_OUT.match(part):
        return None
    for pattern, replacement in RENAMED.items():
        part = re.sub(pattern, replacement, part)
    return ENCODER + part


def _other_heads(names: Collection[str | None]) -> dict[str, str]:
    """The heads that SSLHead lacks, by the beginning of their names: `conv.`, `rotation_` or `contrastive_`.

    Tensors of theirs can have a name and shape that SSLHead has as well, such as the bias of `conv.0`, or be trained on
    the output of a layer that it lacks.
    """
    heads = {}
    for head, tensors in OTHER_HEADS.items():
        module = tensors[0].split(".")[0] + "."
        if {name for name in names if name is not None and name.startswith(module)} == set(tensors):
            heads[module.replace("pre.", "")] = head
    return heads


def _is_plain(content: Mapping[str, Any]) -> bool:
    """Whether a file holds nothing but tensors by name."""
    return bool(content) and all(isinstance(value, torch.Tensor) for value in content.values())


def _metadata(content: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """A file's metadata, with modalities as a list; empty for a foreign file.

    Entries that become options of configs must be plain words and numbers: a config evaluates text such as "$print()".
    """
    found = read_record(path) if _is_plain(content) else content.get("metadata")
    if not isinstance(found, Mapping):
        return {}
    metadata = dict(found)
    for name, (is_plain, expected) in OPTIONS.items():
        value = metadata.get(name)
        if name in metadata and not is_plain(value) and (value is not None or name == "modalities"):
            shown = f"{'are' if name == 'modalities' else 'is'} {' '.join(repr(value).split()):.80}"
            raise InputError(f"checkpoint {path}: metadata's {name} {shown}; expected {expected}")
    return metadata | ({"modalities": list(metadata["modalities"])} if "modalities" in metadata else {})


def _is_text(value: Any) -> bool:
    """Whether a YAML or JSON config takes a value as plain text, such as `depths (2, 2), size 12`."""
    return isinstance(value, str) and re.fullmatch(r"\w[\w., ()-]*", value) is not None


def _is_convention(value: Any) -> bool:
    """Whether a value is a word, or regions with their labels; `common.data.regions` reads what they mean."""
    return isinstance(value, str) and re.fullmatch(r"[\w=+,:-]{1,2000}", value) is not None


def _are_names(value: Any) -> bool:
    if not isinstance(value, list | tuple) or not value:
        return False
    return all(isinstance(name, str) and re.fullmatch(r"[^$@%\x00-\x1f][^\x00-\x1f]*", name) for name in value)


def _are_edges(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(edge) is int for edge in value)


def _are_lengths(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(edge) in (int, float) for edge in value)


OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {  # metadata that become options of configs; see `_metadata`
    "modalities": (_are_names, "a list of names, such as ['T1', 'FLAIR']"),
    "architecture": (_is_text, "a word, such as swin_unetr"),
    "model_size": (_is_text, "a word, such as small"),
    "label_convention": (_is_convention, "a word or regions, such as brats2021 or core=1+3,whole=1+2+3"),
    "patch_size": (_are_edges, "whole numbers, such as [96, 96, 96]"),
    "normalization": (_is_text, "a word, such as brain"),
    "spacing": (_are_lengths, "three numbers, such as [1.0, 1.0, 1.0]"),
}
