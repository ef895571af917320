"""The files of a package: the bundle's files, JSON twins of its configs, a unit test, the project's documents."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from os.path import normpath
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from common.data.provenance import cohort_of, model_name, trained_on
from common.data.regions import CONVENTIONS, regions_of
from common.errors import InputError, one_line
from common.files import parse_yaml
from scripts.package.check import UNITTEST
from scripts.package.weights_file import CONFIGS, TAKEN_OPTIONS

WITH_MONAI = """
## The network with MONAI alone

```python
from json import loads
from monai.networks.nets import SwinUNETR
from safetensors import safe_open
with safe_open("models/model.safetensors", "pt") as file:
    network = SwinUNETR(**loads(file.metadata()["arguments"]))
    network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})
```

The network takes images prepared as above, and returns logits of the regions. `configs/inference.yaml` has the sliding
window and the cleanup.
"""
QUICKSTART = "quickstart.yaml"  # overlay of this repository's studies
SOURCES = ("LICENSE", "configs/*.yaml", "configs/metadata.json", "configs/logging.conf", "docs/*")
CODE = {".py", ".json", ".css", ".j2", ".js"}  # file types of common
EXCLUDED = {"prepare", "__pycache__"}  # folders of common that only scripts and deploy use
METADATA, README = "configs/metadata.json", "docs/README.md"
COMMON = re.compile(r'\bcommon(?=\.\w|"$)', re.MULTILINE)  # in configs
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
DATA_REFERENCES = (
    "arxiv.org/abs/2107.02314",
    "s41597-022-01401-7",
    "s41467-020-15948-9",
)  # BraTS 2021, ATLAS v2.0, UK Biobank


def contents(source: Path, settings: Mapping[str, Any], format: str) -> dict[str, bytes]:
    """Return the content of a package's files by name, without weights.

    `common` is renamed to BUNDLE_common, so that two packages can be loaded in one process. `settings` is the metadata
    of the weights (empty without weights), which changes options of the configs, metadata.json and the README. The
    format `huggingface` adds a model card.
    """
    sources = (path for pattern in SOURCES for path in source.glob(pattern) if path.name != QUICKSTART)
    paths = {path.relative_to(source).as_posix(): path for path in sources}
    common, package = (source / "common").resolve(), f"{source.name}_common"
    for path in common.rglob("*"):
        name = path.relative_to(common)
        if path.suffix in CODE and not EXCLUDED & {*name.parts}:
            paths[f"{package}/{name.as_posix()}"] = path
    content = {name: path.read_bytes() for name, path in sorted(paths.items()) if path.is_file()}
    options = {option: settings[option] for option in TAKEN_OPTIONS if settings.get(option) is not None}
    for file in [file for file in content if file.endswith(".yaml")]:
        with _naming(source / file):
            config = _with_options(COMMON.sub(package, content[file].decode()), options if file in CONFIGS else {})
            twin = json.dumps(parse_yaml(config), indent=2) + "\n"
        content |= {file: config.encode(), file.removesuffix(".yaml") + ".json": twin.encode()}
    if settings:
        with _naming(source / METADATA):
            content[METADATA] = _described(content[METADATA], settings)
        content[README] = _with_weights(content[README], settings)
    content[f"tests/test_{source.name}.py"] = UNITTEST.read_bytes()
    project = source.parents[1]
    content |= {path.relative_to(project).as_posix(): path.read_bytes() for path in (project / "docs").rglob("*.md")}
    if format == "huggingface":
        content["README.md"] = _model_card(content, source.name, settings)
    return {name: _linked(name, data, content) if name.endswith(".md") else data for name, data in content.items()}


def _with_options(config: str, options: Mapping[str, Any]) -> str:
    """Return a YAML config with top-level options replaced; comments stay."""
    for option, value in options.items():
        text = json.dumps(list(value)) if isinstance(value, list | tuple) else str(value)
        pattern = rf"^{option}: (\"[^\"]*\"|\[[^\]]*\]|\S+)"
        config = re.sub(pattern, f"{option}: {text}", config, count=1, flags=re.MULTILINE)
    return config


def _described(metadata: bytes, settings: Mapping[str, Any]) -> bytes:
    """Return metadata.json with the weights' patch size, training data, modalities and regions."""
    described = json.loads(metadata)
    formats = described["network_data_format"]
    image, outputs = formats["inputs"]["image"], formats["outputs"]
    if patch := settings.get("patch_size"):
        old = image["spatial_shape"]
        for tensor in (image, *outputs.values()):
            if tensor["spatial_shape"] == old:
                tensor["spatial_shape"] = list(patch)
    modalities = list(settings.get("modalities") or image["channel_def"].values())
    names = ", ".join(modalities)
    made_for = described["name"].partition(" on ")[2]
    described["name"] = model_name(described["name"], settings)
    described["copyright"] += _of_others(settings)
    if cohort_of(settings) != made_for:
        described["description"] = described["description"].replace(f" on {made_for} images", " on images")
        described["data_source"] = f"{trained_on(settings)}; no data is shipped"
        described["data_type"] = f"NIfTI: {names} brain MRI, on one grid"
        described["references"] = [link for link in described["references"] if not link.endswith(DATA_REFERENCES)]
    convention = settings.get("label_convention")
    regions = regions_of(convention) if convention else {}
    if convention in CONVENTIONS and len(regions) == outputs["pred"]["num_channels"]:
        regions = {}  # the metadata describe them already
    if regions or modalities != list(image["channel_def"].values()):
        image |= {"num_channels": len(modalities), "channel_def": _numbered(modalities)}
        described["image_classes"] = f"{len(modalities)} channels in this order: {names}; each is z-scored"
        described["data_type"] = f"NIfTI: {names} brain MRI, on one grid"
    if regions:
        labels = {name: ", ".join(map(str, sorted(values))) for name, values in regions.items()}
        meaning = "; ".join(f"{name}: {values}" for name, values in labels.items())
        described["task"] = f"Segmentation of {', '.join(labels)} in brain MRI"
        described["description"] = f"A SwinUNETR that segments regions in {names} MRI: {', '.join(labels)}."
        described["label_classes"] = f"label values of each region: {meaning}"
        described["pred_classes"] = f"network: logits of the regions, in this order; inference: a label map ({meaning})"
        outputs["pred"] |= {"num_channels": len(labels), "channel_def": _numbered(labels)}
        highest = max(max(values) for values in regions.values())
        label_map = {"value_range": [0, highest], "channel_def": {"0": f"label map: {meaning}"}}
        formats["post_processed_outputs"]["pred"] |= label_map
    return (json.dumps(described, indent=2, ensure_ascii=False) + "\n").encode()


