"""Checkpoints: read one of any known layout, fit it to a network by modality name, say what matched."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.preflight import InputError

__all__ = ["ENCODER", "Checkpoint", "Report", "initialise", "load", "read", "restore", "transfer", "versions", "write"]

ENCODER = "swinViT."  # what pretraining hands on
WRAPPERS = ("network", "state_dict", "model")  # ours; the public weights'; MONAI's
MODALITY_AXES = {  # tensors with one slice a modality, and the axis of those slices
    f"{ENCODER}patch_embed.proj.weight": 1,
    "encoder1.layer.conv1.conv.weight": 1,
    "encoder1.layer.conv3.conv.weight": 1,
    "conv.20.weight": 0,  # the last layer of SSLHead's reconstruction
    "conv.20.bias": 0,
}


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors by parameter name, and what it says of itself (empty for a foreign file)."""

    state: dict[str, torch.Tensor]
    metadata: dict[str, Any]


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
        lines += [f"  {kind:<10} {_by_module(names)}" for kind, names in self.gaps().items() if names and self.source]
        return "\n".join(lines)

    def gaps(self) -> dict[str, list[str]]:
        """Names that the network or the file has alone."""
        return {"missing": self.missing, "unexpected": self.unexpected}


def _by_module(names: Sequence[str]) -> str:
    counts: dict[str, int] = {}
    for name in names:
        module = name.split(".")[0]
        counts[module] = counts.get(module, 0) + 1
    return ", ".join(f"{module} ({count})" for module, count in counts.items())


def read(path: str | Path) -> Checkpoint:
    """Read a checkpoint without unpickling anything.

    Known layouts: ours ({"network", "metadata", ...}), {"state_dict": ...}, {"model": ...} and a bare state dict; each
    with or without the prefix `module.` that DistributedDataParallel leaves.

    Raises:
        InputError: there is no such file, it cannot be read safely, it holds no tensors by name, or NaN.
    """
    content = load(path)
    state = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    state = {
        name.removeprefix("module."): value
        for name, value in state.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if not state:
        raise InputError(
            f"checkpoint {path}: no tensors by name in it; expected a state dict, bare or under {WRAPPERS}"
        )
    if broken := [name for name, value in state.items() if not value.isfinite().all()]:
        raise InputError(f"checkpoint {path}: {len(broken)} tensors are not finite, first {broken[0]}")
    metadata = content.get("metadata")
    return Checkpoint(state, dict(metadata) if isinstance(metadata, Mapping) else {})


def load(path: str | Path) -> Mapping[str, Any]:
    """The dictionary that a file of `torch.save` holds; nothing is unpickled.

    Raises:
        InputError: there is no such file, or it cannot be read safely.
    """
    if not Path(path).is_file():
        raise InputError(f"checkpoint {path}: no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises what its several readers raise
        cause = str(error).split(". ")[0].splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"checkpoint {path}: cannot be read as tensors alone ({cause[:120]}); expected a file of torch.save that "
            "loads with weights_only=True"
        ) from error
    if not isinstance(content, Mapping):
        raise InputError(f"checkpoint {path}: holds a {type(content).__name__}; expected a dictionary of tensors")
    return content


def write(content: Mapping[str, Any], path: str | Path) -> None:
    """Save a checkpoint under a temporary name, then rename it: a file of this name is always a whole one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            torch.save(dict(content), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def initialise(network: nn.Module, pretrained: str | Path | None, modalities: Sequence[str]) -> Report:
    """Start a network from the weights of the stage before; return what matched.

    Tensors go by name. Those that hold a slice for each modality are put together by the modalities' names
    (see `transfer`). Heads or decoders that the file lacks stay as initialised.

    Args:
        network: changed in place.
        pretrained: a checkpoint that says its modalities; None leaves the network as it is.
        modalities: the network's input channels, by name and in order.

    Raises:
        InputError: the file cannot be read, does not say its modalities, or its encoder is not the network's.
    """
    if pretrained is None:
        return Report(None, missing=list(network.state_dict()))
    checkpoint = read(pretrained)
    if "modalities" not in checkpoint.metadata:
        raise InputError(
            f"checkpoint {pretrained}: does not say which modalities it holds; give them once with "
            "python -m scripts.weights convert FILE --modalities=T1,FLAIR --output=G.pt"
        )
    return _fit(network, checkpoint, str(pretrained), modalities)


def _fit(network: nn.Module, checkpoint: Checkpoint, path: str, modalities: Sequence[str]) -> Report:
    known = list(checkpoint.metadata["modalities"])
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
