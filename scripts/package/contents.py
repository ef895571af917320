"""The files of a package: those of the bundle, JSON twins of its configs, a unit test, linked documents."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from common.data.provenance import cohort_of, model_name, trained_on
from common.data.regions import regions_of
from scripts.package.check import LINK, UNITTEST

__all__ = ["FORMATS", "contents"]

SOURCES = (
    "LICENSE",
    "configs/*.yaml",
    "configs/metadata.json",
    "configs/logging.conf",
    "docs/*",
    "common/*.py",
    "common/*/*.py",
    "common/*/*/*.py",
    "common/*/*.json",
    "common/pages/*.css",
    "common/pages/*.j2",
    "common/pages/*.js",
)
NOT_OF_BUNDLES = "common/prepare/"  # scripts and deploy use it; it needs SimpleITK and nilearn, which bundles do not
SETTINGS = (
    "model_size",
    "patch_size",
    "label_convention",
    "normalization",
    "spacing",
    "modalities",
)  # options that configs take from the weights
CONFIGS = ("train.yaml", "evaluate.yaml", "inference.yaml")  # that take them


FORMATS = ("bundle", "huggingface")
NO_WEIGHTS = "; no weights"  # in the changelog of a bundle
DATA_REFERENCES = (
    "arxiv.org/abs/2107.02314",
    "s41597-022-01401-7",
    "s41467-020-15948-9",
)  # BraTS 2021, ATLAS v2.0, UK Biobank


def contents(
    source: Path, settings: Mapping[str, Any], has_weights: bool = False, format: str = "bundle"
) -> dict[str, bytes]:
    """The files of a package without its weights, by name.

    Args:
        source: folder of the bundle.
        settings: metadata of the weights; the configs take options such as the model size from it, metadata.json and
            the README what the weights were trained on.
        has_weights: whether the package has weights, or says where they are.
        format: one of `FORMATS`; huggingface adds a model card, and metadata.json beside it.
    """
    paths = [path for pattern in SOURCES for path in sorted(source.glob(pattern)) if path.is_file()]
    names = {path.relative_to(source).as_posix(): path for path in paths}
    content = {name: path.read_bytes() for name, path in names.items() if not name.startswith(NOT_OF_BUNDLES)}
    taken = {option: settings[option] for option in SETTINGS if settings.get(option) is not None}
    for file in CONFIGS:
        if f"configs/{file}" in content:
            content[f"configs/{file}"] = _with_options(content[f"configs/{file}"], taken)
    if patch := taken.get("patch_size"):
        metadata = content["configs/metadata.json"]
        shape = json.dumps(json.loads(metadata)["network_data_format"]["inputs"]["image"]["spatial_shape"])
        new = f'"spatial_shape": {json.dumps(list(patch))}'
        content["configs/metadata.json"] = metadata.replace(f'"spatial_shape": {shape}'.encode(), new.encode())
    if has_weights:
        content["configs/metadata.json"] = _with_provenance(content["configs/metadata.json"], settings)
        content["docs/README.md"] = _with_weights(content["docs/README.md"], settings)
    default = re.search(r"'label_convention', '(\w+)'", (source / "configs/inference.yaml").read_text())
    own = default is not None and settings.get("label_convention", default[1]) != default[1]
    content["configs/metadata.json"] = _with_own_task(content["configs/metadata.json"], settings, own)
    for file in [file for file in content if file.endswith(".yaml")]:
        twin = json.dumps(yaml.safe_load(content[file]), indent=2) + "\n"
        content[file.removesuffix(".yaml") + ".json"] = twin.encode()
    content[f"tests/test_{source.name}.py"] = UNITTEST.read_bytes()
    content = _with_documents(content, source)
    if format == "huggingface":
        content["metadata.json"] = content["configs/metadata.json"]
        content["README.md"] = _model_card(content, source.name)
    return content


def _with_options(config: bytes, options: Mapping[str, Any]) -> bytes:
    """A YAML config with new values of its top-level options; comments stay."""
    text = config.decode()
    for option, value in options.items():
        shown = json.dumps(list(value)) if isinstance(value, list | tuple) else str(value)
        text = re.sub(
            rf"^{option}: (\"[^\"]*\"|\[[^\]]*\]|\S+)", f"{option}: {shown}", text, count=1, flags=re.MULTILINE
        )
    return text.encode()


def _with_own_task(metadata: bytes, settings: Mapping[str, Any], has_own_labels: bool) -> bytes:
    """metadata.json for weights of other modalities or labels than the bundle's; otherwise as it is.

    Args:
        metadata: of the bundle.
        settings: metadata of the weights.
        has_own_labels: whether they have another convention of labels than the bundle's configs.
    """
    described = json.loads(metadata)
    formats = described["network_data_format"]
    image = formats["inputs"]["image"]
    modalities = list(settings.get("modalities") or image["channel_def"].values())
    regions = regions_of(settings["label_convention"]) if has_own_labels else None
    if regions is None and modalities == list(image["channel_def"].values()):
        return metadata
    image |= {"num_channels": len(modalities), "channel_def": _numbered(modalities)}
    names = ", ".join(modalities)
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
        formats["outputs"]["pred"] |= {"num_channels": len(labels), "channel_def": _numbered(labels)}
        highest = max(max(values) for values in regions.values())
        label_map = {"value_range": [0, highest], "channel_def": {"0": f"label map: {meaning}"}}
        formats["post_processed_outputs"]["pred"] |= label_map
    return (json.dumps(described, indent=2, ensure_ascii=False) + "\n").encode()


def _with_provenance(metadata: bytes, settings: Mapping[str, Any]) -> bytes:
    """metadata.json that names the data of the weights' training instead of those that the bundle is made for."""
    described = json.loads(metadata)
    described["changelog"] = {
        version: f"{text.removesuffix(NO_WEIGHTS)}; weights" if text.endswith(NO_WEIGHTS) else text
        for version, text in described["changelog"].items()
    }
    made_for = described["name"].partition(" on ")[2]
    if settings and cohort_of(settings) != made_for:
        described["name"] = model_name(described["name"], settings)
        described["description"] = described["description"].replace(f" on {made_for} images", " on images")
        described["data_source"] = f"{trained_on(settings)}; no data is shipped"
        described["data_type"] = f"NIfTI: {', '.join(settings['modalities'])} brain MRI, on one grid"
        described["references"] = [
            reference for reference in described["references"] if not reference.endswith(DATA_REFERENCES)
        ]
    return (json.dumps(described, indent=2, ensure_ascii=False) + "\n").encode()


