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

from ..data.names import ANY
from ..errors import ArgumentError, InputError, show
from .checkpoints import ENCODER, STEM, Checkpoint, read

# Tensors with one slice per modality -> axis of the slices; a network may add more by its attribute `modality_axes`
MODALITY_AXES = {
    STEM: 1,
    "encoder1.layer.conv1.conv.weight": 1,
    "encoder1.layer.conv3.conv.weight": 1,
    "convInit.conv.weight": 1,  # SegResNet
    "first.weight": 1,  # TransBTS
}
VERSION_2 = re.compile(re.escape(ENCODER) + r"layers\dc\.")  # residual blocks that only SwinUNETR version 2 has


@dataclass(frozen=True)
class Report:
    """Names of a network's tensors, by what a checkpoint gave them; those of different shapes are both last kinds."""

    source: str | None  # checkpoint; None without pretrained weights
    matched: list[str] = field(default_factory=list)  # loaded unchanged
    changed: list[str] = field(default_factory=list)  # adapted to different modalities
    missing: list[str] = field(default_factory=list)  # only in the network: they keep their initial values
    unexpected: list[str] = field(default_factory=list)  # only in the checkpoint: ignored
    change: str = ""  # of the modalities, such as "T1 -> T1, T2"
    aliases: Mapping[str, str] = field(default_factory=dict)  # modality -> the modality that supplies its filters

    def counts(self) -> dict[str, int]:
        """Count the matched, changed, missing and unexpected tensors."""
        return {kind: len(getattr(self, kind)) for kind in ("matched", "changed", "missing", "unexpected")}

    def carried(self) -> set[str]:
        """Return the names of the tensors loaded from the checkpoint, unchanged or adapted."""
        return {*self.matched, *self.changed}

    def lines(self) -> list[str]:
        """Return the report as lines to print."""
        if self.source is None:
            return [f"weights: from scratch: all {len(self.missing)} tensors keep their initial values"]
        counts = ", ".join(f"{count} {kind}" for kind, count in self.counts().items())
        lines = [f"weights: {self.source}: {counts}"]
        lines += [f"  alias      {modality} takes {source}'s filters" for modality, source in self.aliases.items()]
        lines += [f"  changed    {name}: {self.change}" for name in self.changed]
        gaps = {"missing": self.missing, "unexpected": self.unexpected}
        return lines + [f"  {kind:<10} {by_module(names)}" for kind, names in gaps.items() if names]

    def content(self) -> dict[str, Any]:
        """Return the report for `run.json`."""
        tensors = {"changed": [f"{name}: {self.change}" for name in self.changed]}
        tensors |= {"missing": self.missing, "unexpected": self.unexpected}
        return {"source": self.source, **self.counts(), "tensors": tensors}


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

    Tensors match by name; those with one slice per modality are adapted by the modalities' names (`transfer`). Heads or
    decoders that the checkpoint lacks keep their initial values; a different encoder is refused. `modalities` are the
    network's input channels in order. `modality_aliases` names, for modalities that the checkpoint lacks, the modality
    that supplies their filters: {"T2": "FLAIR"} treats T2 as FLAIR, even if FLAIR is also a channel. By default, `ANY`
    alone supplies every modality.
    """
    if pretrained is None:
        return Report(None, missing=list(network.state_dict()))
    name, checkpoint = f"checkpoint {pretrained}", read(Path(pretrained).expanduser())
    trained: list[str] | None = checkpoint.metadata.get("modalities")
    if trained is None:
        cure = "add them once with python -m scripts.weights convert FILE --modalities=T1,FLAIR --output=G.pt"
        raise InputError(name, f"does not name its modalities; {cure}")
    _check_merging(network, checkpoint, name)
    aliases = dict(modality_aliases or {})
    if trained == [ANY] and not aliases:
        aliases = {modality: ANY for modality in modalities if modality != ANY}
    for modality, source in aliases.items():
        if modality in trained or source not in trained:
            expected = f"a modality that {pretrained} lacks, and one that it has, of {', '.join(trained)}"
            raise ArgumentError("modality_aliases", aliases, expected=expected)
    target = [aliases.get(modality, modality) for modality in modalities]
    axes, state = MODALITY_AXES | getattr(network, "modality_axes", {}), network.state_dict()
    report = Report(str(pretrained), change=f"{', '.join(trained)} -> {', '.join(modalities)}", aliases=aliases)
    report.unexpected.extend(name for name in checkpoint.state if name not in state)
    for key, initial in network.state_dict().items():
        tensor, axis = checkpoint.state.get(key), axes.get(key) if trained != target else None
        shape = [len(trained) if number == axis else edge for number, edge in enumerate(initial.shape)]
        if tensor is None or list(tensor.shape) != shape:
            report.missing.append(key)
            report.unexpected.extend([key] if tensor is not None else [])
        elif axis is None:
            state[key] = tensor
            report.matched.append(key)
        else:
            state[key] = transfer(tensor, initial, axis, trained, target)
            report.changed.append(key)
    _check_encoder(report, name, checkpoint.metadata.get("model_size", "unknown"))
    network.load_state_dict(state)
    return report


def _check_encoder(report: Report, name: str, size: str) -> None:
    """Refuse an encoder that fits only in part; additional blocks of version 2 may be missing, but only together."""
    if not report.carried():
        raise InputError(name, "has no tensor in common with the network")
    has_version_2 = any(VERSION_2.match(key) for key in (*report.carried(), *report.unexpected))
    for key in (*report.missing, *report.unexpected):
        if key.startswith(ENCODER) and (has_version_2 or not VERSION_2.match(key)):
            raise InputError(name, f"the encoder (model_size {size}) differs, first in {key}", "the same model_size")


def transfer(
    tensor: torch.Tensor, initial: torch.Tensor, axis: int, source: Sequence[str], target: Sequence[str]
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
    result, is_input = initial.clone(), axis == 1
    if is_input:
        nn.init.kaiming_normal_(result, mode="fan_out")  # the fan-out is the same for each input slice
    for channel, modality in enumerate(target):
        if modality in source:
            slices = torch.stack([tensor.select(axis, i) for i, label in enumerate(source) if label == modality])
            filters = slices.sum(0) / list(target).count(modality) if is_input else slices.mean(0)
            result.select(axis, channel).copy_(filters)
    return result


def restore(
    network: nn.Module, path: str | Path, modalities: Sequence[str], normalization: str | None = None
) -> Checkpoint:
    """Load every tensor of a checkpoint into a network of the same architecture, for evaluation or inference.

    `modalities` names the network's input channels, in order; `normalization` is that of its images (None skips the
    check). What differs is refused; what the checkpoint does not name is assumed, and printed.
    """
    name, checkpoint = f"checkpoint {path}", read(path)
    _check_merging(network, checkpoint, name)
    metadata = checkpoint.metadata
    for setting, expected in (("modalities", list(modalities)), ("normalization", normalization)):
        if expected is not None and metadata.get(setting) is None:
            show(f"{name}: does not name its {setting}; assuming {expected}")
        elif expected is not None and metadata[setting] != expected:
            raise InputError(name, f"trained with {setting} {metadata[setting]}", str(expected))
    shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
    stored = {key: tensor.shape for key, tensor in checkpoint.state.items()}
    if tasks := metadata.get("tasks"):
        if not hasattr(network, "tasks"):
            raise InputError(name, f"self-supervised; to fine-tune it, use --pretrained={path}")
        if not {task.name for task in network.tasks}.issuperset(tasks):  # heads of a user's tasks are not needed
            stored = {key: shape for key, shape in stored.items() if key in shapes or key.startswith(ENCODER)}
    if wrong := sorted(key for key in shapes.keys() | stored.keys() if shapes.get(key) != stored.get(key)):
        problem = f"does not fit a {type(network).__name__}: {len(wrong)} tensors, first {wrong[0]}"
        settings = [f"{key}={metadata.get(key)}" for key in ("network", "architecture", "model_size", "patch_size")]
        raise InputError(name, f"{problem}; trained with {', '.join(settings)}")
    network.load_state_dict({key: checkpoint.state[key] for key in stored})
    return checkpoint


def _check_merging(network: nn.Module, checkpoint: Checkpoint, name: str) -> None:
    """Refuse a network whose patch merging differs from the checkpoint's, or a checkpoint of unknown merging."""
    layers = [layer for layer in network.modules() if isinstance(layer, PatchMerging)]
    built = {getattr(layer, "merging", "monai_1_5") for layer in layers}  # MONAI's own class: the installed version
    trained = checkpoint.metadata.get("merging")
    if built and trained is None:
        cure = "python -m scripts.weights convert FILE --merging=monai_1_4 (MONAI up to 1.4) or monai_1_5 --output=G.pt"
        raise InputError(name, f"does not state its MONAI version; add it with {cure}")
    if built - {trained}:
        raise InputError(name, f"trained with merging={trained}, not {built.pop()}")
