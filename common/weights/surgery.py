"""Fit a checkpoint to a network by modality name, and report what matched."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets.swin_unetr import PatchMerging
from torch import nn

from ..errors import ArgumentError, InputError, show
from .formats import ENCODER, STEM, Checkpoint, read
from .records import path_of

# Tensors with one slice per modality -> axis of the slices; a network may add more by its attribute `modality_axes`
MODALITY_AXES = {
    STEM: 1,
    "encoder1.layer.conv1.conv.weight": 1,
    "encoder1.layer.conv3.conv.weight": 1,
    "convInit.conv.weight": 1,  # SegResNet
    "first.weight": 1,  # TransBTS
}
NETWORK = ("architecture", "model_size", "patch_size")  # metadata that define a supervised network
VERSION_2 = re.compile(re.escape(ENCODER) + r"layers\dc\.")  # residual blocks that only SwinUNETR version 2 has


@dataclass(frozen=True)
class Report:
    """The outcome of loading a checkpoint into a network. Tensors of different shapes are both missing and unexpected.

    Attributes:
        source: Path of the checkpoint; None without pretrained weights.
        matched: Names of tensors loaded unchanged.
        changed: Names of tensors adapted to different modalities.
        missing: Names of tensors only in the network, which keep their initial values.
        unexpected: Names of tensors only in the checkpoint, which are ignored.
        trained: Modalities of the checkpoint, in channel order.
        modalities: Modalities of the network, in channel order.
        shares: For each changed layer, the share of each channel in the layer's response (see `response_shares`).
        aliases: For modalities of the network, the modality of the checkpoint that supplies the filters.
    """

    source: str | None
    matched: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    trained: list[str] = field(default_factory=list)
    modalities: list[str] = field(default_factory=list)
    shares: dict[str, list[float]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Count the matched, changed, missing and unexpected tensors."""
        return {kind: len(getattr(self, kind)) for kind in ("matched", "changed", "missing", "unexpected")}

    def carried(self) -> set[str]:
        """Return the names of the tensors loaded from the checkpoint, unchanged or adapted."""
        return {*self.matched, *self.changed}

    def changes(self) -> list[str]:
        """Return a line for each adapted tensor, as "NAME: SOURCES -> TARGETS"."""
        return [f"{name}: {', '.join(self.trained)} -> {', '.join(self.modalities)}" for name in self.changed]

    def lines(self) -> list[str]:
        """Return the report as lines to print."""
        if self.source is None:
            return [f"weights: from scratch: all {len(self.missing)} tensors keep their initial values"]
        counts = ", ".join(f"{count} {kind}" for kind, count in self.counts().items())
        lines = [f"weights: {self.source}: {counts}"]
        lines += [f"  alias      {modality} takes {source}'s filters" for modality, source in self.aliases.items()]
        lines += [f"  changed    {change}" for change in self.changes()]
        for name, shares in self.shares.items():
            parts = [f"{modality} {share:.0%}" for modality, share in zip(self.modalities, shares, strict=True)]
            lines.append(f"  response   {name}: {', '.join(parts)}")
        lines += [f"  {kind:<10} {by_module(names)}" for kind, names in self.gaps().items() if names]
        return lines

    def content(self) -> dict[str, Any]:
        """Return the report for `run.json`."""
        tensors = {"changed": self.changes(), **self.gaps()}
        return {"source": self.source, **self.counts(), "tensors": tensors, "shares": self.shares}

    def gaps(self) -> dict[str, list[str]]:
        """Return the names of the missing and of the unexpected tensors."""
        return {"missing": self.missing, "unexpected": self.unexpected}


def by_module(names: Collection[str]) -> str:
    """Count tensors by module, the first part of their names: `rotation_head (2), conv (12)`."""
    counts = Counter(name.split(".")[0] for name in names)
    return ", ".join(f"{module} ({count})" for module, count in counts.items())


