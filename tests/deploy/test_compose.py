"""The Compose file against what it names: files, commands, variables. `make lint` checks it by Compose's schema."""

import inspect
import re

import pytest
import yaml

pytest.importorskip("pydicom", reason="needs the environment of make deploy")

from common.cli import options_of
from deploy import service
from tests.support import ROOT

FILE = ROOT / "deploy/compose.yaml"
SECTION = (ROOT / "deploy/README.md").read_text().split("\n## A service\n")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load(FILE.read_text())


def test_its_commands_are_commands_of_the_service(compose):
    ours = compose["services"]["segmentation"]
    assert ours["entrypoint"] == ["python", "-m", "deploy.service"]
    name, *run = ours["command"]
    assert name == "run"
    kind, *health = ours["healthcheck"]["test"]
    assert (kind, health[:4]) == ("CMD", [*ours["entrypoint"], "health"])
    run, health = (options_of(words)[1] for words in (run, health[4:]))
    assert run["work"] == health["work"]
    assert run.keys() <= inspect.signature(service.serve).parameters.keys()
    assert health.keys() <= inspect.signature(service.health).parameters.keys()
    assert any(run["work"].startswith(f"{folder}/") for folder in ours["tmpfs"])  # all else is read-only
    assert ours["read_only"] is True


def test_its_environment_is_what_the_service_reads(compose):
    ours = compose["services"]["segmentation"]
    read = set(re.findall(r'os\.environ\.get\("(ORTHANC_\w+)"', inspect.getsource(service)))
    assert ours["environment"].keys() == read
    assert ours["environment"]["ORTHANC_PASSWORD_FILE"] == f"/run/secrets/{ours['secrets'][0]}"
    (bundle,) = ours["volumes"]
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    assert f"HOLOSCAN_MODEL_PATH={bundle['target']}" in dockerfile.split()
    assert bundle["read_only"] is True


def test_what_it_names_exists(compose):
    ours = compose["services"]["segmentation"]
    context = (FILE.parent / ours["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / ours["build"]["dockerfile"]).is_file()
    for each in compose["services"].values():
        assert set(each["secrets"]) <= compose["secrets"].keys()
        assert set(each.get("depends_on", {})) <= compose["services"].keys()
    named = [volume.split(":")[0] for volume in compose["services"]["orthanc"]["volumes"]]
    assert named == list(compose["volumes"])


def test_the_readme_names_its_variables_and_secrets(compose):
    variables = set(re.findall(r"\$\{(\w+)", FILE.read_text()))
    assert variables == {"BUNDLE", "DICOM_ADDRESS", "DICOM_MODALITIES", "SECRETS", "SEND_TO"}
    assert not [name for name in variables if f"`{name}`" not in SECTION]
    for secret in compose["secrets"].values():
        assert secret["file"].rpartition("/")[2] in SECTION


def test_nothing_is_open_or_floating(compose):
    """Ports are bound to this machine, images have versions, and no password is in the file."""
    ports = [port for each in compose["services"].values() for port in each.get("ports", [])]
    assert all(port.startswith(("127.0.0.1:", "${DICOM_ADDRESS:-127.0.0.1}:")) for port in ports)
    images = [each["image"] for each in compose["services"].values()]
    assert all(re.fullmatch(r"[\w/]+:\d+\.\d+\.\d+", image) for image in images)
    assert compose["services"]["orthanc"]["environment"]["ORTHANC__AUTHENTICATION_ENABLED"] == "true"
    settings = [str(value) for each in compose["services"].values() for value in each["environment"].values()]
    assert not [value for value in settings if "password" in value.lower() and not value.startswith("/run/secrets/")]
    assert all(each["restart"] == "unless-stopped" and each["healthcheck"] for each in compose["services"].values())
