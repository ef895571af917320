"""Package a bundle, so that it works without this checkout: `python -m scripts.package BUNDLE`."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from common import ROOT
from common import weights as checkpoints
from common.data.regions import CONVENTIONS, regions_of
from common.errors import InputError, choice, show
from common.files import digest, read_json, write_json
from scripts import cli
from scripts.configs import BUNDLES, read_config
from scripts.provenance import check_bundle, cohort_of, model_name, trained_on
from scripts.run import bundles_with

METADATA_SCHEMA = Path(__file__).with_name("meta_schema_20240725.json")
SCHEMA_SHA256 = "59afa4c716416877ce31babc21a82e68cc51ba964d04a4c2f9ca160ff03307e0"
WORKFLOWS = ("train", "evaluate", "inference")  # configs that MONAI loads as JSON
SETTINGS = ("model_size", "merging", "patch_size", "label_convention", "normalization", "spacing", "modalities")


def package(bundle: str, output: str = "dist", weights: str | None = None, weights_url: str | None = None) -> None:
    """Write a package to OUTPUT/BUNDLE and, zipped, to OUTPUT/BUNDLE_vVERSION.zip.

    Args:
        bundle: name of a folder in bundles/.
        output: folder for the package and its zip, which must not exist yet.
        weights: a checkpoint of the bundle's network, which becomes models/model.pt. The package's train.yaml takes
            its model_size, patch_size, modalities and label_convention.
        weights_url: download address of models/model.pt for large_files.yml, which the Model Zoo requires for files
            above 25 MB.
    """
    source = BUNDLES / choice("bundle", bundle, bundles_with("metadata.json"))
    if weights_url is not None and weights is None:
        raise InputError("--weights_url", "no weights", "--weights, the file at this address", value=weights_url)
    metadata = read_json(source / "configs/metadata.json")
    archive = f"{bundle}_v{metadata['version']}"  # the name that MONAI's downloader requests
    dist = Path(output).expanduser()
    for path in (dist / bundle, dist / f"{archive}.zip"):
        if path.exists():
            raise InputError("output", f"{path} exists already", "a new file")
    import monai.bundle  # imported here because it is slow

    checkpoint, settings = (None, {}) if weights is None else _fitting(Path(weights), source)
    dist.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{bundle}.", dir=dist) as temporary:
        folder = Path(temporary) / bundle
        for name in ("configs", "docs", "models"):
            (folder / name).mkdir(parents=True)
        readme = (source / "docs/README.md").read_text(encoding="utf-8")
        if checkpoint is not None:
            record = {name: value for name, value in checkpoint.metadata.items() if name != "datalist"}  # a local path
            write_plain(checkpoint.state, record, folder / "models/model.pt")
            readme = _describe_weights(readme, record)
            _describe(metadata, record)
        if weights_url is not None:
            entry = {"path": "models/model.pt", "url": weights_url, "hash_val": digest(folder / "models/model.pt")}
            content = {"large_files": [entry | {"hash_type": "sha256"}]}
            (folder / "large_files.yml").write_text(yaml.safe_dump(content, sort_keys=False))
        write_json(folder / "configs/metadata.json", metadata)
        written = str(folder / "configs/metadata.json")
        monai.bundle.verify_metadata(written, str(METADATA_SCHEMA), hash_val=SCHEMA_SHA256, hash_type="sha256")
        for name in ("LICENSE", "configs/logging.conf", "docs/data_license.txt"):
            shutil.copyfile(source / name, folder / name)
        readme = re.sub(r"\[([^\]]*)\]\(\.\./\.\./[^)\s]+\)", r"\1", readme)  # links to files outside the package
        (folder / "docs/README.md").write_text(readme, encoding="utf-8")
        _write_configs(source, folder, settings)
        zipped = shutil.make_archive(str(Path(temporary) / archive), "zip", temporary, bundle)
        Path(zipped).rename(dist / f"{archive}.zip")
        folder.rename(dist / bundle)
    show(dist / bundle, dist / f"{archive}.zip")


def write_plain(state: Mapping[str, Any], metadata: Mapping[str, Any], path: Path) -> None:
    """Save tensors alone, as MONAI's tools read them; the JSON beside the file has its SHA-256 and the metadata."""
    checkpoints.write(state, path)
    write_json(path.with_suffix(".json"), {"sha256": digest(path), **metadata})


def _fitting(file: Path, source: Path) -> tuple[Any, dict[str, Any]]:
    """Return a checkpoint that fits the network and states modalities and merging, and its settings of configs."""
    checkpoint = checkpoints.read(file)
    check_bundle(checkpoint.metadata, file, source.name)
    settings = {name: checkpoint.metadata[name] for name in SETTINGS if checkpoint.metadata.get(name) is not None}
    for name in ("modalities", "merging"):  # wrong ones change results, and no shape shows them
        if name not in settings:
            raise InputError(f"--weights={file}", f"{name} unknown", f"the output of scripts.weights convert --{name}")
    config = read_config([source / "configs/train.yaml"], settings)
    config.get_parsed_content("imports")
    checkpoints.restore(config.get_parsed_content("network_def"), file, settings["modalities"])
    return checkpoint, settings