def initialise(
    network: nn.Module,
    pretrained: str | Path | None,
    modalities: Sequence[str],
    modality_aliases: Mapping[str, str] | None = None,
) -> Report:
    """Load a checkpoint of the previous stage into a network; report which tensors match.

    Tensors match by name. Tensors with one slice per modality are adapted by the modalities' names (see `transfer`).
    Heads or decoders that the checkpoint lacks keep their initial values.

    Args:
        network: Network, changed in place.
        pretrained: Checkpoint that names its modalities; None changes nothing.
        modalities: Names of the network's input channels, in order.
        modality_aliases: For a modality that the checkpoint lacks, the modality that supplies its filters: {"T2":
            "FLAIR"} treats T2 as FLAIR, even if FLAIR is also a channel.

    Raises:
        InputError: the checkpoint cannot be read, names no modalities, or has a different encoder or no common tensor.
        ArgumentError: the checkpoint already has filters for an alias, or lacks the modality that should supply them.
    """
    if pretrained is None:
        return Report(None, missing=list(network.state_dict()))
    checkpoint = read(path_of("pretrained", pretrained))
    if checkpoint.metadata.get("modalities") is None:
        raise InputError(
            f"checkpoint {pretrained}",
            "does not name its modalities; add them once "
            "with python -m scripts.weights convert FILE --modalities=T1,FLAIR --output=G.pt",
        )
    _check_merging(network, checkpoint, pretrained)
    aliases = dict(modality_aliases or {})
    trained = checkpoint.metadata["modalities"]
    _check_aliases(aliases, trained, str(pretrained))
    report = Report(str(pretrained), trained=trained, modalities=list(modalities), aliases=aliases)
    _fit(network, checkpoint, report)
    return report


def _check_aliases(aliases: dict[str, str], trained: Sequence[str], path: str) -> None:
    for modality, source in aliases.items():
        if modality in trained:
            problem = f"checkpoint {path} already has filters for {modality}; name a modality that it lacks"
        elif source not in trained:
            problem = f"checkpoint {path} has no filters for {source}, only for {', '.join(trained)}"
        else:
            continue
        raise ArgumentError("modality_aliases", aliases, problem)


def _fit(network: nn.Module, checkpoint: Checkpoint, report: Report) -> None:
    path, source = report.source, report.trained
    target = [report.aliases.get(modality, modality) for modality in report.modalities]
    axes, state = MODALITY_AXES | getattr(network, "modality_axes", {}), network.state_dict()
    if not state.keys() & checkpoint.state.keys():
        raise InputError(f"checkpoint {path}", "has no tensor in common with the network")
    report.unexpected.extend(name for name in checkpoint.state if name not in state)
    for name, initial in network.state_dict().items():
        tensor = checkpoint.state.get(name)
        axis = axes.get(name)
        if tensor is not None and axis is not None and source != target and _differ_only_in(axis, tensor, initial):
            state[name] = transfer(tensor, initial, axis, source, target, f"{path}: {name}")
            report.changed.append(name)
            if initial.ndim > 1:
                report.shares[name] = response_shares(state[name], axis)
        elif tensor is not None and tensor.shape == initial.shape:
            state[name] = tensor
            report.matched.append(name)
        else:
            report.missing.append(name)
            report.unexpected.extend([name] if tensor is not None else [])  # the shape differs
    _refuse_other_encoder(report, checkpoint.metadata)
    network.load_state_dict(state)


def _differ_only_in(axis: int, *tensors: torch.Tensor) -> bool:
    """Return whether two tensors' shapes are equal except for this axis."""
    shapes = [[length for i, length in enumerate(tensor.shape) if i != axis] for tensor in tensors]
    return shapes[0] == shapes[1]


def _refuse_other_encoder(report: Report, metadata: Mapping[str, Any]) -> None:
    """Refuse an encoder that fits only in part; additional blocks of version 2 may be missing, but only together."""
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
                f"the encoder (model_size {size}) differs from the network's; "
                f"tensors {kind} or of another shape: {len(encoder)}, first {encoder[0]}",
                "the same model_size",
            )


def transfer(
    tensor: torch.Tensor,
    initial: torch.Tensor,
    axis: int,
    source: Sequence[str],
    target: Sequence[str],
    name: str = "tensor",
) -> torch.Tensor:
    """Adapt a tensor with one slice per modality from source to target modalities (paper, section 2.4.1, DIFF-11).

    Modalities are matched by name: those in both keep their filters, those only in `source` are dropped. On the input
    axis, a modality that occurs n times in `target` gets 1/n of its filters in each slice, so that the layer's response
    does not change; filters of a modality that occurs several times in `source` are added. On an output axis, filters
    are copied or averaged instead.

    Filters of a new modality are normal with a standard deviation of sqrt(2 / fan) (He et al., ICCV 2015), where fan
    is the number of weights of an input channel: filters times voxels, as in the paper's code. A new output channel and
    its bias keep their initial values, because the fan-out does not determine their scale.
    """
    expected = [*initial.shape]
    expected[axis] = len(source)
    if list(tensor.shape) != expected:
        raise InputError(f"checkpoint {name}", f"shape {list(tensor.shape)}", f"{expected} for {', '.join(source)}")
    result, is_input = initial.clone(), axis == 1
    if is_input:
        nn.init.kaiming_normal_(result, mode="fan_out")  # the fan-out is the same for each input slice
    for channel, modality in enumerate(target):
        if modality in source:
            slices = torch.stack([tensor.select(axis, i) for i, label in enumerate(source) if label == modality])
            filters = slices.sum(0) / list(target).count(modality) if is_input else slices.mean(0)
            result.select(axis, channel).copy_(filters)
    return result