def _with_weights(readme: bytes, settings: Mapping[str, Any]) -> bytes:
    """The bundle's README with a section on the weights of the package."""
    text = readme.decode()
    title, _, rest = text.partition("\n")
    title = f"# {model_name(title.removeprefix('# '), settings)}" if settings else title
    holds, with_weights = (
        "The bundle holds configs and code, no weights and no data.",
        "It holds configs, code and weights.",
    )
    rest = rest.replace(holds, with_weights, 1)
    before, heading, after = rest.partition("\n## Data\n")
    return f"{title}\n{before}\n{_section_on_weights(settings)}{heading}{after}".encode()


def _section_on_weights(settings: Mapping[str, Any]) -> str:
    if not settings:
        return "## Weights\n\nlarge_files.yml says where they are; what they were trained on is not known here.\n"
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


def _numbered(names: Iterable[str]) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names)}


def _model_card(content: Mapping[str, bytes], bundle: str) -> bytes:
    """The bundle's README at the top of the package, with the YAML by which Hugging Face finds models."""
    described = json.loads(content["configs/metadata.json"])
    segments = "pred" in described["network_data_format"]["outputs"]
    card: dict[str, Any] = {"license": "apache-2.0", "library_name": "monai"}
    card |= {"pipeline_tag": "image-segmentation" if segments else "image-feature-extraction"}
    card |= {"tags": ["monai", "medical", "mri", "brain", bundle]}

    def moved(match: re.Match[str]) -> str:
        link = match[1]
        is_elsewhere = "://" in link or link.startswith(("#", "mailto:"))
        return f"]({link if is_elsewhere else os.path.normpath(f'docs/{link}')})"

    text = LINK.sub(moved, content["docs/README.md"].decode())
    return f"---\n{yaml.safe_dump(card, sort_keys=False)}---\n{text}".encode()


def _with_documents(content: dict[str, bytes], source: Path) -> dict[str, bytes]:
    """Add the project's documents that the bundle's documents link to; other links out of the bundle become text."""
    root = source.parents[1]
    left = [(name, source / name) for name in content if name.endswith(".md")]
    while left:
        name, origin = left.pop()
        text = content[name].decode()
        for link in dict.fromkeys(LINK.findall(text)):
            target = (origin.parent / link.partition("#")[0]).resolve()
            if "://" in link or link.startswith("#") or target.is_relative_to(source.resolve()):
                continue
            if not target.is_relative_to(root / "docs") or not target.is_file():
                text = re.sub(rf"\[([^\]]*)\]\({re.escape(link)}\)", r"\1", text)
                continue
            inside = target.relative_to(root).as_posix()  # docs/..., like the bundle's own documents
            anchor = link[len(link.partition("#")[0]) :]
            text = text.replace(f"]({link})", f"]({os.path.relpath(inside, Path(name).parent)}{anchor})")
            if inside not in content:
                content[inside] = target.read_bytes()
                if inside.endswith(".md"):
                    left.append((inside, target))
        content[name] = text.encode()
    return content