def _numbered(names: Iterable[str]) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names)}


def _with_weights(readme: bytes, settings: Mapping[str, Any]) -> bytes:
    """Return the bundle's README with a section on the weights, and their training data in its title."""
    title, _, rest = readme.decode().partition("\n")
    title = f"# {model_name(title.removeprefix('# '), settings)}"
    section = (
        f"## Weights\n\n`models/model.pt` is a plain state dict, trained on {trained_on(settings)}. "
        f"`models/model.json` has its SHA-256 and the record of its training.{_of_others(settings)}\n\n"
        "The following sections describe the bundle's default data and training. Where they differ from this "
        "package's configs, the configs describe these weights.\n"
    )
    before, heading, after = rest.partition("\n## Data\n")
    for sign in (", ", " x ") if settings.get("patch_size") else ():
        after = after.replace(sign.join(["96"] * 3), sign.join(map(str, settings["patch_size"])))
    return f"{title}\n{before}\n{section}{heading}{after}".encode()


def _of_others(settings: Mapping[str, Any]) -> str:
    """Return a sentence on whose weights these are and their licence; empty for weights of a training here."""
    if not (source := settings.get("source")):
        return ""
    return f" The weights are those of {source}, licence {settings['licence']}: its terms decide who may receive them."


def _model_card(content: Mapping[str, bytes], bundle: str, settings: Mapping[str, Any]) -> bytes:
    """Return the README.md at the top of the package: the bundle's README with Hugging Face's YAML header."""
    segments = "pred" in json.loads(content[METADATA])["network_data_format"]["outputs"]
    task = "image-segmentation" if segments else "image-feature-extraction"
    card: dict[str, Any] = {"license": "apache-2.0", "library_name": "monai", "pipeline_tag": task}
    if licence := settings.get("licence"):
        card |= {"license": "other", "license_name": licence}
    card |= {"tags": ["monai", "medical", "mri", "brain", bundle]}
    dice, data = (settings.get("reached") or {}).get("dice"), settings.get("dataset") or {}
    if dice is not None and (cohort := cohort_of(settings)):
        metric = {"type": "dice", "name": "Dice on the validation split", "value": round(dice, 4)}
        dataset = {"type": data.get("name") or cohort, "name": cohort, "split": "validation"}
        result = {"task": {"type": task}, "dataset": dataset, "metrics": [metric]}
        card |= {"metrics": ["dice"], "model-index": [{"name": bundle, "results": [result]}]}
    text = LINK.sub(lambda link: f"[{link[1]}]({_from_docs(link[2])})", content[README].decode())
    text += WITH_MONAI if "merging" not in settings.get("arguments", ["merging"]) else ""
    return f"---\n{yaml.safe_dump(card, sort_keys=False)}---\n{text}".encode()


def _from_docs(link: str) -> str:
    """Return a link of docs/README.md as a link of README.md, one folder up."""
    inside = "://" not in link and not link.startswith("#")
    return normpath(PurePosixPath("docs", link.replace("../../../docs/", ""))) if inside else link


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Context manager: name a file of the bundle in errors about its content."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file}: {one_line(error)}; expected a file as in the other bundles") from error


def _linked(name: str, text: bytes, content: Mapping[str, bytes]) -> bytes:
    """Return a document with links inside the package; links to files that the package lacks become text."""

    def link(match: re.Match[str]) -> str:
        target = match[2].replace("../../../docs/", "")  # from a bundle's documents to the project's
        file = normpath(PurePosixPath(name).parent / target.partition("#")[0])
        is_kept = "://" in target or target.startswith("#") or file in content
        return f"[{match[1]}]({target})" if is_kept else match[1]

    with _naming(Path(name)):
        return LINK.sub(link, text.decode()).encode()
