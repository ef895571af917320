"""Read checkpoints of any known layout; tensors get the names of this project's networks."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, report_in_one_line, within
from ..values import AXES, CLEANUP, EDGES, LENGTHS, MODALITIES, TEXT
from .storage import load, path_of, read_record

ENCODER = "swinViT."  # prefix of the encoder, the part that pretraining passes on
STEM = f"{ENCODER}patch_embed.proj.weight"  # the encoder's first layer; its name marks an encoder in a file

# The known layouts. All names may share a further prefix, such as `module.` of DistributedDataParallel.
WRAPPERS = ("network", "state_dict", "model", "model_state_dict")  # ours; common; MONAI's; the public BraTS code's
ENCODERS = {  # prefix of the encoder -> tensors in its files that our networks lack
    ENCODER: None,  # our networks, the paper's and MONAI's
    "encoder.": "out.",  # MONAI's ssl_pretrained_weights.pth; this layer restores the image, it does not segment
    "": None,  # MONAI's model_swinvit.pt
}
ENCODER_PART = re.compile(r"(patch_embed|layers\d\w*|norm|mask_token)(\.|$)")  # a name after the encoder's prefix
RENAMED = {  # within the encoder: pattern and replacement
    r"\.mlp\.fc([12])\.": r".mlp.linear\1.",  # model_swinvit.pt
    r"^(layers\d)\.0\.0\.": r"\1.0.",  # ssl_pretrained_weights.pth
}
LEFT_OUT = re.compile(r"(norm\.(weight|bias)|mask_token)$")  # encoder tensors that MONAI's encoder lacks

# Metadata that become options of configs; sizes of a training by Python may be others than an option takes
STATED = dict.fromkeys(("bundle", "architecture", "model_size", "label_convention", "normalization"), TEXT)
STATED |= {"modalities": MODALITIES, "tasks": MODALITIES, "patch_size": EDGES, "spacing": LENGTHS, "flips": AXES}
STATED["cleanup"] = CLEANUP
FIGURES = {"spacing": (2, 3), "extent": (2, 3), "volume": (2,), "air": (2,), "overlap": (2,)}  # of data.measure
MOST_AXES = 8
LARGEST = 1e9  # of a weight or running variance; trained ones stay far below, and its square fits into float32
PLAIN = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
PLAIN |= {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


@dataclass(frozen=True)
class Layout:
    """How a file stores its tensors.

    `wrapper` is the key of their dictionary (None: top level), `beside` the keys next to it, `prefix` is shared by all
    names, and `encoder` follows it (None: no encoder). MONAI's networks and SSLHead lack `left_out` tensors.
    """

    wrapper: str | None
    beside: list[str]
    prefix: str
    encoder: str | None
    left_out: list[str]


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors by parameter name, its metadata (empty for a foreign file), and its layout."""

    state: dict[str, torch.Tensor]
    metadata: dict[str, Any]
    layout: Layout


def read(path: str | Path) -> Checkpoint:
    """Read a checkpoint without unpickling anything; tensors get the names that SSLHead and SwinUNETR use.

    Known layouts: a state dict, at the top level or under one of `WRAPPERS`; with or without a prefix that all names
    share, such as DistributedDataParallel's `module.`; the encoder under a prefix in `ENCODERS`. This covers our files,
    those of the paper's authors (other heads: DIFF-29), and the two that MONAI publishes for SwinUNETR
    (docs/how-to/use-public-weights.md). Metadata are in the file, or in the JSON beside a plain state dict (see
    `common.weights.write_plain`).

    Raises:
        InputError: the file is missing or cannot be read safely; it has no named tensors, or tensors that are not
            finite or not plain numbers; its names are ambiguous; its modalities, model size, patch size or label
            convention are more than plain words and numbers; or the JSON beside it describes a different file.
    """
    content = load(path)
    with within(f"checkpoint {path}"):
        return _read(content, path)


def _read(content: Mapping[str, Any], path: str | Path) -> Checkpoint:
    wrapper, given = _tensors(content)
    prefix, encoder = _prefix_and_encoder(given)
    names = {name: _own_name(name.removeprefix(prefix), encoder) for name in given}
    state = {own: given[name] for name, own in names.items() if own is not None}
    left_out = [name for name, own in names.items() if own is None]
    if len(state) + len(left_out) < len(given):
        twice = Counter(filter(None, names.values())).most_common(1)[0][0]
        raise InputError(f"several tensors map to {twice}")
    beside = [str(name) for name in content if name not in given and name not in (wrapper, "metadata")]
    return Checkpoint(state, _metadata(content, path), Layout(wrapper, beside, prefix, encoder, left_out))


def settings_of(checkpoint: str | Path | Sequence[str]) -> dict[str, Any]:
    """Settings of a checkpoint's network and training images: those of `STATED` that a file has.

    Args:
        checkpoint: File, or several files that must agree. Foreign and missing files state nothing: a config can be
            read before there are weights, and loading them reports a missing file.

    Raises:
        InputError: a file cannot be read, or two disagree.
    """
    report_in_one_line()  # before `common.options.read`, which uses these as defaults
    files = checkpoint_files(checkpoint)
    known = [metadata_of(file) if file.exists() else {} for file in files]
    stated: dict[str, Any] = {}
    for name in STATED:
        found = [(file, settings[name]) for file, settings in zip(files, known, strict=True) if name in settings]
        for file, value in found[1:]:
            if value != found[0][1]:
                raise InputError(
                    f"checkpoint {file}",
                    f"trained with {name}={value}, but {found[0][0]} with {found[0][1]}; an ensemble "
                    "needs equal settings",
                )
        if found and found[0][1] is not None:
            stated[name] = found[0][1]
    return stated


