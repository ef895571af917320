"""Load a pretrained encoder into nnU-Net's network, with a report.

nnU-Net's `-pretrained_weights` unpickles the file and requires all tensors but the last layers in equal shapes, so it
rejects self-supervised encoders such as OpenMind's ResEnc-L (https://github.com/MIC-DKFZ/nnssl), which have a single
input channel and no decoder for labels.

Checkpoints hold `network_weights`; those of nnssl also hold `nnssl_adaptation_plan`, with the prefixes of the encoder's
tensors in `key_to_encoder` and `key_to_stem`. From an nnU-Net checkpoint, matching tensors of the decoder are loaded,
too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.errors import InputError
from common.weights.storage import load
from common.weights.surgery import Report, response_shares

ADDED = ("module.", "_orig_mod.")  # prefixes of DistributedDataParallel and torch.compile
LAST_LAYERS = ".seg_layers."  # for the previous labels; nnU-Net never loads them


def read(path: str | Path) -> dict[str, torch.Tensor]:
    """Read the tensors of an nnssl or nnU-Net checkpoint by nnU-Net's names, without unpickling."""
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
    """Map prefixes in the checkpoint to prefixes in nnU-Net's network."""
    keys = {"key_to_stem": "encoder.stem.", "key_to_encoder": "encoder.stages."}
    if not isinstance(plan, Mapping):
        raise InputError(f"checkpoint {path}: nnssl_adaptation_plan is no dictionary; expected the one of nnssl")
    return {f"{plan[key]}.": own for key, own in keys.items() if isinstance(plan.get(key), str)}


def fit(network: nn.Module, path: str | Path, modalities: list[str]) -> tuple[dict[str, torch.Tensor], Report]:
    """The network's complete state with the checkpoint's tensors, and a report on each tensor.

    If the number of input channels differs, each new channel of the first convolution gets the sum of the checkpoint's
    filters divided by that number, as in nnU-Net's fine-tuning, which preserves the response to equal channels. Raises
    an InputError if a tensor of the encoder gets no weights.
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
    """Adapt filters to the number of input channels in `shape`; unchanged if the shapes differ otherwise."""
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
