"""Write a network as TorchScript, ONNX or a state dict, load it again, and compare both networks."""

import json
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from monai.data.torchscript_utils import save_net_with_metadata
from monai.inferers import SlidingWindowInferer
from monai.networks.utils import convert_to_onnx, convert_to_torchscript
from safetensors.torch import load_file
from torch import nn

from common.data.transforms import RegionsToLabeld
from common.files import read_yaml, valid_json
from common.ssl.embeddings import EmbeddingInferer
from common.ssl.networks import SSLHead, check_finite
from scripts.export.source import CONFIG, Encoder, Source
from scripts.weights import as_safetensors


class AxiswiseInstanceNorm(nn.Module):
    """`nn.InstanceNorm3d` without weights that averages one axis at a time, for precision in ONNX.

    onnxruntime's operator sums a whole volume in single precision, which changed the logits of brain windows of 96
    voxels by 2e-3. This module changes them by 7e-6 and takes 10 % more time.
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


def write(source: Source, format: str, path: Path) -> None:
    """Write a network to `path` as torchscript, onnx, state_dict or safetensors."""
    with warnings.catch_warnings(), path.open("wb") as stream:
        warnings.simplefilter("ignore")  # warnings on the fixed window size and the newer exporter
        if format == "torchscript":
            _write_torchscript(source, stream)
        elif format == "onnx":
            _write_onnx(source, stream)
        elif format == "safetensors":
            stream.write(as_safetensors(source.network.state_dict(), source.parser["merging"]))
        else:
            torch.save(source.network.state_dict(), stream)


def _write_torchscript(source: Source, stream: BinaryIO) -> None:
    traced = convert_to_torchscript(source.traceable, inputs=[source.window()], use_trace=True, check_trace=False)
    stated = read_yaml(source.folder / CONFIG)
    defaults = {name: stated[name] for name in ("amp", "bundle_root", "device")}  # instead of this machine's
    config = json.dumps(source.parser.get() | defaults, default=str).encode()
    files = {"inference.json": config, "export.json": json.dumps(source.metadata).encode()}
    save_net_with_metadata(traced, stream, meta_values=_bundle_metadata(source), more_extra_files=files)


def _bundle_metadata(source: Source) -> dict[str, Any]:
    """Return the bundle's metadata.json with the patch size of this export."""
    file = source.folder / "configs" / "metadata.json"
    metadata = valid_json(file, "a bundle's metadata", {"type": "object", "required": ["network_data_format"]})
    tensors = metadata["network_data_format"]
    for tensor in [*tensors["inputs"].values(), *tensors["outputs"].values()]:
        if tensor.get("spatial_shape"):
            tensor["spatial_shape"] = source.patch_size
    if source.traceable is not source.network:  # an encoder: export.json describes its outputs
        tensors["outputs"] = {}
    return metadata


def _write_onnx(source: Source, stream: BinaryIO) -> None:
    import onnx

    names = source.metadata["outputs"] if source.traceable is not source.network else ["logits"]
    model = convert_to_onnx(
        _with_axiswise_norms(deepcopy(source.traceable)).cpu(),
        [source.window().cpu()],
        input_names=["image"],
        output_names=names,
        dynamic_axes={name: {0: "batch"} for name in ("image", *names)},
        dynamo=False,  # the newer exporter is ten times slower and needs two more packages
    )
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in source.metadata.items()})
    onnx.checker.check_model(model)
    stream.write(model.SerializeToString())


def _with_axiswise_norms(network: nn.Module) -> nn.Module:
    for name, module in network.named_children():
        if isinstance(module, nn.InstanceNorm3d) and not module.affine and not module.track_running_stats:
            setattr(network, name, AxiswiseInstanceNorm(module.eps))
        else:
            _with_axiswise_norms(module)
    return network


def load(source: Source, format: str, path: Path) -> Callable[[torch.Tensor], Any]:
    """Load an exported file as a function that maps windows [N, C, x, y, z] to a tensor or a tuple of tensors."""
    if format == "torchscript":
        return torch.jit.load(str(path), map_location=source.device).eval()
    if format == "onnx":
        return _onnx_network(path)
    arguments = json.loads(json.dumps(source.metadata["arguments"]))  # as read from the file's metadata
    network = type(source.network)(**arguments).to(source.device).eval()
    state = load_file(path) if format == "safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(state)
    return Encoder(network) if isinstance(network, SSLHead) else network


def _onnx_network(path: Path) -> Callable[[torch.Tensor], Any]:
    """Return an ONNX file as a function on tensors, run by onnxruntime on the CPU."""
    import onnxruntime  # only this format needs it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = session.run(None, {"image": image.numpy(force=True)})
        return tuple(torch.from_numpy(array).to(image.device) for array in outputs)

    return run


class Deviation(NamedTuple):
    """Largest output difference and label agreement of two networks over the sliding windows of a case."""

    difference: float  # largest over all outputs and windows; NaN or inf if the export's output is not finite
    agreement: float  # fraction of voxels with equal labels; 1 for an encoder, whose features are compared
    windows: int


def compare(
    network: Callable[[torch.Tensor], Any],
    exported: Callable[[torch.Tensor], Any],
    image: torch.Tensor,
    inferer: SlidingWindowInferer | EmbeddingInferer,
    convention: str | None = None,
) -> Deviation:
    """Compare two networks on all sliding windows of a case, and segmentation networks also by their label maps.

    Networks map windows [N, C, x, y, z] to logits or a tuple of features. `image` is [C, H, W, D], preprocessed as in
    inference.yaml; `convention` names the labels of logits.
    """
    differences: list[float] = []
    counts: list[int] = []

    def both(windows: torch.Tensor, *_: Any) -> tuple[torch.Tensor, ...]:
        outputs = (network(windows), exported(windows))
        ours, theirs = ((output,) if isinstance(output, torch.Tensor) else tuple(output) for output in outputs)
        check_finite(*ours)
        differences.extend((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))
        counts.append(len(windows))
        return (*ours, *theirs)

    with torch.no_grad():
        if isinstance(inferer, EmbeddingInferer):
            inferer(image[None], both)
            agreement = 1.0
        else:
            to_label = RegionsToLabeld("label", str(convention))
            stitched = SlidingWindowInferer.__call__(inferer, image[None], both)  # includes empty windows
            original, export = (to_label({"label": logits[0] > 0})["label"] for logits in stitched)
            agreement = (original == export).double().mean().item()
    return Deviation(float(np.max(differences)), agreement, sum(counts))
