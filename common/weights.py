"""Checkpoints: read one of any known layout, fit it to a network by modality name, say what matched."""

import platform
import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.files import whole
from common.preflight import InputError, optional

__all__ = [
    "ENCODER",
    "STEM",
    "Checkpoint",
    "Layout",
    "Report",
    "by_module",
    "initialise",
    "load",
    "path_of",
    "read",
    "restore",
    "transfer",
    "versions",
    "write",
]

ENCODER = "swinViT."  # what pretraining hands on
STEM = f"{ENCODER}patch_embed.proj.weight"  # its first layer, by which an encoder is found
WRAPPERS = ("network", "state_dict", "model", "model_state_dict")  # ours; the public; MONAI's; the public BraTS code's

# What the encoder is called: here and in MONAI's networks; in MONAI's SSL code until August 2022; in its
# ssl_pretrained_weights.pth; nothing at all in its model_swinvit.pt.
ENCODER_NAMES = (ENCODER, "swin_vit.", "encoder.", "")
ENCODER_PART = re.compile(r"(patch_embed|layers\d\w*|norm|mask_token)(\.|$)")
RENAMED = {  # within the encoder, as a pattern and what it is here
    r"\.mlp\.fc([12])\.": r".mlp.linear\1.",  # model_swinvit.pt
    r"^(layers\d)\.0\.0\.": r"\1.0.",  # ssl_pretrained_weights.pth
}
LEFT_OUT = re.compile(r"(norm\.(weight|bias)|mask_token)$")  # of an encoder: MONAI's has no such tensors
RECONSTRUCTION = "out."  # in ssl_pretrained_weights.pth this layer restores the image and segments nothing

MODALITY_AXES = {  # tensors with one slice a modality, and the axis of those slices
    STEM: 1,
    "encoder1.layer.conv1.conv.weight": 1,
    "encoder1.layer.conv3.conv.weight": 1,
    "conv.20.weight": 0,  # the last layer of SSLHead's reconstruction
    "conv.20.bias": 0,
}


def _is_text(value: Any) -> bool:
    """Whether a value is text that is nothing but itself in a YAML or JSON config, such as `depths (2, 2), size 12`."""
    return isinstance(value, str) and re.fullmatch(r"\w[\w., ()-]*", value) is not None


def _are_names(value: Any) -> bool:
    if not isinstance(value, list | tuple) or not value:
        return False
    return all(isinstance(name, str) and re.fullmatch(r"[^$@%\x00-\x1f][^\x00-\x1f]*", name) for name in value)


def _are_edges(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(edge) is int for edge in value)


TAKEN_OVER: dict[
    str, tuple[Callable[[Any], bool], str]
] = {  # metadata that becomes options of configs; see `_metadata`
    "modalities": (_are_names, "a list of names, such as ['T1', 'FLAIR']"),
    "model_size": (_is_text, "a word, such as small"),
    "label_convention": (_is_text, "a word, such as brats2021"),
    "patch_size": (_are_edges, "whole numbers, such as [96, 96, 96]"),
}

