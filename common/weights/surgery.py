"""Fit a checkpoint to a network by modality name, and report what matched."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import ArgumentError, InputError, show
from .formats import ENCODER, STEM, Checkpoint, read
from .storage import path_of, record_of

# Tensors with one slice per modality, and the axis of the slices; networks of ours may add a `modality_axes`
MODALITY_AXES = {
    STEM: 1,
    "encoder1.layer.conv1.conv.weight": 1,
    "encoder1.layer.conv3.conv.weight": 1,
    "convInit.conv.weight": 1,  # SegResNet
    "first.weight": 1,  # TransBTS
}
NETWORK = ("architecture", "model_size", "patch_size")  # options that define a supervised network
VERSION_2 = re.compile(re.escape(ENCODER) + r"layers\dc\.")  # residual blocks that SwinUNETR's version 2 adds


@dataclass(frozen=True)
class Report:
    """The outcome of loading a checkpoint into a network, by names of tensors.

    Attributes:
        source: Path of the checkpoint; None without pretrained weights.
        matched: Tensors loaded unchanged.
        changed: Tensors adapted to different modalities.
        missing: Tensors in the network only, which keep their initial values.
        unexpected: Tensors in the checkpoint only, which are ignored.
        modalities: Modalities of the network, in channel order.
        shares: Each channel's share of a changed layer's response, by layer (see `response_shares`).
        aliases: Modalities of the network that take the filters of a different modality -> that modality.
    """

    source: str | None
    matched: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    modalities: list[str] = field(default_factory=list)
    shares: dict[str, list[float]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Count the tensors of each kind."""
        return {kind: len(getattr(self, kind)) for kind in ("matched", "changed", "missing", "unexpected")}

    def carried(self) -> set[str]:
        """Names of the tensors that come from the checkpoint, unchanged or adapted."""
        return {*self.matched, *(line.split(":")[0] for line in self.changed)}

    def lines(self) -> list[str]:
        """The report as a run prints it."""
        if self.source is None:
            return [f"weights: from scratch: all {len(self.missing)} tensors keep their initial values"]
        counts = ", ".join(f"{count} {kind}" for kind, count in self.counts().items())
        lines = [f"weights: {self.source}: {counts}"]
        lines += [f"  alias      {modality} takes {source}'s filters" for modality, source in self.aliases.items()]
        lines += [f"  changed    {name}" for name in self.changed]
        for name, shares in self.shares.items():
            each = ", ".join(f"{modality} {share:.0%}" for modality, share in zip(self.modalities, shares, strict=True))
            lines.append(f"  response   {name}: {each}")
        lines += [f"  {kind:<10} {by_module(names)}" for kind, names in self.gaps().items() if names]
        return lines

    def content(self) -> dict[str, Any]:
        """The report for `run.json`."""
        tensors = {"changed": self.changed, **self.gaps()}
        return {"source": self.source, **self.counts(), "tensors": tensors, "shares": self.shares}

    def gaps(self) -> dict[str, list[str]]:
        """Names only in the network (missing) and only in the checkpoint (unexpected)."""
        return {"missing": self.missing, "unexpected": self.unexpected}


def by_module(names: Collection[str]) -> str:
    """Count tensors by the first part of their names, as text such as `rotation_head (2), conv (12)`."""
    counts = Counter(name.split(".")[0] for name in names)
    return ", ".join(f"{module} ({count})" for module, count in counts.items())


def initialise(
    network: nn.Module,
    pretrained: str | Path | None,
    modalities: Sequence[str],
    modality_aliases: Mapping[str, str] | None = None,
) -> Report:
    """Start a network from a checkpoint of the previous stage; report what matched.

    Tensors match by name. Tensors with one slice per modality are assembled by the modalities' names (see `transfer`).
    Heads or decoders that the checkpoint lacks keep their initial values.

    Args:
        network: Network, changed in place.
        pretrained: Checkpoint that names its modalities; None (or the text null or none) changes nothing.
        modalities: Names of the network's input channels, in order.
        modality_aliases: Modalities that the checkpoint lacks -> modalities that supply their filters, such as {"T2":
            "FLAIR"}; T2 then counts as FLAIR, even if FLAIR is also a channel.

    Raises:
        InputError: the checkpoint cannot be read, does not name its modalities, or has a different encoder.
        ArgumentError: an alias is not in `modalities`, is known to the checkpoint, or refers to an unknown modality.
    """
    if pretrained is None:
        return Report(None, missing=list(network.state_dict()))
    checkpoint = read(path_of("pretrained", pretrained))
    if checkpoint.metadata.get("modalities") is None:
        raise InputError(
            f"checkpoint {pretrained}",
            f"does not name its modalities{_missing(pretrained, checkpoint)}; add them once "
            f"with python -m scripts.weights convert FILE --modalities=T1,FLAIR --output=G.pt",
        )
    aliases = dict(modality_aliases or {})
    _check_aliases(aliases, modalities, checkpoint.metadata["modalities"], str(pretrained))
    report = Report(str(pretrained), modalities=list(modalities), aliases=aliases)
    _fit(network, checkpoint, report)
    return report


