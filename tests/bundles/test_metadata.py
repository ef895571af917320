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

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "tests/oracles/meta_schema_20240725.json").read_text())
BUNDLES = {
    "ukb_ssl_pretrain": ["T1", "FLAIR"],
    "brats_stage2": ["FLAIR", "T1ce", "T1", "T2"],
    "brats_finetune": ["FLAIR", "T1ce", "T1", "T2"],
    "atlas_stage2": ["T1"],
    "atlas_finetune": ["T1"],
}


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
    modalities = BUNDLES[bundle.name]
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


def options(section: str) -> list[tuple[str, str]]:
    """The rows (option, default) of a README's table."""
    return re.findall(r"^\| `(\w+)` +\| (.+?) +\|", section, flags=re.MULTILINE)


def test_readme_states_the_options_and_defaults_of_the_config(bundle):
    config = yaml.safe_load((bundle / "configs/train.yaml").read_text())
    training, *_ = re.split(r"\n## (?:Evaluation|Embeddings)", (bundle / "docs/README.md").read_text())
    rows = options(training)
    assert len(rows) > 15
    for option, default in rows:
        assert option in config
        is_computed = isinstance(config[option], str) and config[option].startswith("$")
        if default.startswith("`") and not is_computed:
            assert yaml.safe_load(default.strip("`").replace("e-", ".0e-")) == config[option], option


@pytest.mark.parametrize(("workflow", "heading"), [("evaluate", "Evaluation"), ("inference", "Inference")])
@pytest.mark.parametrize("name", ["brats_finetune", "atlas_finetune"])
def test_readme_states_the_options_of_evaluation_and_inference(name, workflow, heading):
    bundle = ROOT / "bundles" / name
    config = yaml.safe_load((bundle / f"configs/{workflow}.yaml").read_text())
    (section,) = re.findall(
        rf"^## {heading}$(.*?)^## ", (bundle / "docs/README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    rows = options(section)
    assert len(rows) > 5
    for option, default in rows:
        assert option in config
        is_computed = isinstance(config[option], str) and config[option][0] in "$@"
        if not is_computed:
            assert yaml.safe_load(default.strip("`")) == config[option], option


@pytest.mark.parametrize("name", ["ukb_ssl_pretrain", "brats_stage2", "atlas_stage2"])
def test_readme_states_the_options_and_defaults_of_embeddings(name):
    bundle = ROOT / "bundles" / name
    config = yaml.safe_load((bundle / "configs/inference.yaml").read_text())
    _, _, section = (bundle / "docs/README.md").read_text().partition("\n## Embeddings")
    rows = options(section)
    assert len(rows) > 5
    for option, default in rows:
        stated, value = yaml.safe_load(default.strip("`")), config[option]
        if isinstance(value, str) and value.startswith("$"):
            value = value.replace("$@bundle_root + '/", "").rstrip("'")
        assert stated == value, option


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
