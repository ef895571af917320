"""Write a network as TorchScript, ONNX or a state dict, and load it again."""

import json
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data.torchscript_utils import save_net_with_metadata
from monai.networks.utils import convert_to_onnx, convert_to_torchscript
from torch import nn

from common.files import valid_json
from common.ssl.networks import SSLHead
from scripts.export.source import CONFIG, Encoder, Source

__all__ = ["AxiswiseInstanceNorm", "OnnxNetwork", "load", "write"]


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
    metadata = valid_json(file, "a bundle's metadata")
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
