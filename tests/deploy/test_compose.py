"""The Compose file against what it names: files, commands, variables. `make lint` checks it by Compose's schema."""

import inspect
import re

import pytest
import yaml

from common.cli import options_of
from deploy import service
from tests.support import ROOT

FILE = ROOT / "deploy/compose.yaml"


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load(FILE.read_text())


def test_its_commands_and_variables_are_those_of_the_service(compose):
    ours = compose["services"]["segmentation"]
    assert ours["entrypoint"] == ["python", "-m", "deploy.service"]
    name, *run = ours["command"]
    kind, *health = ours["healthcheck"]["test"]
    assert (name, kind, health[:4]) == ("run", "CMD", [*ours["entrypoint"], "health"])
    run, health = (options_of(words)[1] for words in (run, health[4:]))
    assert run["work"] == health["work"]
    assert run.keys() <= inspect.signature(service.serve).parameters.keys()
    assert health.keys() <= inspect.signature(service.health).parameters.keys()
    assert any(run["work"].startswith(f"{folder}/") for folder in ours["tmpfs"])  # all else is read-only
    read = set(re.findall(r'os\.environ\.get\("(ORTHANC_\w+)"', inspect.getsource(service)))
    assert ours["environment"].keys() == read
    assert ours["environment"]["ORTHANC_PASSWORD_FILE"] == f"/run/secrets/{ours['secrets'][0]}"


def test_nothing_is_open_writable_or_floating(compose):
    """Ports are bound to this machine, images have versions, and no password is in the file."""
    services = list(compose["services"].values())
    ports = [port for each in services for port in each.get("ports", [])]
    assert all(port.startswith(("127.0.0.1:", "${DICOM_ADDRESS:-127.0.0.1}:")) for port in ports)
    assert all(re.fullmatch(r"[\w/]+:\d+\.\d+\.\d+", each["image"]) for each in services)
    assert all(each["restart"] == "unless-stopped" and each["healthcheck"] for each in services)
    ours = compose["services"]["segmentation"]
    assert ours["read_only"] is ours["volumes"][0]["read_only"] is True
    assert compose["services"]["orthanc"]["environment"]["ORTHANC__AUTHENTICATION_ENABLED"] == "true"
    settings = [str(value) for each in services for value in each["environment"].values()]
    assert not [value for value in settings if "password" in value.lower() and not value.startswith("/run/secrets/")]
