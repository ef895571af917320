"""The weights of a package: models/model.pt, models/model.json, and large_files.yml with their location."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from common import weights as checkpoints
from common.errors import InputError, one_line
from common.files import digest
from common.values import optional

LARGE = 25_000_000  # bytes; limit of the Model Zoo
WEIGHTS = "models/model.pt"
PRIVATE = {"datalist"}  # metadata of a checkpoint: a path on the machine that trained it
HASHES = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}  # hexadecimal digits


def add_weights(folder: Path, source: Path, weights: str | None, url: str | None) -> Mapping[str, Any]:
    """Add weights and large_files.yml to a package; return the checkpoint's metadata, empty without a checkpoint.

    `url` is the download address, "none" or None. Raises an InputError if the weights do not fit the bundle, or if the
    URL is missing, invalid or given without weights.
    """
    if weights is None:
        if url is not None:
            raise InputError(f"--weights_url={url}: no file; expected --weights too")
        return {}
    if (address := optional(url)) and not re.match(r"https://\S+$", str(address)):
        raise InputError(f"--weights_url={url}: expected one that begins with https://")
    file = folder / WEIGHTS
    settings = _copy_weights(weights, file, source)
    if url is not None:
        entry = {"path": WEIGHTS, "url": address or "", "hash_val": digest(file), "hash_type": "sha256"}
        (folder / "large_files.yml").write_text(yaml.safe_dump({"large_files": [entry]}, sort_keys=False))
    elif (size := file.stat().st_size) > LARGE:
        raise InputError(
            f"--weights={weights}: {size / 1e6:.0f} MB; the Model Zoo takes at most {LARGE // 10**6} MB: expected "
            "--weights_url of a download, or --weights_url=none for a package that is not published"
        )
    return settings


def _copy_weights(weights: str, file: Path, source: Path) -> Mapping[str, Any]:
    """Write a checkpoint as a plain state dict with its JSON record, and return its metadata.

    Details of the training machine are left out.
    """
    from monai.bundle import ConfigParser  # late import: `--help` stays fast

    from common.baselines import NETWORKS

    checkpoint = checkpoints.read(weights)
    config = ConfigParser.load_config_file(str(source / "configs/train.yaml"))
    stated = checkpoint.metadata
    expected = {"bundle": source.name}
    if "architecture" in config:  # a package describes, tests and exports the network of the config's default
        if not isinstance(stated.get("modalities"), list):
            raise InputError(f"--weights={weights}: modalities unknown; expected a checkpoint that states them")
        expected |= {"architecture": config["architecture"], "network": NETWORKS[config["architecture"]]}
    else:
        network = config["network_def"]["_target_"].rpartition(".")[2]
        expected |= {"network": network, "modalities": config["modalities"]}
    for what, value in expected.items():
        # a converted file states neither bundle nor architecture
        if stated.get(what, value if what in ("bundle", "architecture") else None) != value:
            raise InputError(f"--weights={weights}: {what} {_text(stated.get(what))}; expected {_text(value)}")
    checkpoints.measured_of(weights)  # rejects invalid ranges
    metadata = {name: value for name, value in stated.items() if name not in PRIVATE}
    checkpoints.write_plain(checkpoint.state, metadata, file)
    return metadata


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value or "unknown")


def large_files(folder: Path) -> dict[str, dict[str, str]]:
    """The entries of large_files.yml by path; empty if there is no file.

    Raises an InputError if it cannot be read, or if an entry is not a path inside the package with a URL and a hash.
    """
    file = folder / "large_files.yml"
    if not file.is_file():
        return {}
    try:
        entries = yaml.safe_load(file.read_text(encoding="utf-8"))["large_files"]
        listed = {entry["path"]: entry for entry in entries}
        for path, entry in listed.items():
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise InputError(f"{folder.name}: large_files.yml: {path} leads out of the package")
            if len(entry["hash_val"]) != HASHES[entry["hash_type"]] or not re.match(r"https://|$", entry["url"]):
                raise InputError(
                    f"{folder.name}: large_files.yml: {path}: expected an https:// URL, and a hash of its type"
                )
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        expected = "large_files, a list of path, url, hash_val and hash_type"
        raise InputError(f"{folder.name}: large_files.yml: {one_line(error)}; expected {expected}") from error
    return listed
