"""What each bundle carries beside its configs: metadata, licence, logging, the symlink to the common code."""

import configparser
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.support import BUNDLES, MODALITIES, ROOT

SCHEMA = json.loads((ROOT / "tests/../scripts/package/meta_schema_20240725.json").read_text())


@pytest.fixture(params=BUNDLES)
def bundle(request) -> Path:
    return ROOT / "bundles" / request.param


@pytest.fixture
def metadata(bundle) -> dict:
    return json.loads((bundle / "configs/metadata.json").read_text())


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def test_bundles_are_the_five():
    assert {path.name for path in (ROOT / "bundles").iterdir() if path.is_dir()} == set(BUNDLES)


def test_metadata_follow_monai_schema(metadata):
    jsonschema.Draft201909Validator(SCHEMA).validate(metadata)
    assert metadata["schema"].endswith("/meta_schema_20240725.json")


def test_schema_refuses_what_lacks_a_required_key(metadata):
    del metadata["network_data_format"]
    with pytest.raises(jsonschema.ValidationError, match="network_data_format"):
        jsonschema.Draft201909Validator(SCHEMA).validate(metadata)


def test_version_is_in_both_changelogs(metadata):
    assert metadata["version"] in metadata["changelog"]
    assert f"## [{metadata['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_versions_are_the_pinned_ones(metadata, pins):
    stated = {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
        **metadata["required_packages_version"],
    }
    assert stated == {name: pins[name] for name in stated}


def test_channels_are_the_cohorts_modalities(bundle, metadata):
    modalities = MODALITIES[bundle.name]
    image = metadata["network_data_format"]["inputs"]["image"]
    assert image["num_channels"] == len(modalities)
    assert list(image["channel_def"].values()) == modalities


def test_channel_definitions_are_complete(metadata):
    formats = metadata["network_data_format"]
    for tensors in (formats["inputs"], formats["outputs"], formats.get("post_processed_outputs", {})):
        for tensor in tensors.values():
            definition = tensor.get("channel_def")
            assert definition is None or list(definition) == [str(i) for i in range(tensor["num_channels"])]


def test_spatial_shapes_divide_by_32(metadata):
    for tensor in metadata["network_data_format"]["inputs"].values():
        assert all(edge % 32 == 0 for edge in tensor["spatial_shape"])


def test_licence_is_that_of_the_repository(bundle):
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "Version 2.0, January 2004" in licence
    assert (bundle / "LICENSE").read_text() == licence


def test_documents_are_there(bundle):
    readme = (bundle / "docs/README.md").read_text()
    assert readme.startswith(f"# {bundle.name}")
    assert "not a medical device" in readme
    assert "ships no data" in (bundle / "docs/data_license.txt").read_text()


@pytest.mark.parametrize("workflow", ["train", "evaluate", "inference"])
def test_readme_states_the_defaults_of_the_config(bundle, workflow):
    if not (bundle / f"configs/{workflow}.yaml").exists():
        return
    config = yaml.safe_load((bundle / f"configs/{workflow}.yaml").read_text())
    table = (bundle / "docs/README.md").read_text().split(f"<!-- options of {workflow}.yaml -->")[1].split("<!--")[0]
    rows = re.findall(r"^\| `(\w+)` +\| `(.+?)` +\|", table, flags=re.MULTILINE)
    assert len(rows) >= 15
    for option, default in rows:
        value = config[option]
        if isinstance(value, str) and value.startswith("$@bundle_root"):
            assert f"/{default}'" in value
        elif not str(value).startswith(("$", "@")):
            assert yaml.safe_load(default.replace("e-", ".0e-")) == value, option


def test_readme_names_the_differences_of_its_configs(bundle):
    tags = {tag for path in bundle.glob("configs/*.yaml") for tag in re.findall(r"DIFF-\d+", path.read_text())}
    text = (bundle / "docs/README.md").read_text()
    section = text.split("\n## Differences from the paper\n")[1].split("\n## ")[0]
    assert set(re.findall(r"DIFF-\d+", section)) == tags


def test_readme_has_the_sections_of_the_model_zoo_and_the_configs_numbers(bundle):
    """Those of the Model Zoo's brats_mri_segmentation, in its order."""
    text = (bundle / "docs/README.md").read_text()
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    zoo = ["Model Overview", "Data", "Training configuration", "Input", "Output", "Performance"]
    zoo += ["MONAI Bundle Commands", "References", "License"]
    assert [title for title in titles if title in zoo] == zoo
    config = yaml.safe_load((bundle / "configs/train.yaml").read_text())
    recipe = {**config, **config["recipes"]["text"]}
    stated = text.split("\n## Training configuration\n")[1].split("\n## ")[0]
    assert float(re.search(r"weight decay (\S+)", stated)[1]) == config["optimizer"]["weight_decay"]
    assert float(re.search(r"Learning rate: (\S+)", stated)[1]) == recipe["learning_rate"]
    assert re.search(r"Length: (.+)", stated)[1].replace(",", "").removesuffix(" iterations") == str(
        recipe["iterations"]
    )


def test_common_is_a_relative_symlink_to_the_one_package(bundle):
    common = bundle / "common"
    assert common.is_symlink()
    assert str(common.readlink()) == "../../common"
    assert common.resolve() == (ROOT / "common").resolve()


def test_logging_names_standard_library_classes_only(bundle):
    config = configparser.RawConfigParser()
    assert config.read(bundle / "configs/logging.conf")
    handlers = [config[section] for section in config.sections() if section.startswith("handler_")]
    assert handlers
    for handler in handlers:
        assert issubclass(getattr(logging, handler["class"]), logging.Handler)
    assert not any("class" in config[section] for section in config.sections() if section.startswith("formatter_"))


def test_logging_is_the_same_in_all_bundles():
    assert len({(ROOT / "bundles" / name / "configs/logging.conf").read_text() for name in BUNDLES}) == 1


def test_logging_prints_info_to_stdout_and_keeps_ignite_silent(bundle):
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
    run = subprocess.run([sys.executable, "-c", program], cwd=bundle, capture_output=True, text=True, check=True)
    assert [line.split(maxsplit=1)[1] for line in run.stdout.splitlines()] == ["INFO shown", "WARNING worth knowing"]
    assert run.stderr == ""
