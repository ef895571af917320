"""The files of a package: the bundle's files, JSON twins of its configs, a unit test, linked documents."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from common.data.provenance import cohort_of, model_name, trained_on
from common.data.regions import regions_of
from scripts.package.check import UNITTEST

PACKAGE_FORMATS = ("bundle", "huggingface")
SOURCES = ("LICENSE", "configs/*.yaml", "configs/metadata.json", "configs/logging.conf", "docs/*")
CODE = {".py", ".json", ".css", ".j2", ".js"}  # file types of common
NOT_OF_BUNDLES = {"prepare", "__pycache__"}  # folders of common; only scripts and deploy use prepare
CONFIGS = ("train.yaml", "evaluate.yaml", "inference.yaml")  # the weights set their options
TAKEN_OPTIONS = ("model_size", "patch_size", "label_convention", "normalization", "spacing", "modalities")
METADATA, README = "configs/metadata.json", "docs/README.md"
LINK = re.compile(r"\]\(([^)\s]+)\)")
NO_WEIGHTS = "; no weights"  # in the changelog of a bundle
DATA_REFERENCES = (
    "arxiv.org/abs/2107.02314",
    "s41597-022-01401-7",
    "s41467-020-15948-9",
)  # BraTS 2021, ATLAS v2.0, UK Biobank


def contents(source: Path, settings: Mapping[str, Any], format: str = "bundle") -> dict[str, bytes]:
    """The files of a package by name, without its weights.

    `settings` is the metadata of the weights (empty without weights): it fills the configs' options, metadata.json and
    the README. The format `huggingface` adds a model card and metadata.json beside it.
    """
    paths = {path.relative_to(source).as_posix(): path for pattern in SOURCES for path in source.glob(pattern)}
    common = (source / "common").resolve()
    for path in common.rglob("*"):
        name = path.relative_to(common)
        if path.suffix in CODE and not NOT_OF_BUNDLES & {*name.parts}:
            paths[f"common/{name.as_posix()}"] = path
    content = {name: path.read_bytes() for name, path in sorted(paths.items()) if path.is_file()}
    options = {option: settings[option] for option in TAKEN_OPTIONS if settings.get(option) is not None}
    for file in CONFIGS:
        if f"configs/{file}" in content:
            content[f"configs/{file}"] = _with_options(content[f"configs/{file}"], options)
    content[METADATA] = _described(content[METADATA], settings)
    if settings:
        content[README] = _with_weights(content[README], settings)
    for file in [file for file in content if file.endswith(".yaml")]:
        twin = json.dumps(yaml.safe_load(content[file]), indent=2) + "\n"
        content[file.removesuffix(".yaml") + ".json"] = twin.encode()
    content[f"tests/test_{source.name}.py"] = UNITTEST.read_bytes()
    content = _with_documents(content, source)
    if format == "huggingface":
        content["metadata.json"] = content[METADATA]
        content["README.md"] = _model_card(content, source.name)
    return content


def _with_options(config: bytes, options: Mapping[str, Any]) -> bytes:
    """Set top-level options of a YAML config; comments stay."""
    text = config.decode()
    for option, value in options.items():
        shown = json.dumps(list(value)) if isinstance(value, list | tuple) else str(value)
        text = re.sub(
            rf"^{option}: (\"[^\"]*\"|\[[^\]]*\]|\S+)", f"{option}: {shown}", text, count=1, flags=re.MULTILINE
        )
    return text.encode()


def _described(metadata: bytes, settings: Mapping[str, Any]) -> bytes:
    """Add the weights' patch size, training data, modalities and regions to metadata.json."""
    if not settings:
        return metadata
    described = json.loads(metadata)
    formats = described["network_data_format"]
    image, outputs = formats["inputs"]["image"], formats["outputs"]
    described["changelog"] = {
        version: text.replace(NO_WEIGHTS, "; weights") for version, text in described["changelog"].items()
    }
    if patch := settings.get("patch_size"):
        old = image["spatial_shape"]
        for tensor in (image, *outputs.values()):
            if tensor["spatial_shape"] == old:
                tensor["spatial_shape"] = list(patch)
    modalities = list(settings.get("modalities") or image["channel_def"].values())
    names = ", ".join(modalities)
    made_for = described["name"].partition(" on ")[2]
    if cohort_of(settings) != made_for:
        described["name"] = model_name(described["name"], settings)
        described["description"] = described["description"].replace(f" on {made_for} images", " on images")
        described["data_source"] = f"{trained_on(settings)}; no data is shipped"
        described["data_type"] = f"NIfTI: {names} brain MRI, on one grid"
        described["references"] = [each for each in described["references"] if not each.endswith(DATA_REFERENCES)]
    regions = regions_of(settings["label_convention"]) if settings.get("label_convention") else None
    if regions is not None and _has_regions(formats, regions):
        regions = None
    if regions is not None or modalities != list(image["channel_def"].values()):
        image |= {"num_channels": len(modalities), "channel_def": _numbered(modalities)}
        described["image_classes"] = f"{len(modalities)} channels in this order: {names}; each is z-scored"
        described["data_type"] = f"NIfTI: {names} brain MRI, on one grid"
    if regions is not None:
        labels = {name: ", ".join(map(str, sorted(values))) for name, values in regions.items()}
        meaning = "; ".join(f"{name}: {values}" for name, values in labels.items())
        described["name"] = f"{described['name'].partition(':')[0]}: segmentation of {', '.join(labels)}"
        described["task"] = f"Segmentation of {', '.join(labels)} in brain MRI"
        described["description"] = f"A SwinUNETR that segments regions in {names} MRI: {', '.join(labels)}."
        described["label_classes"] = f"label values of each region: {meaning}"
        described["pred_classes"] = f"network: logits of the regions, in this order; inference: a label map ({meaning})"
        outputs["pred"] |= {"num_channels": len(labels), "channel_def": _numbered(labels)}
        highest = max(max(values) for values in regions.values())
        label_map = {"value_range": [0, highest], "channel_def": {"0": f"label map: {meaning}"}}
        formats["post_processed_outputs"]["pred"] |= label_map
    return (json.dumps(described, indent=2, ensure_ascii=False) + "\n").encode()


