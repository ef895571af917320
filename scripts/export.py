"""Export a bundle's network: `python -m scripts.export BUNDLE --format=torchscript|onnx|state_dict`.

Every export is compared with the original network, window by window, on a held-out case. If they differ by more than a
tolerance, nothing is written. docs/exports.md describes the formats.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data.torchscript_utils import save_net_with_metadata
from monai.networks.utils import convert_to_onnx, convert_to_torchscript
from torch import nn
from torch.nn.functional import cosine_similarity

from common import cli, weights
from common.data import datalists
from common.data.datasets import CaseDataset
from common.data.modalities import missing_in
from common.data.regions import regions_of
from common.data.transforms import RegionsToLabeld
from common.errors import InputError, check_number, choice
from common.files import atomic_write, check_writable_file, reporting_json_errors, write_json
from common.options import OPTIONS, check_network, check_trained
from common.ssl.embeddings import EmbeddingInferer
from common.ssl.networks import SSLHead, settings
from common.values import check_device

__all__ = ["TOLERANCES", "Comparison", "OnnxNetwork", "Source", "compare", "export", "load", "write"]

BUNDLES = Path(__file__).parents[1] / "bundles"
CONFIG = "configs/inference.yaml"
KNOWN = "swin_unetr"  # architecture
TOLERANCES = {  # largest difference of an output from the original, in its own unit (logits; features of unit variance)
    "torchscript": 1e-4,  # the same kernels in the same order: 0 on a CPU
    "onnx": 1e-3,  # onnxruntime sums in another order; about 1e-5 is usual
    "state_dict": 0.0,  # the same numbers in the same code
}
# Options that a checkpoint states
STATED = ("modalities", "model_size", "patch_size", "label_convention", "normalization", "architecture")


class Comparison(NamedTuple):
    """The differences between two networks on a case.

    Attributes:
        difference: the largest over all outputs and windows; NaN if one is not finite.
        agreement: fraction of voxels with the same label; for an encoder the lowest cosine of its levels' vectors.
        windows: number of windows compared.
    """

    difference: float
    agreement: float
    windows: int


class Encoder(nn.Module):
    """The encoder of an `SSLHead` with its five feature maps as a tuple, which tracing and ONNX require."""

    def __init__(self, network: SSLHead) -> None:
        super().__init__()
        self.swinViT = network.swinViT

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.swinViT(image))


class AxiswiseInstanceNorm(nn.Module):
    """`nn.InstanceNorm3d` without weights, with means taken axis by axis.

    onnxruntime's own operator sums a whole volume voxel by voxel in single precision. On brain windows of 96 voxels
    that changed logits by 2e-3; this one changes them by 7e-6 and takes 10 % more time.

    Args:
        eps: added to the variance.
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        centred = features - self._mean(features)
        return centred / torch.sqrt(self._mean(centred * centred) + self.eps)

    @staticmethod
    def _mean(values: torch.Tensor) -> torch.Tensor:
        for axis in (-1, -2, -3):
            values = values.mean(axis, keepdim=True)
        return values


class OnnxNetwork:
    """An ONNX file as a network: tensors in, tensors out, run by onnxruntime on the CPU."""

    def __init__(self, path: str | Path) -> None:
        import onnxruntime  # imported here because other formats do not need it

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, image: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        found = self.session.run(None, {"image": image.numpy(force=True)})
        outputs = tuple(torch.from_numpy(array).to(image.device) for array in found)
        return outputs[0] if len(outputs) == 1 else outputs


