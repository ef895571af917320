"""The weights of a package: models/model.pt, models/model.json, and large_files.yml with their location."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from common import weights as checkpoints
from common.errors import InputError, within
from common.files import digest, read_json, read_yaml, valid_yaml, write_json
from common.schemas import check_schema
from scripts.weights import arguments_of, as_safetensors

WEIGHTS = "models/model.pt"
SAFETENSORS = "models/model.safetensors"
LARGE_FILES = "large_files.yml"
CONFIGS = ("configs/train.yaml", "configs/evaluate.yaml", "configs/inference.yaml")  # the weights set their options
TAKEN_OPTIONS = ("model_size", "merging", "patch_size", "label_convention", "normalization", "spacing", "modalities")
PRIVATE = {"datalist"}  # metadata of a checkpoint: a path on the machine that trained it
ENTRY = {
    "path": {"type": "string", "pattern": r"^\w(?![\s\S]*\.\.)"},  # inside the package
    "url": {"type": "string", "pattern": r"^https://\S+$"},
    "hash_val": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    "hash_type": {"const": "sha256"},
}
TASKS = ["reconstruction", "rotation", "contrastive"]  # of the published weights
PLAIN = {"type": "string", "pattern": r"^\w[\w .,:/()-]{0,199}$"}
STATED_SCHEMA = {  # metadata that the documents of a package quote
    "type": "object",
    "dependentRequired": {"source": ["licence"]},
    "properties": {
        "source": PLAIN,
        "licence": PLAIN,
        "reached": {"type": ["object", "null"], "additionalProperties": {"type": "number"}},
        "dataset": {
            "type": ["object", "null"],
            "properties": {"name": {"type": "string"}},
            "additionalProperties": {"type": ["string", "integer"]},
        },
    },
}
SCHEMA = {
    "type": "object",
    "required": ["large_files"],
    "properties": {
        "large_files": {"type": "array", "items": {"type": "object", "required": list(ENTRY), "properties": ENTRY}}
    },
}


def add_weights(folder: Path, source: Path, weights: Path | None, url: str | None) -> Mapping[str, Any]:
    """Add weights and large_files.yml to a package; return the checkpoint's metadata, empty without a checkpoint.

    Raises an InputError if the weights do not fit the bundle, or if the URL is invalid or given without weights.
    """
    if weights is None:
        if url is not None:
            raise InputError(f"--weights_url={url}: needs --weights, the file at this address")
        return {}
    if url is not None and not re.fullmatch(ENTRY["url"]["pattern"], str(url)):
        raise InputError(f"--weights_url={url}: expected an address that begins with https://")
    settings = _copy_weights(weights, folder / WEIGHTS, source)
    if url is not None:
        entry = {"path": WEIGHTS, "url": url, "hash_val": digest(folder / WEIGHTS), "hash_type": "sha256"}
        (folder / LARGE_FILES).write_text(yaml.safe_dump({"large_files": [entry]}, sort_keys=False))
    return settings


def _copy_weights(weights: Path, file: Path, source: Path) -> Mapping[str, Any]:
    """Write a checkpoint as a plain state dict with its JSON record, and return its metadata.

    Details of the training machine are left out.
    """
    from common.baselines import NETWORKS  # late imports: `--help` stays fast
    from common.options import check_stated

    checkpoint = checkpoints.read(weights)
    config = read_yaml(source / "configs/train.yaml")
    stated = checkpoint.metadata
    checkpoints.check_bundle(stated, weights, source.name)
    if "architecture" in config:  # a package describes, tests and exports the network of the config's default
        if not isinstance(stated.get("modalities"), list):
            raise InputError(f"--weights={weights}: modalities unknown; expected a checkpoint that states them")
        expected = {"architecture": config["architecture"], "network": NETWORKS[config["architecture"]]}
    else:
        network = config["network_def"]["_target_"].rpartition(".")[2]
        expected = {"network": network, "modalities": config["modalities"], "tasks": TASKS}
    for what, value in expected.items():
        # a converted file states no architecture and no tasks
        if stated.get(what, value if what in ("architecture", "tasks") else None) != value:
            raise InputError(f"--weights={weights}: {what} {_text(stated.get(what))}; expected {_text(value)}")
    if stated.get("merging") is None:
        raise InputError(f"--weights={weights}: merging unknown; convert the file with scripts.weights --merging")
    check_stated(checkpoints.settings_of(weights), weights)
    metadata = {name: value for name, value in stated.items() if name not in PRIVATE}
    if arguments := arguments_of(checkpoint.state, stated["merging"], f"--weights={weights}"):
        metadata["arguments"] = arguments
    check_schema(metadata, STATED_SCHEMA, f"--weights={weights}: metadata", "the metadata that training writes")
    with within(f"--weights={weights}"):
        checkpoints.write_plain(checkpoint.state, metadata, file)
    return metadata


def add_safetensors(folder: Path) -> None:
    """Write the tensors of a package's models/model.pt also as models/model.safetensors."""
    checkpoint = checkpoints.read(folder / WEIGHTS)
    (file := folder / SAFETENSORS).write_bytes(as_safetensors(checkpoint.state, checkpoint.metadata["merging"]))
    record = checkpoints.record_of(file)
    write_json(record, read_json(record) | {checkpoints.OTHER_HASH: digest(file)})


def check_safetensors(folder: Path, name: str) -> None:
    """Raise an InputError if the tensors of models/model.safetensors and models/model.pt differ."""
    from safetensors.torch import load_file

    try:
        tensors = load_file(folder / SAFETENSORS)
    except Exception as error:  # safetensors' error for a broken file, or PyTorch's for an impossible shape
        raise InputError(f"{name}: {SAFETENSORS}: cannot be read ({error})") from error
    expected = checkpoints.read(folder / WEIGHTS).state
    if tensors.keys() != expected.keys() or any(not tensors[key].equal(expected[key]) for key in tensors):
        raise InputError(f"{name}: tensors of {SAFETENSORS} differ from those of {WEIGHTS}")


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value or "unknown")


def large_files(folder: Path) -> dict[str, dict[str, str]]:
    """Return the entries of large_files.yml by path; empty if there is no file.

    Raises an InputError if the file is invalid, or an entry is not a path inside the package with a URL and a SHA-256.
    """
    file, name = folder / LARGE_FILES, f"{folder.name}: {LARGE_FILES}"
    if not file.is_file():
        return {}
    content = valid_yaml(file, "a list of files with path, https:// URL and SHA-256", SCHEMA, name)
    return {entry["path"]: entry for entry in content["large_files"]}