def _has_regions(formats: Mapping[str, Any], regions: Mapping[str, Any]) -> bool:
    """Whether the metadata already describe these regions: the same number and names, with label values in range."""
    channels = list(formats["outputs"]["pred"]["channel_def"].values())
    highest = formats["post_processed_outputs"]["pred"]["value_range"][1]
    return len(channels) == len(regions) and all(
        name in channel and max(values) <= highest
        for (name, values), channel in zip(regions.items(), channels, strict=True)
    )


def _numbered(names: Iterable[str]) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names)}


def _with_weights(readme: bytes, settings: Mapping[str, Any]) -> bytes:
    """Add a section on the package's weights to the bundle's README."""
    title, _, rest = readme.decode().partition("\n")
    title = f"# {model_name(title.removeprefix('# '), settings)}"
    before, heading, after = rest.partition("\n## Data\n")
    before = before.replace(
        "The bundle holds configs and code, no weights and no data.", "It holds configs, code and weights."
    )
    return f"{title}\n{before}\n{_section_on_weights(settings)}{heading}{after}".encode()


def _section_on_weights(settings: Mapping[str, Any]) -> str:
    rows = {
        "trained on": trained_on(settings),
        "steps": settings.get("iterations"),
        "model size": settings.get("model_size"),
        "window": " x ".join(map(str, settings.get("patch_size") or ())),
        "z-score": settings.get("normalization"),
    }
    texts = {name: " ".join(str(value).split()).replace("|", "/") for name, value in rows.items() if value is not None}
    table = "".join(f"| {name} | {text:.300} |\n" for name, text in texts.items() if text)
    return (
        "## Weights\n\n`models/model.pt` is a plain state dict. `models/model.json` has its SHA-256 and the record of "
        f"its training:\n\n| | |\n|---|---|\n{table}\n"
        "The following sections describe the data and the training that this bundle is made for. Where they name "
        "another default than the configs of this package, the configs have the value of these weights.\n"
    )


def _model_card(content: Mapping[str, bytes], bundle: str) -> bytes:
    """The bundle's README for the top of the package, with Hugging Face's YAML header."""
    segments = "pred" in json.loads(content[METADATA])["network_data_format"]["outputs"]
    card: dict[str, Any] = {"license": "apache-2.0", "library_name": "monai"}
    card |= {"pipeline_tag": "image-segmentation" if segments else "image-feature-extraction"}
    card |= {"tags": ["monai", "medical", "mri", "brain", bundle]}

    def moved(match: re.Match[str]) -> str:
        link = match[1]
        is_elsewhere = "://" in link or link.startswith(("#", "mailto:"))
        return f"]({link if is_elsewhere else os.path.normpath(f'docs/{link}')})"

    return f"---\n{yaml.safe_dump(card, sort_keys=False)}---\n{LINK.sub(moved, content[README].decode())}".encode()


def _with_documents(content: dict[str, bytes], source: Path) -> dict[str, bytes]:
    """Add the project's documents that the bundle's documents link to; further links out of the bundle become text."""
    root = source.parents[1]
    left = [(name, source / name) for name in content if name.endswith(".md")]
    while left:
        name, origin = left.pop()
        text = content[name].decode()
        for link in dict.fromkeys(LINK.findall(text)):
            path, hash, anchor = link.partition("#")
            target = (origin.parent / path).resolve()
            if "://" in link or not path or target.is_relative_to(source.resolve()):
                continue
            if not target.is_relative_to(root / "docs") or not target.is_file():
                text = re.sub(rf"\[([^\]]*)\]\({re.escape(link)}\)", r"\1", text)
                continue
            inside = target.relative_to(root).as_posix()  # docs/..., like the bundle's own documents
            text = text.replace(f"]({link})", f"]({os.path.relpath(inside, Path(name).parent)}{hash}{anchor})")
            if inside not in content:
                content[inside] = target.read_bytes()
                if inside.endswith(".md"):
                    left.append((inside, target))
        content[name] = text.encode()
    return content