class Source:
    """A bundle's network with the weights of a checkpoint, configured by inference.yaml.

    Args:
        bundle: folder of a bundle, or the name of a bundle of this repository.
        checkpoint: file; models/model.pt of the bundle by default.
        device: of the network.
        options: of inference.yaml; None takes the checkpoint's value, or else the config's default.

    Attributes:
        network: in evaluation mode.
        traceable: the network with tensors as outputs; only the encoder of a self-supervised bundle.
        metadata: description of the export for its readers.

    Raises:
        InputError: there is no such bundle or checkpoint, or they do not fit each other.
    """

    def __init__(
        self, bundle: str, checkpoint: str | None = None, device: str = "cpu", options: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = _bundle(bundle)
        file = weights.path_of("checkpoint", checkpoint or self.folder / "models" / "model.pt")
        stated = weights.read(file).metadata
        self.parser = ConfigParser()
        self.parser.read_config(self.folder / CONFIG)
        self.parser["bundle_root"], self.parser["device"] = str(self.folder), device
        self.parser["checkpoint"] = str(file)
        self.values = self._values(options or {})
        for name, value in self.values.items():
            self.parser[name] = value  # a TorchScript file keeps this config, and is read without the checkpoint
        self.modalities, self.patch_size = self.values["modalities"], self.values["patch_size"]
        if (trained := self.values.get("architecture", KNOWN)) != KNOWN:
            raise InputError(f"checkpoint {file}: architecture {trained}; expected {KNOWN}, the one that exports know")
        check_network(self.patch_size)
        check_device("device", device)
        self.network: nn.Module = self.parser.get_parsed_content("network_def").to(device).eval()
        weights.restore(self.network, file, self.modalities)
        self.traceable = Encoder(self.network) if isinstance(self.network, SSLHead) else self.network
        self.metadata = self._metadata(file, stated)

    def _values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options that a checkpoint states, by name: as given, or else the checkpoint's, or else the default."""
        self.parser.get_parsed_content("imports")
        values = {}
        for name in STATED:
            value = given.get(name)
            if name in self.parser:
                value = self.parser.get_parsed_content(name) if value is None else value
                values[name] = OPTIONS[name](list(value) if isinstance(value, tuple) else value)
            elif value is not None:
                raise InputError(f"--{name}={value}: {self.folder.name} has no such option; leave it out")
        trained = self.parser.get_parsed_content("trained")
        check_trained(values | {"checkpoint": self.parser["checkpoint"]}, trained)
        return values

    def _metadata(self, file: Path, stated: Mapping[str, Any]) -> dict[str, Any]:
        convention = self.values.get("label_convention")
        is_encoder = self.traceable is not self.network
        outputs = [f"level_{level}" for level in range(5)] if is_encoder else list(regions_of(str(convention)))
        return {
            "bundle": self.folder.name,
            "network": type(self.network).__name__,
            "arguments": self._arguments(),
            "modalities": self.modalities,
            "model_size": self.values["model_size"],
            "patch_size": self.patch_size,
            "outputs": outputs,
            "label_convention": convention,
            "labels": {name: sorted(values) for name, values in regions_of(convention).items()} if convention else None,
            "preprocessing": stated.get("preprocessing"),
            "normalization": self.values["normalization"],
            "checkpoint": {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()},
            "versions": weights.versions(),
        }

    def _arguments(self) -> dict[str, Any]:
        """The arguments that build the network from its own class."""
        names = [name for name in self.parser["network_def"] if not name.startswith("_")]
        arguments = {name: self.parser.get_parsed_content(f"network_def::{name}") for name in names}
        if isinstance(self.network, SSLHead):
            return arguments
        channels = {name: arguments[name] for name in ("in_channels", "out_channels")}
        return channels | settings(arguments["model_size"])._asdict()

    def window(self) -> torch.Tensor:
        """A window of noise, of the size of the export."""
        shape = (1, len(self.modalities), *self.patch_size)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        return noise.to(next(self.network.parameters()).device)

    def case(self, datalist: str, dataset_dir: str, split: str | None, subject: str | None) -> tuple[str, torch.Tensor]:
        """A subject of a datalist that lacks no modality, by default the first of the split, and its image."""
        if split is None:
            split = "validation" if self.parser["split"] == datalists.ALL else self.parser["split"]
        entries = datalists.Datalist(datalist, dataset_dir).load(split, self.modalities, missing=())
        complete = [entry for entry in entries if not missing_in(entry, self.modalities)]
        found = [entry for entry in complete if subject is None or entry["subject"] == str(subject)]
        if not found:
            names = ", ".join(self.modalities)
            raise InputError(
                f"--case={subject}: not in the split {split} of {datalist} with {names}; "
                f"expected one of the {len(complete)} subjects that have them"
            )
        (item,) = CaseDataset(found[:1], self.parser.get_parsed_content("preprocessing"))
        return found[0]["subject"], item["image"].as_tensor().to(next(self.network.parameters()).device)


def _bundle(name: str) -> Path:
    for folder in (Path(str(name)), BUNDLES / str(name)):
        if (folder / CONFIG).is_file() and (folder / "configs" / "metadata.json").is_file():
            return folder.resolve()
    known = ", ".join(sorted(path.name for path in BUNDLES.iterdir()))
    raise InputError(f"bundle {name}: no configs/inference.yaml and metadata.json there; expected a folder, or {known}")


def write(source: Source, format: str, path: str | Path) -> None:
    """Write a network to `path` as torchscript, onnx or state_dict."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a trace's fixed window size, and about the newer exporter
        _write(source, format, path)


def _write(source: Source, format: str, path: str | Path) -> None:
    if format == "torchscript":
        traced = convert_to_torchscript(source.traceable, inputs=[source.window()], use_trace=True, check_trace=False)
        stated = ConfigParser.load_config_file(str(source.folder / CONFIG))
        own = {name: stated[name] for name in ("bundle_root", "device")}  # not the exporting machine's values
        config = json.dumps(source.parser.get() | own, default=str).encode()
        files = {"inference.json": config, "export.json": json.dumps(source.metadata).encode()}
        with Path(path).open("wb") as stream:
            save_net_with_metadata(traced, stream, meta_values=_bundle_metadata(source), more_extra_files=files)
    elif format == "onnx":
        _write_onnx(source, path)
    else:
        with Path(path).open("wb") as stream:
            torch.save(source.network.state_dict(), stream)


def _bundle_metadata(source: Source) -> dict[str, Any]:
    """The bundle's metadata.json with the window size of this export."""
    file = source.folder / "configs" / "metadata.json"
    with reporting_json_errors(str(file), "a bundle's metadata"):
        metadata = json.loads(file.read_text(encoding="utf-8"))
    tensors = metadata["network_data_format"]
    for tensor in [*tensors["inputs"].values(), *tensors["outputs"].values()]:
        if tensor.get("spatial_shape"):
            tensor["spatial_shape"] = source.patch_size
    if source.traceable is not source.network:  # an encoder: export.json describes its outputs
        tensors["outputs"] = {}
    return metadata


def _write_onnx(source: Source, path: str | Path) -> None:
    import onnx

    names = source.metadata["outputs"] if source.traceable is not source.network else ["logits"]
    convert_to_onnx(
        _with_axiswise_norms(deepcopy(source.traceable)).cpu(),
        [source.window().cpu()],
        input_names=["image"],
        output_names=names,
        dynamic_axes={name: {0: "batch"} for name in ("image", *names)},
        filename=str(path),
        dynamo=False,  # the newer exporter takes ten times as long and needs two more packages
    )
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in source.metadata.items()})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _with_axiswise_norms(network: nn.Module) -> nn.Module:
    for name, module in network.named_children():
        if isinstance(module, nn.InstanceNorm3d) and not module.affine and not module.track_running_stats:
            setattr(network, name, AxiswiseInstanceNorm(module.eps))
        else:
            _with_axiswise_norms(module)
    return network


