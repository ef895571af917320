"""The bill of materials against CycloneDX's own schema (Apache-2.0, as published: tests/oracles/cyclonedx)."""

import hashlib
import json

import jsonschema
import pytest
from referencing import Registry, Resource

from scripts.package.sbom import bill_of_materials
from tests.support import ROOT

SCHEMAS = {path.name: json.loads(path.read_text()) for path in (ROOT / "tests/oracles/cyclonedx").glob("*.json")}
METADATA = json.loads((ROOT / "bundles/brats_finetune/configs/metadata.json").read_text())
LISTED = """large_files:
  - path: "models/model.pt"
    url: "https://example.org/model.pt"
    hash_val: "{}"
    hash_type: "sha256"
"""


@pytest.fixture
def folder(tmp_path):
    """Of a package with weights."""
    weights = tmp_path / "brats_finetune/models/model.pt"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    return tmp_path / "brats_finetune"


def valid(folder, metadata=METADATA):
    """The bill, which the schema accepts with the formats of its values."""
    resources = [(name, Resource.from_contents(schema)) for name, schema in SCHEMAS.items()]
    schema = SCHEMAS["bom-1.5.SNAPSHOT.schema.json"]
    base = schema["$id"].rpartition("/")[0]
    registry = Registry().with_resources([(f"{base}/{name}", resource) for name, resource in resources])
    content = json.loads(bill_of_materials(folder, metadata))
    jsonschema.Draft7Validator(schema, registry=registry).validate(content)
    return content


def test_the_bill_names_what_metadata_require_and_the_weights(folder):
    bill = valid(folder)
    versions = {part["name"]: part["version"] for part in bill["components"] if part["type"] == "library"}
    assert versions == {
        **METADATA["required_packages_version"],
        **{"monai": METADATA["monai_version"], "torch": METADATA["pytorch_version"]},
        "numpy": METADATA["numpy_version"],
    }
    (weights,) = (part for part in bill["components"] if part["type"] == "machine-learning-model")
    assert weights["name"] == "models/model.pt"
    assert weights["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(b"weights").hexdigest()}]
    bundle = bill["metadata"]["component"]
    assert (bundle["name"], bundle["version"]) == ("brats_finetune", METADATA["version"])
    (needs,) = bill["dependencies"]
    assert (needs["ref"], len(needs["dependsOn"])) == (bundle["bom-ref"], len(bill["components"]))
    assert "pkg:pypi/pytorch-ignite@0.5.5" in needs["dependsOn"]


def test_the_bill_names_the_script_that_a_package_holds(folder):
    script = folder / "common/pages/niivue.umd.js"
    script.parent.mkdir(parents=True)
    script.write_bytes(b"script")
    (part,) = (part for part in valid(folder)["components"] if part["name"] == "@niivue/niivue")
    assert (part["version"], part["purl"]) == ("0.69.0", "pkg:npm/%40niivue/niivue@0.69.0")
    assert part["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(b"script").hexdigest()}]


def test_weights_elsewhere_have_their_hash_and_address(folder):
    (folder / "models/model.pt").unlink()
    (folder / "large_files.yml").write_text(LISTED.format("A" * 64))
    weights = valid(folder)["components"][-1]
    assert weights["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert weights["externalReferences"] == [{"type": "distribution", "url": "https://example.org/model.pt"}]


def test_the_serial_number_follows_the_content(folder):
    first = bill_of_materials(folder, METADATA)
    assert bill_of_materials(folder, METADATA) == first
    (folder / "models/model.pt").write_bytes(b"others")
    serials = {json.loads(bill)["serialNumber"] for bill in (first, bill_of_materials(folder, METADATA))}
    assert len(serials) == 2
