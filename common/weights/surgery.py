"""Fit a checkpoint to a network by modality name, and report what matched."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.errors import InputError
from common.weights.formats import ENCODER, STEM, Checkpoint, read
from common.weights.storage import path_of

__all__ = ["Report", "by_module", "initialise", "restore", "transfer"]

MODALITY_AXES = {  # tensors with one slice per modality, and the axis of the slices
    STEM: 1,
    "encoder1.layer.conv1.conv.weight": 1,
    "encoder1.layer.conv3.conv.weight": 1,
    "conv.20.weight": 0,  # last layer of SSLHead's reconstruction head
    "conv.20.bias": 0,
}


@dataclass(frozen=True)
class Report:
    """What happened to each tensor, by name, when a checkpoint was loaded into a network.

    Attributes:
        source: path of the checkpoint; None without pretrained weights.
        matched: loaded unchanged.
        changed: adapted to other modalities.
        missing: in the network only; they keep their initial values.
        unexpected: in the checkpoint only; they are ignored.
    """

    source: str | None
    matched: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Count the tensors of each kind."""
        return {kind: len(names) for kind, names in asdict(self).items() if kind != "source"}

    def __str__(self) -> str:
        origin = self.source or "no pretrained weights: all tensors keep their initial values"
        counts = ", ".join(f"{count} {kind}" for kind, count in self.counts().items())
        lines = [f"weights: {origin}: {counts}", *(f"  changed    {name}" for name in self.changed)]
        lines += [f"  {kind:<10} {by_module(names)}" for kind, names in self.gaps().items() if names and self.source]
        return "\n".join(lines)

    def gaps(self) -> dict[str, list[str]]:
        """Names that only the network has (missing) or only the checkpoint has (unexpected)."""
        return {"missing": self.missing, "unexpected": self.unexpected}


def by_module(names: Collection[str]) -> str:
    """Count names of tensors by their first part, as text such as `rotation_head (2), conv (12)`."""
    counts: dict[str, int] = {}
    for name in names:
        module = name.split(".")[0]
        counts[module] = counts.get(module, 0) + 1
    return ", ".join(f"{module} ({count})" for module, count in counts.items())


def initialise(network: nn.Module, pretrained: str | Path | None, modalities: Sequence[str]) -> Report:
    """Start a network from a checkpoint of the previous stage; report what matched.

    Tensors match by name. Tensors with one slice per modality are assembled by the modalities' names (see `transfer`).
    Heads or decoders that the checkpoint lacks keep their initial values.

    Args:
        network: changed in place.
        pretrained: a checkpoint that names its modalities; None (or the text null or none) changes nothing.
        modalities: names of the network's input channels, in order.

    Raises:
        InputError: the checkpoint cannot be read, does not name its modalities, or has a different encoder.
    """
    if pretrained is None:
        return Report(None, missing=list(network.state_dict()))
    checkpoint = read(path_of("pretrained", pretrained))
    if "modalities" not in checkpoint.metadata:
        raise InputError(
            f"checkpoint {pretrained}: does not name its modalities; add them once with "
            "python -m scripts.weights convert FILE --modalities=T1,FLAIR --output=G.pt"
        )
    return _fit(network, checkpoint, str(pretrained), modalities)


def _fit(network: nn.Module, checkpoint: Checkpoint, path: str, modalities: Sequence[str]) -> Report:
    known = checkpoint.metadata["modalities"]
    state = network.state_dict()
    if not state.keys() & checkpoint.state.keys():
        raise InputError(f"checkpoint {path}: has no tensor in common with the network")
    report = Report(path, unexpected=[name for name in checkpoint.state if name not in state])
    for name, initial in network.state_dict().items():
        given = checkpoint.state.get(name)
        axis = MODALITY_AXES.get(name)
        if (
            given is not None
            and axis is not None
            and known != list(modalities)
            and _differ_only_in(axis, given, initial)
        ):
            state[name] = transfer(given, initial, axis, known, modalities, f"{path}: {name}")
            report.changed.append(f"{name}: {', '.join(known)} -> {', '.join(modalities)}")
        elif given is not None and given.shape == initial.shape:
            state[name] = given
            report.matched.append(name)
        else:
            report.missing.append(name)
            report.unexpected.extend([name] if given is not None else [])  # its shape differs
    _refuse_other_encoder(report, checkpoint.metadata)
    network.load_state_dict(state)
    return report


def _differ_only_in(axis: int, given: torch.Tensor, initial: torch.Tensor) -> bool:
    """Whether two shapes differ in no axis but this one."""
    shapes = [[length for i, length in enumerate(tensor.shape) if i != axis] for tensor in (given, initial)]
    return shapes[0] == shapes[1]


def _refuse_other_encoder(report: Report, metadata: Mapping[str, Any]) -> None:
    size = metadata.get("model_size", "unknown")
    for kind, names in report.gaps().items():
        if encoder := [name for name in names if name.startswith(ENCODER)]:
            raise InputError(
                f"checkpoint {report.source}: its encoder (model_size {size}) differs from the network's: "
                f"{len(encoder)} tensors {kind} or of another shape, first {encoder[0]}; expected the same model_size"
            )


def transfer(
    given: torch.Tensor,
    initial: torch.Tensor,
    axis: int,
    known: Sequence[str],
    wanted: Sequence[str],
    name: str = "tensor",
) -> torch.Tensor:
    """Adapt a tensor with one slice per modality to other modalities, by name.

    A known modality keeps its filters, a new one gets Kaiming initialisation (paper, section 2.4.1; DIFF-11), and one
    that is not wanted is dropped. On the input axis, a modality that is wanted n times gets 1/n of its filters in each
    slice, so that the layer responds to it as before; filters of a modality that was known several times are added.
    On an output axis, filters are copied and averaged instead.

    Args:
        given: the checkpoint's tensor, with `len(known)` slices along `axis`.
        initial: the network's tensor, with `len(wanted)` slices along `axis`; the other axes as in `given`.
        axis: 1 for the input channels of a convolution, 0 for its output channels or its bias.
        known: the checkpoint's modalities in channel order.
        wanted: the network's modalities in channel order.
        name: name of the tensor, for messages.

    Returns:
        A new tensor with the shape of `initial`.

    Raises:
        InputError: the shape of `given` does not fit.
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
    """Load every tensor of a checkpoint into the network that it was made from, for evaluation or inference.

    Args:
        network: changed in place.
        path: checkpoint; one that does not name its modalities is taken to have `modalities`, and a line says so.
        modalities: names of the network's input channels, in order.

    Returns:
        The checkpoint.

    Raises:
        InputError: the checkpoint cannot be read, has other modalities or another order of them, or a tensor is
            missing, unexpected or of another shape.
    """
    checkpoint = read(path)
    known = checkpoint.metadata.get("modalities")
    if known is None:
        print(f"checkpoint {path}: does not name its modalities; assuming {', '.join(modalities)}", flush=True)
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