def _write_configs(source: Path, folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the code, the configs with the weights' settings in train.yaml, and JSON twins of the workflows.

    `common` is renamed to BUNDLE_common, so that packages of several bundles can be loaded in one process.
    """
    renamed = f"{source.name}_common"
    shutil.copytree(ROOT / "common", folder / renamed, ignore=shutil.ignore_patterns("__pycache__", "*.txt", "*.toml"))
    for file in (source / "configs").glob("*.yaml"):
        if file.stem == "quickstart":  # an overlay of this repository's quick start
            continue
        text = file.read_text(encoding="utf-8")
        text = re.sub(r'\bcommon(?=\.\w|"$)', renamed, text, flags=re.MULTILINE)
        for option, value in settings.items() if file.stem == "train" else ():  # the others read them from model.json
            line = f"{option}: {json.dumps(value)}".replace("\\", r"\\")
            text = re.sub(rf"^{option}: .*?(?= +#|$)", line, text, flags=re.MULTILINE)
        (folder / "configs" / file.name).write_text(text, encoding="utf-8")
        if file.stem in WORKFLOWS:
            write_json((folder / "configs" / file.name).with_suffix(".json"), yaml.safe_load(text))


def _describe(metadata: dict[str, Any], record: Mapping[str, Any]) -> None:
    """Change metadata.json to the weights' training data, patch size, modalities and regions."""
    formats = metadata["network_data_format"]
    image, outputs = formats["inputs"]["image"], formats["outputs"]
    cohort, made_for = cohort_of(record), metadata["name"].partition(" on ")[2]
    metadata["name"] = model_name(metadata["name"], record)
    metadata["copyright"] += _licence(record)
    if cohort != made_for:
        metadata["description"] = metadata["description"].replace(f" on {made_for} images", " on images")
        metadata["data_source"] = f"{trained_on(record)}; no data is shipped"
    modalities = [*record["modalities"]]
    channels, shape = image["channel_def"], image["spatial_shape"]
    for tensor in (image, *outputs.values()):
        if tensor["spatial_shape"] == shape:
            tensor["spatial_shape"] = [*(record.get("patch_size") or shape)]
        if tensor.get("channel_def") == channels:
            tensor |= {"num_channels": len(modalities), "channel_def": dict(enumerate(modalities))}
    if modalities != [*channels.values()]:
        names = ", ".join(modalities)
        metadata["image_classes"] = f"{len(modalities)} channels in this order: {names}; each is z-scored"
        metadata["data_type"] = f"NIfTI: {names} brain MRI, on one grid"
    convention = record.get("label_convention")
    regions = {} if convention is None else regions_of(convention)
    if regions and (convention not in CONVENTIONS or len(regions) != outputs["pred"]["num_channels"]):
        values = "; ".join(f"{name}: {', '.join(map(str, sorted(labels)))}" for name, labels in regions.items())
        metadata["task"] = f"Segmentation of {', '.join(regions)} in brain MRI"
        metadata["description"] = f"A SwinUNETR that segments {', '.join(regions)} in {', '.join(modalities)} MRI."
        metadata["label_classes"] = f"label values of each region: {values}"
        metadata["pred_classes"] = f"network: logits of the regions, in this order; inference: a label map ({values})"
        outputs["pred"] |= {"num_channels": len(regions), "channel_def": dict(enumerate(regions))}
        label_map = formats["post_processed_outputs"]["pred"]
        highest = max(max(labels) for labels in regions.values())
        label_map |= {"value_range": [0, highest], "channel_def": {"0": f"label map: {values}"}}


def _describe_weights(readme: str, record: Mapping[str, Any]) -> str:
    """Return the bundle's README with the data of the weights in its title, and a section on them."""
    title, _, rest = readme.partition("\n")
    section = (
        f"## Weights\n\n`models/model.pt` is a plain state dict, trained on {trained_on(record)}. "
        f"`models/model.json` has its SHA-256 and the record of its training.{_licence(record)}\n\n"
        "The other sections describe the bundle's default data and training; the configs describe these weights.\n"
    )
    return f"# {model_name(title.removeprefix('# '), record)}\n{rest}".replace("\n## Data\n", f"\n{section}\n## Data\n")


def _licence(record: Mapping[str, Any]) -> str:
    """Return a sentence on whose weights these are and their licence; empty for weights of a training here."""
    if "source" not in record:
        return ""
    origin = f" The weights are those of {record['source']}, licence {record['licence']}"
    return f"{origin}: its terms decide who may receive them."


if __name__ == "__main__":
    cli.run(package, "package")
