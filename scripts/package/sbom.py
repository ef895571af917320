"""The software bill of materials of a package: what it needs and holds, and the hashes of its weights.

Its format is CycloneDX 1.5, https://cyclonedx.org/docs/1.5/json.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from common.files import digest
from scripts.package.large_files import large_files

__all__ = ["SBOM", "bill_of_materials"]

SBOM = "sbom.cdx.json"
SCHEMA = "http://cyclonedx.org/schema/bom-1.5.schema.json"
VERSIONS = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}  # keys of metadata.json
ALGORITHMS = {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256", "sha512": "SHA-512"}  # of large_files.yml


def bill_of_materials(folder: Path, metadata: Mapping[str, Any]) -> bytes:
    """The bill of materials as JSON. The same package gives the same bytes: there is no time, and the serial number is
    derived from the content.

    Args:
        folder: of the package, with its weights and large_files.yml, as far as it has them.
        metadata: content of its metadata.json.
    """
    versions = {name: metadata[key] for name, key in VERSIONS.items()}
    needed = [_library(*item) for item in sorted({**metadata.get("required_packages_version", {}), **versions}.items())]
    held = _scripts(folder) + _weights(folder)
    bundle = {
        "type": "application",
        "bom-ref": folder.name,
        "name": folder.name,
        "version": metadata["version"],
        "description": metadata["description"],
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    content = {
        "version": 1,
        "metadata": {"component": bundle},
        "components": needed + held,
        "dependencies": [{"ref": folder.name, "dependsOn": [part["bom-ref"] for part in needed + held]}],
    }
    serial = uuid5(NAMESPACE_URL, json.dumps(content, sort_keys=True))
    head = {"$schema": SCHEMA, "bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": f"urn:uuid:{serial}"}
    return (json.dumps(head | content, indent=2, ensure_ascii=False) + "\n").encode()


def _library(name: str, version: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _scripts(folder: Path) -> list[dict[str, Any]]:
    """NiiVue, where the package has its pages of slices."""
    purl = "pkg:npm/%40niivue/niivue@0.69.0"
    part = {"type": "library", "bom-ref": purl, "name": "@niivue/niivue", "version": "0.69.0", "purl": purl}
    licence = {"licenses": [{"license": {"id": "BSD-2-Clause"}}]}
    return [
        part | licence | {"hashes": [{"alg": "SHA-256", "content": digest(file)}]}
        for file in folder.rglob("niivue.umd.js")
    ]


def _weights(folder: Path) -> list[dict[str, Any]]:
    """The checkpoints of a package, those in it and those that large_files.yml lists."""
    found = {
        file.relative_to(folder).as_posix(): {"hashes": [{"alg": "SHA-256", "content": digest(file)}]}
        for file in sorted(folder.glob("models/*.pt"))
    }
    for path, entry in large_files(folder).items():
        hashes = [{"alg": ALGORITHMS[entry["hash_type"]], "content": entry["hash_val"].lower()}]
        urls = [{"type": "distribution", "url": entry["url"]}] if entry["url"] else []
        found[path] = found.get(path, {"hashes": hashes}) | ({"externalReferences": urls} if urls else {})
    return [{"type": "machine-learning-model", "bom-ref": path, "name": path, **rest} for path, rest in found.items()]
