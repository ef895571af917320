"""Each bundle's metadata, licence, logging, README, and symlink to the common code."""

import json
import re
from pathlib import Path

import pytest

from tests.support import BUNDLES, MODALITIES, ROOT


@pytest.fixture(params=BUNDLES)
def bundle(request) -> Path:
    return ROOT / "bundles" / request.param


@pytest.fixture
def metadata(bundle) -> dict:
    return json.loads((bundle / "configs/metadata.json").read_text())


def test_the_version_is_the_newest_of_both_changelogs(metadata):
    assert metadata["version"] in metadata["changelog"]
    assert re.search(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == metadata["version"]


def test_versions_of_packages_are_the_pinned_ones(metadata):
    pins = dict(re.findall(r"^([\w-]+)==(.+)$", (ROOT / "common/requirements.txt").read_text(), re.MULTILINE))
    stated = {name: metadata[f"{key}_version"] for key, name in {"monai": "monai", "pytorch": "torch"}.items()}
    stated |= {"numpy": metadata["numpy_version"], **metadata["required_packages_version"]}
    assert stated == pins


def test_channels_are_all_defined_and_those_of_the_image_are_the_cohorts_modalities(bundle, metadata):
    formats = metadata["network_data_format"]
    assert list(formats["inputs"]["image"]["channel_def"].values()) == MODALITIES[bundle.name]
    for tensors in (formats["inputs"], formats["outputs"], formats.get("post_processed_outputs", {})):
        for tensor in tensors.values():
            definition = tensor.get("channel_def")
            assert definition is None or list(definition) == [str(i) for i in range(tensor["num_channels"])]
