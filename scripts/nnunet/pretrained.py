"""Fit a pretrained encoder to nnU-Net's network, with a report.

nnU-Net's `-pretrained_weights` wants every tensor but the last layers, in equal shapes; a self-supervised encoder, such
as OpenMind's ResEnc-L (https://github.com/MIC-DKFZ/nnssl), has one input channel and no decoder for labels. It also
unpickles the file. So the tensors are read and fitted here, before nnU-Net's training begins.

A checkpoint of nnssl holds `network_weights` and `nnssl_adaptation_plan`, whose `key_to_encoder` and `key_to_stem` are
prefixes of the encoder's tensors: `encoder.stages` and `encoder.stem`, or `online_encoder.stages` and so on. One of
nnU-Net holds `network_weights` alone; its decoder is loaded too, where it fits.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.errors import InputError
from common.weights.storage import load
from common.weights.surgery import Report, response_shares

ADDED = ("module.", "_orig_mod.")  # prefixes by DistributedDataParallel and torch.compile
LAST_LAYERS = ".seg_layers."  # of other labels: nnU-Net never loads them


def read(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint of nnssl or nnU-Net, by nnU-Net's names; nothing is unpickled.

    Raises:
        InputError: the file cannot be read safely, or is neither of the two.
    """
    content = load(path)
    tensors, plan = content.get("network_weights"), content.get("nnssl_adaptation_plan", {})
    if not isinstance(tensors, Mapping) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        keys = ", ".join(str(key) for key in list(content)[:5])
        raise InputError(f"checkpoint {path}: holds {keys}; expected network_weights, as nnU-Net and nnssl write them")
    prefixes = _encoder_prefixes(plan, path)
    named = {}
    for name, tensor in tensors.items():
        while name.startswith(ADDED):
            name = name.split(".", 1)[1]
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        named[name if prefix is None else prefixes[prefix] + name.removeprefix(prefix)] = tensor
    return {name: tensor for name, tensor in named.items() if not plan or name.startswith("encoder.")}


def _encoder_prefixes(plan: Any, path: str | Path) -> dict[str, str]:
    """Prefix in the checkpoint -> prefix in nnU-Net's network."""
    keys = {"key_to_stem": "encoder.stem.", "key_to_encoder": "encoder.stages."}
    if not isinstance(plan, Mapping):
        raise InputError(f"checkpoint {path}: nnssl_adaptation_plan is no dictionary; expected the one of nnssl")
    return {f"{plan[key]}.": own for key, own in keys.items() if isinstance(plan.get(key), str)}


def fit(network: nn.Module, path: str | Path, modalities: list[str]) -> tuple[dict[str, torch.Tensor], Report]:
    """The network's whole state with the tensors of a checkpoint, and what happened to each.

    If the first convolution has other input channels, each new channel gets the sum of the checkpoint's filters divided
    by the number of new channels, as in nnU-Net's own fine-tuning: the response to equal channels stays.

    Args:
        network: of nnU-Net, as initialised.
        path: checkpoint of nnssl or nnU-Net.
        modalities: names of the network's input channels.

    Raises:
        InputError: the file cannot be read, or leaves a tensor of the encoder without weights.
    """
    given = read(path)
    state = network.state_dict()
    groups: dict[int, list[str]] = {}  # nnU-Net registers many tensors under several names
    for name, tensor in state.items():
        groups.setdefault(tensor.data_ptr(), []).append(name)
    first = next(name for name, tensor in network.named_parameters() if tensor.ndim > 2)
    report = Report(str(path), modalities=modalities)
    used: set[str] = set()
    for names in groups.values():
        own, found = state[names[0]], next((name for name in names if name in given), None)
        used.update(names)
        if found is None or LAST_LAYERS in names[0]:
            report.missing.append(names[0])
            continue
        tensor = _to_channels(given[found], own.shape) if first in names else given[found]
        if tensor.shape != own.shape:
            report.missing.append(names[0])
            report.unexpected.append(found)
            continue
        if given[found].shape == own.shape:
            report.matched.append(names[0])
        else:
            report.changed.append(names[0])
            report.shares[names[0]] = response_shares(tensor, 1)
        state.update(dict.fromkeys(names, tensor.clone()))
    report.unexpected.extend(name for name in given if name not in used)
    _refuse_other_encoder(report, state, given)
    return state, report


def _to_channels(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Filters for the number of input channels in `shape`; unchanged if they differ in more."""
    if tensor.ndim != len(shape) or tensor.shape[1] == shape[1]:
        return tensor
    return tensor.sum(1, keepdim=True).expand(-1, shape[1], *tensor.shape[2:]) / shape[1]


def _refuse_other_encoder(report: Report, state: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> None:
    lacking = [name for name in report.missing if name.startswith("encoder.")]
    if not lacking:
        return
    name = lacking[0]
    found = list(given[name].shape) if name in given else "nothing"
    total = sum(name.startswith("encoder.") for name in (*report.missing, *report.matched, *report.changed))
    raise InputError(
        f"--pretrained={report.source}: {len(lacking)} of {total} tensors of the encoder do not fit, first {name}: "
        f"{found}, expected {list(state[name].shape)}; OpenMind's encoders need --plans=resenc_l"
    )