def load(source: Source, format: str, path: str | Path) -> Callable[[torch.Tensor], Any]:
    """Load a file that `write` wrote, as a network: windows in, a tensor or a tuple of tensors out."""
    device = next(source.network.parameters()).device
    if format == "torchscript":
        return torch.jit.load(str(path), map_location=device).eval()
    if format == "onnx":
        return OnnxNetwork(path)
    arguments = json.loads(json.dumps(source.metadata["arguments"]))  # as a reader of the metadata gets them
    network = type(source.network)(**arguments).to(device).eval()
    network.load_state_dict(torch.load(path, map_location=device, weights_only=True))
    return Encoder(network) if isinstance(network, SSLHead) else network


class _Both:
    """Run two networks on the same windows; return the outputs of both and record their differences."""

    def __init__(self, *networks: Callable[[torch.Tensor], Any]) -> None:
        self.networks = networks
        self.differences: list[float] = []
        self.windows = 0

    def __call__(self, windows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ours, theirs = (self._outputs(network(windows)) for network in self.networks)
        self.differences += [(one - other).abs().max().item() for one, other in zip(ours, theirs, strict=True)]
        self.windows += len(windows)
        return (*ours, *theirs)

    @staticmethod
    def _outputs(found: Any) -> tuple[torch.Tensor, ...]:
        return (found,) if isinstance(found, torch.Tensor) else tuple(found)


def compare(
    network: Callable[[torch.Tensor], Any],
    exported: Callable[[torch.Tensor], Any],
    image: torch.Tensor,
    inferer: Callable[..., Any],
    convention: str | None = None,
) -> Comparison:
    """Compare two networks on all windows of a case, and the results for the whole case.

    Args:
        network: the original; windows [N, C, x, y, z] to logits, or to a tuple of an encoder's features.
        exported: the exported network, such as `torch.jit.load` of a file.
        image: [C, H, W, D], preprocessed as in the bundle's inference.yaml.
        inferer: of inference.yaml: a sliding window or an `EmbeddingInferer`.
        convention: of the labels, if logits are compared.
    """
    both = _Both(network, exported)
    with torch.no_grad():
        if isinstance(inferer, EmbeddingInferer):
            of_levels = EmbeddingInferer(inferer.roi_size, inferer.overlap, inferer.sw_batch_size, levels=True)
            vectors = [vector for name, vector in of_levels(image[None], both).items() if name != "embedding"]
            half = len(vectors) // 2
            cosines = [cosine_similarity(*pair).item() for pair in zip(vectors[:half], vectors[half:], strict=True)]
            agreement = min(cosines)
        else:
            to_label = RegionsToLabeld("label", str(convention))
            ours, theirs = (to_label({"label": logits[0] > 0})["label"] for logits in inferer(image[None], both))
            agreement = (ours == theirs).double().mean().item()
    return Comparison(float(np.max(both.differences)), agreement, both.windows)


def export(
    bundle: str,
    format: str,
    output: str,
    datalist: str,
    dataset_dir: str,
    checkpoint: str | None = None,
    split: str | None = None,
    case: str | None = None,
    modalities: Sequence[str] | None = None,
    model_size: str | None = None,
    patch_size: Sequence[int] | None = None,
    label_convention: str | None = None,
    device: str = "cpu",
    tolerance: float | None = None,
) -> None:
    """Write a bundle's network as TorchScript, ONNX or a plain state dict, after comparing it on a held-out case.

    For a self-supervised bundle, TorchScript and ONNX hold only the encoder with its five feature maps; a state dict
    holds the whole network. Metadata are inside the file (TorchScript metadata.json, inference.json and export.json;
    ONNX metadata_props) or, for a state dict, in a JSON file beside it.

    Args:
        bundle: folder of a bundle, or the name of a bundle of this repository.
        format: torchscript (traced, for windows of one size), onnx (the same) or state_dict.
        output: file to write; an existing file is not overwritten.
        datalist: JSON file that names the held-out case.
        dataset_dir: root of its paths.
        checkpoint: weights; models/model.pt of the bundle by default.
        split: of the case in the datalist; by default that of the bundle's inference.yaml, or validation if it is all.
        case: subject; by default the first of the split.
        modalities: in channel order; by default the checkpoint's, as for the next three options.
        model_size: tiny, small, base, micro, micro_tiny, micro_small or micro_base.
        patch_size: edges of the windows in voxels, such as [96,96,96].
        label_convention: of the label maps.
        device: cpu or cuda; a trace only runs on the kind of device that it was made on.
        tolerance: largest difference of an output; by default 1e-4 (torchscript), 1e-3 (onnx) or 0 (state_dict).
    """
    usual = choice("format", format, TOLERANCES)
    tolerance = usual if tolerance is None else tolerance
    check_number("tolerance", tolerance, float, 0)
    file = weights.path_of("output", output)
    beside = [file.with_suffix(".json")] if format == "state_dict" else []
    if existing := [path for path in (file, *beside) if path.exists()]:
        raise InputError(f"--output={output}: {existing[0]} exists already; expected a new file")
    check_writable_file(file, f"--output={output}")
    options = dict(zip(STATED, (modalities, model_size, patch_size, label_convention, None, None), strict=True))
    source = Source(bundle, checkpoint, device, options)
    subject, image = source.case(datalist, dataset_dir, split, case)
    with atomic_write(file) as temporary:
        write(source, format, temporary)
        exported = load(source, format, temporary)
        inferer, convention = source.parser.get_parsed_content("inferer"), source.metadata["label_convention"]
        found = compare(source.traceable, exported, image, inferer, convention)
        if not found.difference <= tolerance:
            raise InputError(
                f"--format={format}: differs from the network by up to {found.difference:.3g} on {subject}; "
                f"expected at most {tolerance:g} (--tolerance); nothing is written"
            )
        for path in beside:
            write_json(path, source.metadata)
    agreement = f"{found.agreement:.4%} of voxels with the same label"
    if convention is None:
        agreement = f"cosine of each level's vectors at least {found.agreement:.6f}"
    print(f"{file}: {format} of {source.folder.name}, {file.stat().st_size / 1e6:.1f} MB")
    difference = f"differs by up to {found.difference:.2g} (tolerance {tolerance:g})"
    print(f"{subject}, {found.windows} windows: {difference}; {agreement}")


if __name__ == "__main__":
    cli.run(export, "export")
