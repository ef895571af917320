"""The network to export: a bundle's network with the weights of a checkpoint."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from common import weights
from common.configs import BUNDLES, check, read
from common.data import datalists
from common.data.datasets import CaseDataset
from common.data.modalities import missing_in
from common.data.regions import regions_of
from common.errors import InputError
from common.files import digest
from common.options import OPTIONS, check_network
from common.ssl.networks import SSLHead
from scripts.package.weights_file import PRIVATE
from scripts.weights import arguments_of

CONFIG = "configs/inference.yaml"
EXPORTABLE = "swin_unetr"  # the only architecture that can be exported


class Encoder(nn.Module):
    """The encoder of an `SSLHead` with its five feature maps as a tuple, which tracing and ONNX require."""

    def __init__(self, network: SSLHead) -> None:
        super().__init__()
        self.swinViT = network.swinViT

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.swinViT(image))


class Source:
    """A bundle's network with a checkpoint's weights, configured by inference.yaml.

    `network` is in evaluation mode. `traceable` returns only tensors: it is the network or, for a self-supervised
    bundle, the encoder alone.
    """

    def __init__(self, folder: Path, file: Path, device: str = "cpu") -> None:
        self.folder, self.device = folder, device
        stated = weights.read(file).metadata
        if self.folder.parent == BUNDLES:  # a copied bundle may be renamed
            weights.check_bundle(stated, file, self.folder.name)
        check([self.folder / CONFIG], {})
        overrides = {"bundle_root": str(self.folder), "device": device, "checkpoint": str(file), "amp": False}
        self.parser = read([self.folder / CONFIG], overrides)
        self.parser.get_parsed_content("imports")
        names = weights.STATED.keys() & self.parser.get().keys()  # from the checkpoint, else the config's defaults
        values = {name: OPTIONS[name](self.parser.get_parsed_content(name)) for name in names}
        self.parser.update(values)  # TorchScript files contain this config and are used without the checkpoint
        self.modalities, self.patch_size = values["modalities"], values["patch_size"]
        if (trained := values.get("architecture", EXPORTABLE)) != EXPORTABLE:
            raise InputError(f"checkpoint {file}: architecture {trained} cannot be exported; expected {EXPORTABLE}")
        check_network(self.patch_size)
        self.network: nn.Module = self.parser.get_parsed_content("network_def").to(device).eval()
        weights.restore(self.network, file, self.modalities)
        self.traceable = Encoder(self.network) if isinstance(self.network, SSLHead) else self.network
        convention = values.get("label_convention")
        labels = {name: sorted(values) for name, values in regions_of(convention).items()} if convention else None
        self.metadata = {
            **{name: value for name, value in stated.items() if name not in PRIVATE},
            "bundle": self.folder.name,
            "network": type(self.network).__name__,
            "arguments": self._arguments(),
            "modalities": self.modalities,
            "model_size": values["model_size"],
            "patch_size": self.patch_size,
            "outputs": [f"level_{level}" for level in range(5)] if labels is None else list(labels),
            "label_convention": convention,
            "labels": labels,
            "normalization": values["normalization"],
            "checkpoint": {"file": file.name, "sha256": digest(file)},
            "versions": weights.versions(),
        }

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments that rebuild the network from its class."""
        if arguments := arguments_of(self.network.state_dict(), self.parser["merging"]):
            return arguments | {"use_flash_attention": True}
        names = [name for name in self.parser["network_def"] if not name.startswith("_")]
        return {name: self.parser.get_parsed_content(f"network_def::{name}") for name in names}

    def window(self) -> torch.Tensor:
        """Return noise [1, C, *patch_size]: an input of the only size that the export accepts."""
        shape = (1, len(self.modalities), *self.patch_size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.device)

    def case(self, datalist: datalists.Datalist) -> tuple[str, torch.Tensor]:
        """Return the name and the preprocessed image [C, H, W, D] of the first held-out subject with all modalities.

        The subject is from the split of inference.yaml, or from validation if that split is `all`.
        """
        split = "validation" if self.parser["split"] == datalists.ALL else self.parser["split"]
        entries = datalist.load(split, self.modalities, missing=())
        complete = [entry for entry in entries if not missing_in(entry, self.modalities)]
        if not complete:
            names = ", ".join(self.modalities)
            raise InputError(f"datalist {datalist.path}: no subject of the split {split} has {names}")
        (item,) = CaseDataset(complete[:1], self.parser.get_parsed_content("preprocessing"))
        return complete[0]["subject"], item["image"].as_tensor().to(self.device)