def _check_aliases(aliases: dict[str, str], modalities: Sequence[str], known: Sequence[str], path: str) -> None:
    for modality, source in aliases.items():
        if modality not in modalities:
            problem = f"{modality} is not in modalities; expected {', '.join(modalities)}"
        elif modality in known:
            problem = f"checkpoint {path} already has filters for {modality}; name a modality that it lacks"
        elif source not in known:
            problem = f"checkpoint {path} has no filters for {source}, only for {', '.join(known)}"
        else:
            continue
        raise ArgumentError("modality_aliases", aliases, problem)


def _fit(network: nn.Module, checkpoint: Checkpoint, report: Report) -> None:
    path, known = report.source, checkpoint.metadata["modalities"]
    wanted = [report.aliases.get(modality, modality) for modality in report.modalities]
    axes, state = MODALITY_AXES | getattr(network, "modality_axes", {}), network.state_dict()
    if not state.keys() & checkpoint.state.keys():
        raise InputError(f"checkpoint {path}", "has no tensor in common with the network")
    report.unexpected.extend(name for name in checkpoint.state if name not in state)
    for name, initial in network.state_dict().items():
        given = checkpoint.state.get(name)
        axis = axes.get(name)
        if given is not None and axis is not None and known != wanted and _differ_only_in(axis, given, initial):
            state[name] = transfer(given, initial, axis, known, wanted, f"{path}: {name}")
            report.changed.append(f"{name}: {', '.join(known)} -> {', '.join(report.modalities)}")
            if initial.ndim > 1:
                report.shares[name] = response_shares(state[name], axis)
        elif given is not None and given.shape == initial.shape:
            state[name] = given
            report.matched.append(name)
        else:
            report.missing.append(name)
            report.unexpected.extend([name] if given is not None else [])  # the shape differs
    _refuse_other_encoder(report, checkpoint.metadata)
    network.load_state_dict(state)


def _differ_only_in(axis: int, given: torch.Tensor, initial: torch.Tensor) -> bool:
    """Whether two shapes differ at most in this axis."""
    shapes = [[length for i, length in enumerate(tensor.shape) if i != axis] for tensor in (given, initial)]
    return shapes[0] == shapes[1]


def _refuse_other_encoder(report: Report, metadata: Mapping[str, Any]) -> None:
    """Refuse an encoder that fits only in part; version 2's additional blocks may all be missing together."""
    size = metadata.get("model_size", "unknown")
    loaded = [*report.matched, *report.changed, *report.unexpected]
    is_first_version = not any(VERSION_2.match(name) for name in loaded)
    for kind, names in report.gaps().items():
        encoder = [name for name in names if name.startswith(ENCODER)]
        if is_first_version:
            encoder = [name for name in encoder if not VERSION_2.match(name)]
        if encoder:
            raise InputError(
                f"checkpoint {report.source}",
                f"its encoder (model_size {size}) differs from the network's: "
                f"{len(encoder)} tensors {kind} or of another shape, first {encoder[0]}",
                "the same model_size",
            )


def transfer(
    given: torch.Tensor,
    initial: torch.Tensor,
    axis: int,
    known: Sequence[str],
    wanted: Sequence[str],
    name: str = "tensor",
) -> torch.Tensor:
    """Adapt a tensor with one slice per modality to different modalities, by name (paper, section 2.4.1; DIFF-11).

    A known modality keeps its filters, and a modality that is not wanted is dropped. On the input axis, a modality that
    is wanted n times gets 1/n of its filters in each slice, so that the layer responds to it as before; filters of a
    modality that was known several times are added. On an output axis, filters are copied and averaged instead.

    Filters of a new modality are normal with a standard deviation of sqrt(2 / fan) (He et al., ICCV 2015), where fan
    is the number of weights that lead away from one input channel: filters times voxels, as the paper's code means it.
    A new output channel and its bias keep their initial values, as its fan-out does not determine its scale.
    """
    expected = [*initial.shape]
    expected[axis] = len(known)
    if list(given.shape) != expected:
        raise InputError(f"checkpoint {name}", f"shape {list(given.shape)}", f"{expected} for {', '.join(known)}")
    result, is_input = initial.clone(), axis == 1
    if is_input:
        nn.init.kaiming_normal_(result, mode="fan_out")  # each input slice has the fan-out of the whole
    for channel, modality in enumerate(wanted):
        if modality in known:
            slices = torch.stack([given.select(axis, i) for i, other in enumerate(known) if other == modality])
            filters = slices.sum(0) / list(wanted).count(modality) if is_input else slices.mean(0)
            result.select(axis, channel).copy_(filters)
    return result