def measured_of(checkpoint: str | Path | Sequence[str]) -> list[dict[str, Any]]:
    """Measured preparation of the checkpoints' training scans, for each file that states it.

    `spacing` is the network's input spacing, after resampling if the training resampled.

    Args:
        checkpoint: File or several files; see `settings_of`.

    Raises:
        InputError: a file cannot be read, or its figures are not pairs, of finite numbers or lists, named in `FIGURES`.
    """
    report_in_one_line()  # as in `settings_of`
    found = []
    for file in checkpoint_files(checkpoint):
        metadata = metadata_of(file) if file.exists() else {}
        measured, spacing = metadata.get("measured"), metadata.get("spacing")
        if measured is not None and not _are_ranges(measured):
            raise InputError(f"checkpoint {file}", f"metadata: measured={measured!s:.80}: expected ranges of figures")
        if measured is not None:
            found.append(dict(measured) | ({"spacing": [spacing, spacing]} if spacing else {}))
    return found


def _are_ranges(measured: Any) -> bool:
    try:
        ranges = {name: torch.tensor(value) for name, value in measured.items()}
    except (AttributeError, OverflowError, RuntimeError, TypeError, ValueError):  # no mapping, or not of numbers
        return False
    shapes = {name: tuple(ends.shape) for name, ends in ranges.items()}
    return shapes == FIGURES and all(ends.isfinite().all() for ends in ranges.values())


def checkpoint_files(checkpoint: str | Path | Sequence[str]) -> list[Path]:
    """The files that the option `checkpoint` names, one or several."""
    several = list(checkpoint) if isinstance(checkpoint, list | tuple) else [checkpoint]
    return [path_of("checkpoint", file) for file in several]


def metadata_of(checkpoint: str | Path) -> dict[str, Any]:
    """A checkpoint's metadata of its training; empty for a foreign file."""
    content = load(checkpoint, lazily=True)
    with within(f"checkpoint {checkpoint}"):
        return _metadata(content, checkpoint)


def _tensors(content: Mapping[str, Any]) -> tuple[str | None, dict[str, torch.Tensor]]:
    """The key of the tensors (None: top level), and the tensors by name, checked to be finite plain numbers."""
    under = {key: _named(content[key]) for key in WRAPPERS if isinstance(content.get(key), Mapping)}
    found = {key: tensors for key, tensors in under.items() if tensors}
    if len(found) > 1:
        raise InputError(f"tensors under {' and '.join(found)}; expected one network")
    wrapper, tensors = next(iter(found.items()), (None, _named(content)))
    if not tensors:
        keys = ", ".join(map(str, content)) or "nothing"
        raise InputError(
            f"holds no named tensors, but {keys:.80}; "
            f"expected a state dict, at the top level or under one of {', '.join(WRAPPERS)}"
        )
    for name, tensor in tensors.items():
        if tensor.dtype not in PLAIN or tensor.ndim > MOST_AXES:
            raise InputError(f"{name} is not a tensor of plain numbers, such as float32, with at most {MOST_AXES} axes")
        if name.endswith(("weight", "bias")) and not tensor.is_floating_point():
            raise InputError(f"{name} has type {tensor.dtype}; expected weights such as float32")
    weights = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if broken := [name for name, tensor in weights.items() if not (tensor.abs() <= LARGEST).all()]:
        raise InputError(f"{len(broken)} tensors beyond {LARGEST:g} or not finite, first {broken[0]}")
    return wrapper, tensors


def _named(entries: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    return {name: each for name, each in entries.items() if isinstance(name, str) and isinstance(each, torch.Tensor)}


def _prefix_and_encoder(names: Collection[str]) -> tuple[str, str | None]:
    """The prefix shared by all names, and the encoder's prefix after it (None without an encoder)."""
    stem = STEM.removeprefix(ENCODER)
    stems = [name for name in names if name.endswith(stem)]
    if len(stems) > 1:
        raise InputError(f"{len(stems)} encoders, {', '.join(stems)}; expected one")
    encoder, prefix = None, ""
    if stems:
        before = stems[0].removesuffix(stem)
        encoder = next(name for name in ENCODERS if before.endswith(name))
        prefix = before.removesuffix(encoder)
    if not prefix and any(name.startswith("module.") for name in names):
        prefix = "module."
    if others := [name for name in names if not name.startswith(prefix)]:
        raise InputError(
            f"{len(names) - len(others)} tensors begin with {prefix} and {len(others)} do not, first {others[0]}; "
            "expected all or none"
        )
    return prefix, encoder


def _own_name(name: str, encoder: str | None) -> str | None:
    """A tensor's name in SSLHead and SwinUNETR; None if they lack it."""
    if encoder is None:
        return name
    if (besides := ENCODERS[encoder]) and name.startswith(besides):
        return None
    part = name.removeprefix(encoder)
    if not name.startswith(encoder) or not ENCODER_PART.match(part):
        return name
    if LEFT_OUT.match(part):
        return None
    for pattern, replacement in RENAMED.items():
        part = re.sub(pattern, replacement, part)
    return ENCODER + part


def _is_plain(content: Mapping[str, Any]) -> bool:
    """Whether a file holds only tensors by name."""
    return bool(content) and all(isinstance(value, torch.Tensor) for value in content.values())


def _metadata(content: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """A file's metadata, with modalities as a list; empty for a foreign file."""
    found = read_record(path) if _is_plain(content) else content.get("metadata")
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise InputError(f"metadata of type {type(found).__name__}; expected names and values")
    metadata = dict(found)
    with within(f"checkpoint {path}: metadata"):
        stated = {
            name: kind.parse(name, metadata[name]) for name, kind in STATED.items() if metadata.get(name) is not None
        }
    return metadata | stated
