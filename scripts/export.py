"""A bundle's network for others to run: `python -m scripts.export BUNDLE --format=torchscript|onnx|state_dict`.

What is written has first been compared with the network it came from, window by window, on a held-out case. Where they
differ by more than a tolerance nothing is written. docs/exports.md says what each format can do.
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

from common import datalists, weights
from common.datasets import CaseDataset
from common.embeddings import EmbeddingInferer
from common.files import reading_json, whole
from common.networks import SSLHead
from common.preflight import InputError, check_number, check_settings, chosen
from common.transforms import RegionsToLabeld, regions
from scripts import cli

__all__ = ["TOLERANCES", "Comparison", "OnnxNetwork", "Source", "compare", "export", "load", "write"]

BUNDLES = Path(__file__).parents[1] / "bundles"
CONFIG = "configs/inference.yaml"
TOLERANCES = {  # largest difference of an output from eager's, in its own unit (logits; features of unit variance)
    "torchscript": 1e-4,  # the same kernels in the same order: 0 on a CPU
    "onnx": 1e-3,  # onnxruntime adds up in another order; about 1e-5 is usual
    "state_dict": 0.0,  # the same numbers in the same code
}
FOLLOWS = ("modalities", "model_size", "patch_size", "label_convention")  # options that a checkpoint can state itself


class Comparison(NamedTuple):
    """How far two networks differ on a case.

    Attributes:
        difference: the largest of all outputs and windows; NaN where one is not finite.
        agreement: share of voxels with the same label, 0 to 1; of an encoder the lowest cosine of its levels' vectors.
        windows: how many were compared.
    """

    difference: float
    agreement: float
    windows: int


class Encoder(nn.Module):
    """The encoder of an `SSLHead` with its five feature maps as a tuple, which tracing and ONNX ask for."""

    def __init__(self, network: SSLHead) -> None:
        super().__init__()
        self.swinViT = network.swinViT

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.swinViT(image))


class AxiswiseInstanceNorm(nn.Module):
    """`nn.InstanceNorm3d` without weights, its means taken axis by axis.

    onnxruntime's own operator adds up a whole volume, one voxel after the other, in single precision. On windows of 96
    voxels of a brain that moved logits by 2e-3; written like this, by 7e-6, for a tenth more time.

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
    """An ONNX file as a network: tensors in, tensors out, by onnxruntime on the CPU."""

    def __init__(self, path: str | Path) -> None:
        import onnxruntime  # here, as other formats do without

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, image: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        found = self.session.run(None, {"image": image.numpy(force=True)})
        outputs = tuple(torch.from_numpy(array).to(image.device) for array in found)
        return outputs[0] if len(outputs) == 1 else outputs