def response_shares(weight: torch.Tensor, axis: int) -> list[float]:
    """Return each channel's share of a convolution's response: its squared weights divided by all squared weights.

    An input channel's share is its share of the output variance if all voxels are independent with equal variance.
    Voxels of real images are correlated, so shares only compare initialisations. All shares are 0 if all weights are 0.

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
        path: Checkpoint; a line is printed if modalities or normalization are not named and therefore assumed.
        modalities: Names of the network's input channels, in order.
        normalization: Normalization of the network's images (see `common.data.NormalizeBraind`); None skips the check.

    Raises:
        InputError: the checkpoint cannot be read; it is self-supervised, but the network is not; it has different
            modalities, channel order or normalization; or a tensor is missing, unexpected or of a different shape.
    """
    checkpoint = read(path)
    _check_merging(network, checkpoint, path)
    trained = checkpoint.metadata.get("modalities")
    if trained is None:
        names = ", ".join(modalities)
        show(f"checkpoint {path}: does not name its modalities; assuming {names}")
    elif trained != list(modalities):
        raise InputError(f"checkpoint {path}", f"trained with {', '.join(trained)}", ", ".join(modalities))
    used = checkpoint.metadata.get("normalization")
    if used is None and normalization is not None:
        show(f"checkpoint {path}: does not name its normalization; assuming {normalization}")
    elif normalization is not None and used != normalization:
        raise InputError(f"checkpoint {path}", f"trained with normalization={used}, not {normalization}")
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    stored = {name: tensor.shape for name, tensor in checkpoint.state.items()}
    if tasks := checkpoint.metadata.get("tasks"):
        if not hasattr(network, "tasks"):
            problem = f"self-supervised ({', '.join(tasks)}), without regions"
            raise InputError(f"checkpoint {path}", f"{problem}; to fine-tune it, use --pretrained={path}")
        if not {task.name for task in network.tasks}.issuperset(tasks):  # heads of a user's tasks are not needed
            stored = {name: shape for name, shape in stored.items() if name in shapes or name.startswith(ENCODER)}
    if wrong := sorted(name for name in shapes.keys() | stored.keys() if shapes.get(name) != stored.get(name)):
        kind, built = checkpoint.metadata.get("network"), type(network).__name__
        if isinstance(kind, str) and kind != built:
            problem = f"weights of a {kind}, but this config builds a {built}"
            raise InputError(f"checkpoint {path}", problem, "the overlay used in its training")
        first = f"{wrong[0]} is {_shape(stored.get(wrong[0]))}, expected {_shape(shapes.get(wrong[0]))}"
        stated = [
            f"{name} {checkpoint.metadata[name]}" for name in NETWORK if checkpoint.metadata.get(name) is not None
        ]
        shown = ", ".join(stated) or "which states no network"
        raise InputError(f"checkpoint {path} ({shown})", f"tensors that do not fit: {len(wrong)}, first {first}")
    network.load_state_dict({name: checkpoint.state[name] for name in stored})
    return checkpoint


def _check_merging(network: nn.Module, checkpoint: Checkpoint, path: str | Path) -> None:
    """Refuse a network whose patch merging differs from the checkpoint's, or a checkpoint of unknown merging."""
    layers = [layer for layer in network.modules() if isinstance(layer, PatchMerging)]
    built = {getattr(layer, "merging", "monai_1_5") for layer in layers}  # MONAI's own class: the installed version
    trained = checkpoint.metadata.get("merging")
    if built and trained is None:
        raise InputError(
            f"checkpoint {path}",
            "does not state its MONAI version; if it was trained with MONAI up to "
            "1.4, add python -m scripts.weights convert FILE --merging=monai_1_4 --output=G.pt, otherwise monai_1_5",
        )
    if built - {trained}:
        raise InputError(f"checkpoint {path}", f"trained with merging={trained}, not {built.pop()}")


def _shape(shape: torch.Size | None) -> str:
    return "absent" if shape is None else str(list(shape))
