"""Files, commands and variables in the Compose file exist. `make lint` checks the file by Compose's schema."""

import inspect
import json
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
    read = set(re.findall(r'"(ORTHANC_\w+)"', inspect.getsource(service)))
    assert ours["environment"].keys() == read
    assert ours["environment"]["ORTHANC_PASSWORD_FILE"] == f"/run/secrets/{ours['secrets'][0]}"


def test_nothing_but_the_service_changes_orthanc_and_nobody_else_reaches_it(compose):
    """SECURITY.md: "Its password comes from a file, never from the command line; the Compose file has no default
    password, lets only the service's user change or delete, and opens ports on this machine only"
    """
    parameters = [name for command in service.COMMANDS.values() for name in inspect.signature(command).parameters]
    assert not [name for name in parameters if "password" in name]
    files = [secret["file"] for secret in compose["secrets"].values()]
    assert [file for file in files if not re.fullmatch(r"\$\{SECRETS:\?.*\}/\w+(\.json)?", file)] == []
    orthanc = compose["services"]["orthanc"]
    settings = orthanc["environment"]
    assert settings["ORTHANC__AUTHENTICATION_ENABLED"] == "true"
    assert not [name for name in settings if re.search("USERS|PASSWORD", name)], "they are secrets"
    (script,) = json.loads(settings["ORTHANC__LUA_SCRIPTS"])
    assert f"./roles.lua:{script}:ro" in orthanc["volumes"], "test_service.py tries it"
    ports = [port for container in compose["services"].values() for port in container.get("ports", [])]
    assert [port.rsplit(":", 2)[0] for port in ports] == ["127.0.0.1", "${DICOM_ADDRESS:-127.0.0.1}"]
    assert not [container for container in compose["services"].values() if "network_mode" in container]