class Source:
    """A bundle's network with the weights of a checkpoint, and all that its inference.yaml says of it.

    Args:
        bundle: folder of a bundle, or the name of one of this repository's.
        checkpoint: file; models/model.pt of the bundle by default.
        device: where the network runs.
        options: of inference.yaml; None takes what the checkpoint says of itself, else the config's default.

    Attributes:
        network: in evaluation mode, as `common.weights.restore` left it.
        traceable: the same with tensors for outputs; of a self-supervised bundle the encoder alone.
        metadata: what a reader of an export has to know.

    Raises:
        InputError: there is no such bundle or checkpoint, or they do not fit each other.
    """

    def __init__(
        self, bundle: str, checkpoint: str | None = None, device: str = "cpu", options: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = _bundle(bundle)
        file = weights.path_of("--checkpoint=", checkpoint or self.folder / "models" / "model.pt")
        said = weights.read(file).metadata
        self.parser = ConfigParser()
        self.parser.read_config(self.folder / CONFIG)
        self.parser["bundle_root"], self.parser["device"] = str(self.folder), device
        for name in FOLLOWS:
            given = (options or {}).get(name)
            value = said.get(name) if given is None else given
            if name in self.parser and value is not None:
                self.parser[name] = list(value) if isinstance(value, tuple) else value
            elif given is not None:
                raise InputError(f"--{name}={given}: {self.folder.name} has no such option; leave it out")
        self.modalities, self.patch_size = self.parser["modalities"], self.parser["patch_size"]
        check_settings({"modalities": self.modalities, "patch_size": self.patch_size}, device)
        self.network: nn.Module = self.parser.get_parsed_content("network_def").to(device).eval()
        weights.restore(self.network, file, self.modalities)
        self.traceable = Encoder(self.network) if isinstance(self.network, SSLHead) else self.network
        self.metadata = self._metadata(file, said)

    def _metadata(self, file: Path, said: Mapping[str, Any]) -> dict[str, Any]:
        names = [name for name in self.parser["network_def"] if not name.startswith("_")]
        convention = self.parser.get("label_convention", None)
        is_encoder = self.traceable is not self.network
        outputs = [f"level_{level}" for level in range(5)] if is_encoder else list(regions(str(convention)))
        return {
            "bundle": self.folder.name,
            "network": type(self.network).__name__,
            "arguments": {name: self.parser.get_parsed_content(f"network_def::{name}") for name in names},
            "modalities": self.modalities,
            "model_size": self.parser["model_size"],
            "patch_size": self.patch_size,
            "outputs": outputs,
            "label_convention": convention,
            "labels": {name: sorted(values) for name, values in regions(convention).items()} if convention else None,
            "preprocessing": said.get("preprocessing"),
            "checkpoint": {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()},
            "versions": weights.versions(),
        }

    def window(self) -> torch.Tensor:
        """A window of noise, of the size that an export is made for."""
        shape = (1, len(self.modalities), *self.patch_size)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        return noise.to(next(self.network.parameters()).device)

    def case(self, datalist: str, dataset_dir: str, split: str | None, subject: str | None) -> tuple[str, torch.Tensor]:
        """A subject of a datalist, by default the first of the split, and its image as the network gets it."""
        split = split or self.parser["split"]
        entries = datalists.load(datalist, split, dataset_dir, self.modalities)
        found = [entry for entry in entries if subject is None or entry["subject"] == str(subject)]
        if not found:
            raise InputError(
                f"--case={subject}: not in the split {split} of {datalist}, which has {len(entries)} others"
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
    """Write a network in a format: torchscript, onnx or state_dict; of the last one `path` with `.json` besides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a trace holds for one size of windows, and the other exporter is newer
        _write(source, format, path)


def _write(source: Source, format: str, path: str | Path) -> None:
    if format == "torchscript":
        traced = convert_to_torchscript(source.traceable, inputs=[source.window()], use_trace=True, check_trace=False)
        stated = ConfigParser.load_config_file(str(source.folder / CONFIG))
        own = {name: stated[name] for name in ("bundle_root", "device")}  # not those of the machine that exports
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
    """The bundle's metadata.json, with the window's size as it is here."""
    file = source.folder / "configs" / "metadata.json"
    with reading_json(str(file), "a bundle's metadata"):
        metadata = json.loads(file.read_text(encoding="utf-8"))
    tensors = metadata["network_data_format"]
    for tensor in [*tensors["inputs"].values(), *tensors["outputs"].values()]:
        if tensor.get("spatial_shape"):
            tensor["spatial_shape"] = source.patch_size
    if source.traceable is not source.network:  # an encoder: export.json says what it puts out
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
        dynamo=False,  # the other exporter takes ten times as long and two packages more
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
    """A file that `write` wrote, as a network: windows in, a tensor or a tuple of tensors out."""
    device = next(source.network.parameters()).device
    if format == "torchscript":
        return torch.jit.load(str(path), map_location=device).eval()
    if format == "onnx":
        return OnnxNetwork(path)
    arguments = json.loads(json.dumps(source.metadata["arguments"]))  # as a reader of the metadata has them
    network = type(source.network)(**arguments).to(device).eval()
    network.load_state_dict(torch.load(path, map_location=device, weights_only=True))
    return Encoder(network) if isinstance(network, SSLHead) else network


class _Both:
    """Two networks on the same windows: their outputs side by side, and how far they differ."""

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
    """Compare two networks on all windows of a case, and on what comes of them.

    Args:
        network: the one that is exported; windows [N, C, x, y, z] to logits, or to a tuple of an encoder's features.
        exported: a network that ought to say the same, such as `torch.jit.load` of a file.
        image: [C, H, W, D], prepared as the bundle's inference.yaml does.
        inferer: of inference.yaml: it slides a window, or is an `EmbeddingInferer`.
        convention: of the labels, where logits are compared.
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
    """Write a bundle's network as TorchScript, ONNX or a plain state dict, after it was compared on a held-out case.

    Of a self-supervised bundle the first two hold the encoder alone, with its five feature maps; a state dict
    holds all.
    Metadata are inside (TorchScript: metadata.json, inference.json and export.json; ONNX: its metadata_props) or, for
    a state dict, in a JSON file beside.

    Args:
        bundle: its folder, or the name of one of this repository's.
        format: torchscript (traced, for windows of one size), onnx (the same) or state_dict.
        output: the file to write; one that is there already is left alone.
        datalist: JSON file that names the held-out case.
        dataset_dir: folder that its paths start from.
        checkpoint: weights; models/model.pt of the bundle by default.
        split: of the datalist that the case is from; that of the bundle's inference.yaml by default.
        case: subject; the first one of the split by default.
        modalities: in channel order; as the checkpoint says by default, and so are the next three.
        model_size: tiny, small, base or micro.
        patch_size: edges of the windows in voxels, such as [96,96,96].
        label_convention: of the labels that come of the logits.
        device: cpu or cuda; a trace runs on the kind of device that it was made on.
        tolerance: largest difference of an output; by default 1e-4 (torchscript), 1e-3 (onnx) or 0 (state_dict).
    """
    usual = chosen("format", format, TOLERANCES)
    tolerance = usual if tolerance is None else tolerance
    check_number("tolerance", tolerance, float, 0)
    file = weights.path_of("--output=", output)
    beside = [file.with_suffix(".json")] if format == "state_dict" else []
    if there := [path for path in (file, *beside) if path.exists()]:
        raise InputError(f"--output={output}: {there[0]} exists already; expected a new file")
    options = dict(zip(FOLLOWS, (modalities, model_size, patch_size, label_convention), strict=True))
    source = Source(bundle, checkpoint, device, options)
    subject, image = source.case(datalist, dataset_dir, split, case)
    with whole(file) as temporary:
        write(source, format, temporary)
        exported = load(source, format, temporary)
        inferer, convention = source.parser.get_parsed_content("inferer"), source.metadata["label_convention"]
        found = compare(source.traceable, exported, image, inferer, convention)
        if not found.difference <= tolerance:
            raise InputError(
                f"--format={format}: differs from the network by up to {found.difference:.3g} on {subject}; "
                f"expected {tolerance:g} at most (--tolerance); nothing is written"
            )
        for path in beside:
            with whole(path) as text:
                text.write_text(json.dumps(source.metadata, indent=1), encoding="utf-8")
    agreement = f"{found.agreement:.4%} of voxels with the same label"
    if convention is None:
        agreement = f"cosine of each level's vectors {found.agreement:.6f} at least"
    print(f"{file}: {format} of {source.folder.name}, {file.stat().st_size / 1e6:.1f} MB")
    difference = f"differs by up to {found.difference:.2g} (tolerance {tolerance:g})"
    print(f"{subject}, {found.windows} windows: {difference}; {agreement}")


if __name__ == "__main__":
    cli.run(export, "export")
