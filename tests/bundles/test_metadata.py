"""What each bundle carries beside its configs: metadata, licence, logging, the symlink to the common code."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from scripts.package.check import SCHEMA
from tests.support import BUNDLES, MODALITIES, ROOT


@pytest.fixture(params=BUNDLES)
def bundle(request) -> Path:
    return ROOT / "bundles" / request.param


@pytest.fixture
def metadata(bundle) -> dict:
    return json.loads((bundle / "configs/metadata.json").read_text())


def test_bundles_are_the_five():
    assert {path.name for path in (ROOT / "bundles").iterdir() if path.is_dir()} == set(BUNDLES)


def test_metadata_follow_monai_schema(metadata):
    jsonschema.Draft201909Validator(json.loads(SCHEMA.read_text())).validate(metadata)
    assert metadata["schema"].endswith(f"/{SCHEMA.name}")


def test_the_version_is_in_both_changelogs(metadata):
    assert metadata["version"] in metadata["changelog"]
    assert f"## [{metadata['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_versions_of_packages_are_the_pinned_ones(metadata):
    pins = dict(re.findall(r"^([\w-]+)==(.+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    stated = {name: metadata[f"{key}_version"] for key, name in {"monai": "monai", "pytorch": "torch"}.items()}
    stated |= {"numpy": metadata["numpy_version"], **metadata["required_packages_version"]}
    assert stated == {name: pins[name] for name in stated}


def test_channels_are_all_defined_and_those_of_the_image_are_the_cohorts_modalities(bundle, metadata):
    formats = metadata["network_data_format"]
    assert list(formats["inputs"]["image"]["channel_def"].values()) == MODALITIES[bundle.name]
    for tensors in (formats["inputs"], formats["outputs"], formats.get("post_processed_outputs", {})):
        for tensor in tensors.values():
            definition = tensor.get("channel_def")
            assert definition is None or list(definition) == [str(i) for i in range(tensor["num_channels"])]


def test_licence_common_code_and_logging_are_those_of_the_repository(bundle):
    assert (bundle / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert str((bundle / "common").readlink()) == "../../common"
    logging = "configs/logging.conf"
    assert (bundle / logging).read_bytes() == (ROOT / "bundles" / BUNDLES[0] / logging).read_bytes()


def test_the_readme_names_the_differences_of_its_configs(bundle):
    tags = {tag for path in bundle.glob("configs/*.yaml") for tag in re.findall(r"DIFF-\d+", path.read_text())}
    section = (bundle / "docs/README.md").read_text().split("\n## Differences from the paper\n")[1].split("\n## ")[0]
    assert set(re.findall(r"DIFF-\d+", section)) == tags


def test_logging_prints_info_to_stdout_and_keeps_ignite_silent():
    program = """
import logging.config
logging.getLogger("ignite.engine.engine.SupervisedTrainer").setLevel(logging.NOTSET)
logging.config.fileConfig("configs/logging.conf", disable_existing_loggers=False)
logging.getLogger("somewhere").info("shown")
logging.getLogger("somewhere").debug("too fine")
logging.getLogger("ignite.engine.engine").error("said elsewhere")
logging.getLogger("ignite.engine.engine.SupervisedTrainer").error("said elsewhere")
logging.getLogger("monai.bundle.workflows").info("all properties")
logging.getLogger("monai.bundle.scripts").warning("worth knowing")
"""
    command, place = [sys.executable, "-c", program], ROOT / "bundles" / BUNDLES[0]  # all have the same file
    run = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    assert [line.split(maxsplit=1)[1] for line in run.stdout.splitlines()] == ["INFO shown", "WARNING worth knowing"]
    assert run.stderr == ""
