"""The files of a package: those of the bundle, JSON twins of its configs, a unit test, linked documents."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from scripts.package.check import LINK, UNITTEST

__all__ = ["contents"]

SOURCES = (
    "LICENSE",
    "configs/*.yaml",
    "configs/metadata.json",
    "configs/logging.conf",
    "docs/*",
    "common/*.py",
    "common/*/*.py",
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
)  # options that configs take from the weights
CONFIGS = ("train.yaml", "evaluate.yaml", "inference.yaml")  # that take them


def contents(source: Path, settings: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a package without its weights, by name.

    Args:
        source: folder of the bundle.
        settings: metadata of the weights; the configs take options such as the model size from it.
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
    for file in [file for file in content if file.endswith(".yaml")]:
        twin = json.dumps(yaml.safe_load(content[file]), indent=2) + "\n"
        content[file.removesuffix(".yaml") + ".json"] = twin.encode()
    content[f"tests/test_{source.name}.py"] = UNITTEST.read_bytes()
    return _with_documents(content, source)


def _with_options(config: bytes, options: Mapping[str, Any]) -> bytes:
    """A YAML config with new values of its top-level options; comments stay."""
    text = config.decode()
    for option, value in options.items():
        shown = json.dumps(list(value)) if isinstance(value, list | tuple) else str(value)
        text = re.sub(
            rf"^{option}: (\"[^\"]*\"|\[[^\]]*\]|\S+)", f"{option}: {shown}", text, count=1, flags=re.MULTILINE
        )
    return text.encode()


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
