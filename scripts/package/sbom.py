"""The software bill of materials of a package, in CycloneDX 1.5: dependencies, contents, and the weights' hashes."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashType, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot5
from packageurl import PackageURL

from common.files import digest
from scripts.package.archives import EPOCH
from scripts.package.weights_file import large_files

SBOM = "sbom.cdx.json"
VERSION_KEYS = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}  # keys of metadata.json
NIIVUE_SCRIPT = "niivue.umd.js", "0.69.0"  # the script of pages that scroll through slices, and its version


def bill_of_materials(folder: Path, metadata: Mapping[str, Any]) -> bytes:
    """The bill of materials as JSON; the same package gives the same bytes."""
    bundle = Component(
        type=ComponentType.APPLICATION,
        bom_ref=folder.name,
        name=folder.name,
        version=metadata["version"],
        description=metadata["description"],
        licenses=[LicenseFactory().make_with_id("Apache-2.0")],
    )
    parts = [*_libraries(folder, metadata), *_weights(folder)]
    bill = Bom(
        serial_number=NAMESPACE_URL,
        metadata=BomMetaData(component=bundle, timestamp=datetime(*EPOCH, tzinfo=UTC)),
        components=parts,
    )
    bill.register_dependency(bundle, parts)
    bill.serial_number = uuid5(NAMESPACE_URL, JsonV1Dot5(bill).output_as_string())
    return (JsonV1Dot5(bill).output_as_string(indent=2) + "\n").encode()


def _libraries(folder: Path, metadata: Mapping[str, Any]) -> Iterator[Component]:
    versions = {name: metadata[key] for name, key in VERSION_KEYS.items()}
    for name, version in {**metadata.get("required_packages_version", {}), **versions}.items():
        purl = PackageURL("pypi", name=name, version=version)
        yield Component(name=name, version=version, purl=purl, bom_ref=str(purl))
    file, version = NIIVUE_SCRIPT
    purl = PackageURL("npm", namespace="@niivue", name="niivue", version=version)
    for path in folder.rglob(file):
        yield Component(
            name="@niivue/niivue",
            version=version,
            purl=purl,
            bom_ref=str(purl),
            hashes=[_hash(digest(path))],
            licenses=[LicenseFactory().make_with_id("BSD-2-Clause")],
        )


def _weights(folder: Path) -> Iterator[Component]:
    """The checkpoints in the package and in large_files.yml."""
    hashes = {name: _hash(entry["hash_val"]) for name, entry in large_files(folder).items()}
    hashes |= {file.relative_to(folder).as_posix(): _hash(digest(file)) for file in folder.glob("models/*.pt")}
    for name, value in hashes.items():
        url = large_files(folder).get(name, {}).get("url")
        references = [ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(url))] if url else []
        kind = ComponentType.MACHINE_LEARNING_MODEL
        yield Component(type=kind, name=name, bom_ref=name, hashes=[value], external_references=references)


def _hash(value: str) -> HashType:
    return HashType.from_composite_str(f"sha256:{value}")
