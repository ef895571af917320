"""Export a bundle's network: `python -m scripts.export BUNDLE --format=torchscript|onnx|state_dict`.

Every export is compared with the original network, window by window, on a held-out case. If the outputs differ by more
than a tolerance, nothing is written. docs/how-to/export.md describes the formats.
"""

from pathlib import Path

from common import cli, weights
from common.configs import BUNDLES, bundles_with
from common.data.datalists import Datalist
from common.errors import InputError, choice, show
from common.files import atomic_write, check_new_files, digest
from common.training.signals import interrupt_on_signals
from common.values import DEVICE
from scripts.run import check_paths

TOLERANCES = {  # largest accepted difference of an output, in logits or in features of unit variance
    "torchscript": 1e-4,  # the same kernels in the same order: 0 on a CPU
    "onnx": 1e-3,  # onnxruntime sums in a different order; about 1e-5 is usual
    "state_dict": 0.0,  # identical numbers and code
}
SUFFIXES = {".onnx": "onnx", ".safetensors": "state_dict"}  # reserved for a format


def export(
    bundle: str,
    format: str,
    output: str,
    datalist: str,
    dataset_dir: str,
    checkpoint: str | None = None,
    device: str = "cpu",
) -> None:
    """Write a bundle's network as TorchScript, ONNX or a plain state dict, after comparing it on a held-out case.

    For a self-supervised bundle, TorchScript and ONNX hold only the encoder with its five feature maps; a state dict
    holds the whole network. Metadata are inside the file (TorchScript metadata.json, inference.json and export.json;
    ONNX metadata_props) or, for a state dict, in a JSON file beside it.

    Args:
        bundle: folder of a bundle, or the name of a bundle of this repository.
        format: torchscript (traced, for windows of one size), onnx (the same) or state_dict.
        output: file to write; an existing file is not overwritten. A state dict is written as safetensors if the name
            ends in .safetensors.
        datalist: JSON file with the held-out case: the first subject with all modalities in the split of
            inference.yaml, or in validation if that split is `all`.
        dataset_dir: folder that the datalist's paths are relative to.
        checkpoint: weights, which state their modalities, model size, patch size and label convention;
            models/model.pt of the bundle by default.
        device: cpu or cuda; a trace runs only on the kind of device on which it was made.
    """
    tolerance = choice("format", format, TOLERANCES)
    file = weights.path_of("output", output)
    beside = [file.with_suffix(".json")] if format == "state_dict" else []
    if (owner := SUFFIXES.get(file.suffix, format)) != format:
        raise InputError(f"--output={output}: reserved for {owner}; expected a different suffix for --format={format}")
    if file in beside:
        raise InputError(f"--output={output}: reserved for the metadata; use a different suffix, such as .pt")
    check_new_files(f"--output={output}", file, *beside)
    kind = "safetensors" if file.suffix == ".safetensors" else format
    folder = bundle_folder(bundle)
    trained = weights.check_file(weights.path_of("checkpoint", checkpoint or folder / "models/model.pt"))
    DEVICE.parse("device", device)
    check_paths({"dataset_dir": dataset_dir})
    data = Datalist(datalist, dataset_dir)
    from scripts.export import formats  # late imports: slow
    from scripts.export.source import Source

    source = Source(folder, trained, device)
    subject, image = source.case(data)
    interrupt_on_signals()  # so that no unfinished file stays
    with atomic_write(file) as temporary:
        formats.write(source, kind, temporary)
        exported = formats.load(source, kind, temporary)
        inferer, convention = source.parser.get_parsed_content("inferer"), source.metadata["label_convention"]
        deviation = formats.compare(source.traceable, exported, image, inferer, convention)
        if not deviation.difference <= tolerance:
            raise InputError(
                f"--format={format}: differs from the network by up to {deviation.difference:.3g} on {subject}; "
                f"expected at most {tolerance:g}; nothing is written"
            )
        if beside:
            weights.write_record(file, digest(temporary), source.metadata)
    agreement = f"; {deviation.agreement:.4%} of voxels with the same label" if convention else ""
    show(f"{file}: {format} of {source.folder.name}, {file.stat().st_size / 1e6:.1f} MB")
    difference = f"differs by up to {deviation.difference:.2g} (tolerance {tolerance:g})"
    show(f"{subject}: {difference}{agreement}; windows compared: {deviation.windows}")


def bundle_folder(bundle: str) -> Path:
    """Return the folder of a bundle, given by its path or, for a bundle of this repository, its name."""
    for folder in (Path(bundle), BUNDLES / bundle):
        if all((folder / "configs" / name).is_file() for name in ("inference.yaml", "metadata.json")):
            return folder.resolve()
    names = ", ".join(bundles_with("inference.yaml"))
    problem = "no configs/inference.yaml and metadata.json there; expected a folder, or"
    raise InputError(f"bundle {bundle}: {problem} {names}")


if __name__ == "__main__":
    cli.run(export, "export")