def response_shares(weight: torch.Tensor, axis: int) -> list[float]:
    """Each channel's share of a convolution's response: its squared weights over all squared weights.

    For an input channel this is its share of the output's variance if all voxels are independent with equal variance.
    Voxels of real images are correlated, so shares only compare initialisations. If all weights are zero, so are the
    shares.

    Example:
        >>> response_shares(torch.tensor([[3.0, 4.0]]), axis=1)
        [0.36, 0.64]
    """
    squares = weight.double().square().transpose(0, axis).flatten(1).sum(1)
    return [round(share, 4) for share in (squares / squares.sum()).nan_to_num().tolist()]


def restore(
    network: nn.Module, path: str | Path, modalities: Sequence[str], normalization: str | None = None
) -> Checkpoint:
    """Load every tensor of a checkpoint into a network of the same architecture, for evaluation or inference.

    Args:
        network: Network, changed in place.
        path: Checkpoint; if it does not name its modalities or normalization, the given ones are assumed, and a line
            says so.
        modalities: Names of the network's input channels, in order.
        normalization: Normalization of the network's images (see `common.data.NormalizeBraind`); None checks nothing.

    Returns:
        The checkpoint.

    Raises:
        InputError: the checkpoint cannot be read, has different modalities, channel order or normalization, or a tensor
            is missing, unexpected or of a different shape.
    """
    checkpoint = read(path)
    known = checkpoint.metadata.get("modalities")
    if known is None:
        names = ", ".join(modalities)
        show(f"checkpoint {path}: does not name its modalities{_missing(path, checkpoint)}; assuming {names}")
    elif known != list(modalities):
        raise InputError(f"checkpoint {path}", f"trained with {', '.join(known)}", ", ".join(modalities))
    if normalization is not None:
        _check_normalization(checkpoint.metadata.get("normalization"), normalization, path)
    own = {name: tensor.shape for name, tensor in network.state_dict().items()}
    given = {name: tensor.shape for name, tensor in checkpoint.state.items()}
    if tasks := checkpoint.metadata.get("tasks"):
        if not hasattr(network, "tasks"):
            learnt = f"learnt {', '.join(tasks)} without labels"
            raise InputError(f"checkpoint {path}", f"{learnt}; start a training from it by --pretrained={path}")
        if not {task.name for task in network.tasks}.issuperset(tasks):  # the heads of a user's tasks are not needed
            given = {name: shape for name, shape in given.items() if name in own or name.startswith(ENCODER)}
    if wrong := sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name)):
        trained, built = checkpoint.metadata.get("network"), type(network).__name__
        if isinstance(trained, str) and trained != built:
            expected = f"the overlay that its training had; this config builds a {built}"
            raise InputError(f"checkpoint {path}", f"of a {trained}", expected)
        first = f"{wrong[0]} is {_shape(given.get(wrong[0]))}, expected {_shape(own.get(wrong[0]))}"
        stated = [
            f"{name} {checkpoint.metadata[name]}" for name in NETWORK if checkpoint.metadata.get(name) is not None
        ]
        shown = ", ".join(stated) or f"which states no network{_missing(path, checkpoint)}"
        raise InputError(f"checkpoint {path} ({shown})", f"{len(wrong)} tensors do not fit; first {first}")
    network.load_state_dict({name: checkpoint.state[name] for name in given})
    return checkpoint


def _missing(path: str | Path, checkpoint: Checkpoint) -> str:
    """The JSON that would describe a plain state dict, as a hint."""
    record = record_of(path)
    return "" if checkpoint.metadata or record.exists() else f", and {record} is missing"


def _check_normalization(known: str | None, used: str, path: str | Path) -> None:
    if known is None:
        show(f"checkpoint {path}: does not name its normalization; assuming {used}")
    elif known != used:
        raise InputError(f"checkpoint {path}", f"trained with normalization={known}, not {used}")


def _shape(shape: torch.Size | None) -> str:
    return "absent" if shape is None else str(list(shape))
