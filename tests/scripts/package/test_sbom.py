"""The bill of materials against CycloneDX's own schema, which its Python library holds."""

import hashlib
import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from scripts.package.sbom import bill_of_materials
from tests.support import ROOT

METADATA = json.loads((ROOT / "bundles/brats_finetune/configs/metadata.json").read_text())


@pytest.fixture
def folder(tmp_path):
    """Of a package with weights."""
    weights = tmp_path / "brats_finetune/models/model.pt"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    return tmp_path / "brats_finetune"


def valid(folder):
    """The bill, which the schema accepts."""
    bill = bill_of_materials(folder, METADATA).decode()
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(bill) is None
    return json.loads(bill)


def sha256(content):
    return [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}]


def test_the_bill_names_what_metadata_require_and_the_weights(folder):
    bill = valid(folder)
    versions = {part["name"]: part["version"] for part in bill["components"] if part["type"] == "library"}
    numbers = {"monai": METADATA["monai_version"], "torch": METADATA["pytorch_version"]}
    assert versions == METADATA["required_packages_version"] | numbers | {"numpy": METADATA["numpy_version"]}
    (weights,) = (part for part in bill["components"] if part["type"] == "machine-learning-model")
    assert (weights["name"], weights["hashes"]) == ("models/model.pt", sha256(b"weights"))
    bundle = bill["metadata"]["component"]
    assert (bundle["name"], bundle["version"]) == ("brats_finetune", METADATA["version"])
    needs = {each["ref"]: each.get("dependsOn", []) for each in bill["dependencies"]}[bundle["bom-ref"]]
    assert len(needs) == len(bill["components"])
    assert "pkg:pypi/pytorch-ignite@0.5.5" in needs


def test_the_bill_names_the_script_that_a_package_holds(folder):
    script = folder / "common/pages/niivue.umd.js"
    script.parent.mkdir(parents=True)
    script.write_bytes(b"script")
    (part,) = (part for part in valid(folder)["components"] if part["name"] == "@niivue/niivue")
    assert (part["version"], part["purl"]) == ("0.69.0", "pkg:npm/%40niivue/niivue@0.69.0")
    assert part["hashes"] == sha256(b"script")


def test_the_serial_number_follows_the_content(folder):
    first = valid(folder)
    assert valid(folder) == first
    (folder / "models/model.pt").write_bytes(b"others")
    assert valid(folder)["serialNumber"] != first["serialNumber"]