PLAIN = {torch.float16, torch.bfloat16, torch.float32, torch.float64}  # what networks are of
PLAIN |= {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


@dataclass(frozen=True)
class Layout:
    """How a file holds its tensors.

    The dictionary's key they are under (None where they are bare), what else is beside them, what all names begin with
    (such as `module.`), what the encoder is called there (None where there is none), and the tensors that have no place
    in MONAI's networks, by their name in the file.
    """

    wrapper: str | None
    beside: list[str]
    prefix: str
    encoder: str | None
    left_out: list[str]


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors by parameter name, what it says of itself (empty for a foreign file), and how it held them."""

    state: dict[str, torch.Tensor]
    metadata: dict[str, Any]
    layout: Layout


@dataclass(frozen=True)
class Report:
    """What became of a network's tensors, by name: how many are as in the file, changed, missing in it, or unused."""

    source: str | None
    matched: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """The number of tensors of each kind."""
        return {kind: len(names) for kind, names in asdict(self).items() if kind != "source"}

    def __str__(self) -> str:
        origin = self.source or "no pretrained weights: every tensor as initialised"
        counts = ", ".join(f"{count} {kind}" for kind, count in self.counts().items())
        lines = [f"weights: {origin}: {counts}", *(f"  changed    {name}" for name in self.changed)]
        lines += [f"  {kind:<10} {by_module(names)}" for kind, names in self.gaps().items() if names and self.source]
        return "\n".join(lines)

    def gaps(self) -> dict[str, list[str]]:
        """Names that the network or the file has alone."""
        return {"missing": self.missing, "unexpected": self.unexpected}


def by_module(names: Collection[str]) -> str:
    """Names of tensors as text: the first part of each, and how many have it."""
    counts: dict[str, int] = {}
    for name in names:
        module = name.split(".")[0]
        counts[module] = counts.get(module, 0) + 1
    return ", ".join(f"{module} ({count})" for module, count in counts.items())


def read(path: str | Path) -> Checkpoint:
    """Read a checkpoint without unpickling anything; tensors get the names that SSLHead and SwinUNETR give them.

    Known layouts: a state dict, bare or under one of `WRAPPERS`; with or without a prefix that all names share, such as
    the `module.` of DistributedDataParallel; the encoder by any of `ENCODER_NAMES`. So read are our files, those of the
    paper's authors, and the two that MONAI publishes for SwinUNETR (docs/weights.md).

    Raises:
        InputError: there is no such file, it cannot be read safely, it holds no tensors by name, or NaN, or tensors of
            another kind than plain numbers, its names cannot be told apart, or what it says of its modalities, model
            size, patch size or label convention is more than plain words and numbers.
    """
    content = load(path)
    wrapper = _wrapper(content, path)
    entries = content if wrapper is None else content[wrapper]
    given = {
        name: value for name, value in entries.items() if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if not given:
        keys = ", ".join(map(str, content)) or "nothing"
        raise InputError(
            f"checkpoint {path}: no tensors by name in it, but {keys:.80}; expected a state dict, bare or under one of "
            + ", ".join(WRAPPERS)
        )
    for name, value in given.items():
        if (kind := _kind(value)) is not None:
            raise InputError(
                f"checkpoint {path}: {name} is a {kind} tensor; expected plain numbers, such as float32, to train from"
            )
    if broken := [name for name, value in given.items() if not value.isfinite().all()]:
        raise InputError(f"checkpoint {path}: {len(broken)} tensors are not finite, first {broken[0]}")
    prefix, encoder = _prefix_and_encoder(given, path)
    names = {name: _name_here(name.removeprefix(prefix), encoder) for name in given}
    state = {new: given[name] for name, new in names.items() if new is not None}
    left_out = [name for name, new in names.items() if new is None]
    if len(state) + len(left_out) < len(given):
        twice = next(new for new in state if list(names.values()).count(new) > 1)
        raise InputError(f"checkpoint {path}: several of its tensors are {twice}; expected one")
    beside = [str(name) for name in content if name not in given and name not in (wrapper, "metadata")]
    layout = Layout(wrapper, beside, prefix, encoder, left_out)
    return Checkpoint(state, _metadata(content, path), layout)


def _kind(tensor: torch.Tensor) -> str | None:
    """What keeps a tensor from being plain numbers, in a word; None where it is."""
    if tensor.is_nested or tensor.is_meta:
        return "nested" if tensor.is_nested else "meta"
    odd = tensor.layout if tensor.layout != torch.strided else tensor.dtype  # quantized ones have types of their own
    return None if odd in PLAIN else str(odd).removeprefix("torch.")


def _metadata(content: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """What a file says of itself, its modalities as a list where it says them; empty for a foreign file.

    What configs take over from it is held to plain words and numbers, as a config evaluates a text such as "$print()".
    """
    said = content.get("metadata")
    if not isinstance(said, Mapping):
        return {}
    said = dict(said)
    for name, (is_plain, expected) in TAKEN_OVER.items():
        value = said.get(name)
        if name in said and not is_plain(value) and (value is not None or name == "modalities"):
            shown = f"{'are' if name == 'modalities' else 'is'} {' '.join(repr(value).split()):.80}"
            raise InputError(f"checkpoint {path}: metadata's {name} {shown}; expected {expected}")
    return said | ({"modalities": list(said["modalities"])} if "modalities" in said else {})


def _wrapper(content: Mapping[str, Any], path: str | Path) -> str | None:
    """The key that the tensors are under; None where they are bare."""
    found = [
        key
        for key in WRAPPERS
        if isinstance(content.get(key), Mapping) and any(isinstance(v, torch.Tensor) for v in content[key].values())
    ]
    if len(found) > 1:
        raise InputError(f"checkpoint {path}: tensors under {' and '.join(found)}; expected one network")
    return found[0] if found else None


def _prefix_and_encoder(names: Collection[str], path: str | Path) -> tuple[str, str | None]:
    """What all names begin with, and what the encoder is called after it; None where there is no encoder."""
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


def _name_here(name: str, encoder: str | None) -> str | None:
    """The name that a tensor has in SSLHead and SwinUNETR; None where they have no place for it."""
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


def load(path: str | Path) -> Mapping[str, Any]:
    """The dictionary that a file of `torch.save` holds; nothing is unpickled.

    Raises:
        InputError: there is no such file, or it cannot be read safely.
    """
    path = path_of("checkpoint ", path)
    if path.is_dir():
        raise InputError(f"checkpoint {path}: a folder; expected a file")
    if not path.is_file():
        raise InputError(f"checkpoint {path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the error then says
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises what its several readers raise
        raise InputError(f"checkpoint {path}: cannot be read as tensors alone: {_cause(error, path)}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"checkpoint {path}: holds a {type(content).__name__}; expected a dictionary of tensors")
    return content


def path_of(argument: str, value: Any) -> Path:
    """A path that may come from a command line, where `5` is read as a number and `[a]` as a list.

    Args:
        argument: what the value belongs to, as its message begins, such as `--output=`.
        value: of the argument.

    Raises:
        InputError: it is neither text nor a path, or empty.
    """
    if not isinstance(value, str | Path) or not str(value).strip():
        raise InputError(f"{argument}{value}: expected the path of a file; ./ before it makes a number or a list text")
    return Path(value)


def _cause(error: Exception, path: Path) -> str:
    """Why torch.load refused a file, and what its owner can do about it."""
    if isinstance(error, PermissionError):
        return f"{error.strerror}; expected a file that you may read"
    if name := re.search(r"GLOBAL (\S+)", str(error)):
        return (
            f"it needs {name[1]}, and unpickling can run any code; whoever made it can save the tensors alone with "
            "torch.save({'state_dict': model.state_dict()}, 'G.pt')"
        )
    if "TorchScript" in str(error):
        return f"TorchScript; save with torch.save(torch.jit.load('{path.name}').state_dict(), 'G.pt')"
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":  # JSON after eight bytes that say how long it is
        return f"safetensors; save with torch.save(safetensors.torch.load_file('{path.name}'), 'G.pt')"
    reason = str(error).split(". ")[0].splitlines()[0] if str(error) else type(error).__name__
    return f"{reason[:120] if start else 'empty'}; expected a whole file of torch.save"


def write(content: Mapping[str, Any], path: str | Path) -> None:
    """Save a checkpoint, whole or not at all; see `common.files.whole`."""
    with whole(path) as temporary, temporary.open("wb") as file:  # a full disk raises OSError in a Python file alone
        torch.save(dict(content), file)


def initialise(network: nn.Module, pretrained: str | Path | None, modalities: Sequence[str]) -> Report:
    """Start a network from the weights of the stage before; return what matched.

    Tensors go by name. Those that hold a slice for each modality are put together by the modalities' names
    (see `transfer`). Heads or decoders that the file lacks stay as initialised.

    Args:
        network: changed in place.
        pretrained: a checkpoint that says its modalities; None, or the word null or none, leaves the network as it is.
        modalities: the network's input channels, by name and in order.

    Raises:
        InputError: the file cannot be read, does not say its modalities, or its encoder is not the network's.
    """
    if optional(pretrained) is None:
        return Report(None, missing=list(network.state_dict()))
    checkpoint = read(path_of("--pretrained=", pretrained))
    if "modalities" not in checkpoint.metadata:
        raise InputError(
            f"checkpoint {pretrained}: does not say which modalities it holds; give them once with "
            "python -m scripts.weights convert FILE --modalities=T1,FLAIR --output=G.pt"
        )
    return _fit(network, checkpoint, str(pretrained), modalities)


def _fit(network: nn.Module, checkpoint: Checkpoint, path: str, modalities: Sequence[str]) -> Report:
    known = checkpoint.metadata["modalities"]
    state = network.state_dict()
    if not state.keys() & checkpoint.state.keys():
        raise InputError(f"checkpoint {path}: none of its tensors is one of the network's")
    report = Report(path, unexpected=[name for name in checkpoint.state if name not in state])
    for name, initial in network.state_dict().items():
        given = checkpoint.state.get(name)
        axis = MODALITY_AXES.get(name)
        if given is not None and axis is not None and known != list(modalities) and _differ_in(axis, given, initial):
            state[name] = transfer(given, initial, axis, known, modalities, f"{path}: {name}")
            report.changed.append(f"{name}: {', '.join(known)} -> {', '.join(modalities)}")
        elif given is not None and given.shape == initial.shape:
            state[name] = given
            report.matched.append(name)
        else:
            report.missing.append(name)
            report.unexpected.extend([name] if given is not None else [])  # as of another shape
    _refuse_other_encoder(report, checkpoint.metadata)
    network.load_state_dict(state)
    return report


def _differ_in(axis: int, given: torch.Tensor, initial: torch.Tensor) -> bool:
    """Whether two shapes are the same but for, at most, one axis."""
    shapes = [[length for i, length in enumerate(tensor.shape) if i != axis] for tensor in (given, initial)]
    return shapes[0] == shapes[1]


def _refuse_other_encoder(report: Report, metadata: Mapping[str, Any]) -> None:
    size = metadata.get("model_size", "unknown")
    for kind, names in report.gaps().items():
        if encoder := [name for name in names if name.startswith(ENCODER)]:
            raise InputError(
                f"checkpoint {report.source}: its encoder (model_size {size}) is not the network's: {len(encoder)} "
                f"tensors {kind} or of another shape, first {encoder[0]}; expected the same --model_size"
            )


def transfer(
    given: torch.Tensor,
    initial: torch.Tensor,
    axis: int,
    known: Sequence[str],
    wanted: Sequence[str],
    name: str = "tensor",
) -> torch.Tensor:
    """Channel surgery by modality name on a tensor that holds one slice a modality.

    A modality that is known keeps its filters; a new one gets Kaiming initialisation (paper, section 2.4.1; DIFF-11);
    one that is not wanted is left out. Where the axis is the input's and a modality is wanted n times, each slice is
    1/n of the filters, so that the layer's response to that modality stays what it was; filters of a modality that was
    known several times are added up. On an output axis they are copied, and averaged.

    Args:
        given: the checkpoint's tensor, `len(known)` long in `axis`.
        initial: the network's own, `len(wanted)` long in `axis`, its shape otherwise that of `given`.
        axis: 1 for the input channels of a convolution, 0 for its output channels and its bias.
        known: the checkpoint's modalities in channel order.
        wanted: the network's.
        name: of the tensor, for messages.

    Raises:
        InputError: the shapes do not allow it.
    """
    expected = [*initial.shape]
    expected[axis] = len(known)
    if list(given.shape) != expected:
        raise InputError(f"checkpoint {name}: shape {list(given.shape)}; expected {expected} for {', '.join(known)}")
    result = initial.clone()
    if initial.ndim > 1:
        nn.init.kaiming_normal_(result)
    is_input = axis == 1
    for channel, modality in enumerate(wanted):
        if modality in known:
            slices = torch.stack([given.select(axis, i) for i, other in enumerate(known) if other == modality])
            filters = slices.sum(0) / list(wanted).count(modality) if is_input else slices.mean(0)
            result.select(axis, channel).copy_(filters)
    return result


def restore(network: nn.Module, path: str | Path, modalities: Sequence[str]) -> Checkpoint:
    """Load a checkpoint of this very network, every tensor, for evaluation or inference; return the file's content.

    Raises:
        InputError: the file cannot be read, says other modalities or another order of them, or a tensor is missing,
            unexpected or of another shape.
    """
    checkpoint = read(path)
    known = checkpoint.metadata.get("modalities")
    if known is None:
        print(f"checkpoint {path}: does not say its modalities; taken as {', '.join(modalities)}", flush=True)
    elif known != list(modalities):
        raise InputError(f"checkpoint {path}: trained with {', '.join(known)}; expected {', '.join(modalities)}")
    own = {name: tensor.shape for name, tensor in network.state_dict().items()}
    given = {name: tensor.shape for name, tensor in checkpoint.state.items()}
    if wrong := sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name)):
        first = f"{wrong[0]} is {_shape(given.get(wrong[0]))}, expected {_shape(own.get(wrong[0]))}"
        size = checkpoint.metadata.get("model_size", "unknown")
        raise InputError(f"checkpoint {path} (model_size {size}): {len(wrong)} tensors do not fit; first {first}")
    network.load_state_dict(checkpoint.state)
    return checkpoint


def _shape(shape: torch.Size | None) -> str:
    return "absent" if shape is None else str(list(shape))


def versions() -> dict[str, str]:
    """The versions that a checkpoint and a run's record carry."""
    packages = {"torch": "torch", "monai": "monai", "ignite": "pytorch-ignite", "numpy": "numpy"}
    return {"python": platform.python_version()} | {name: version(package) for name, package in packages.items()}
