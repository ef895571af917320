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
    read = set(re.findall(r'"(ORTHANC_\w+)"', inspect.getsource(service)))
    assert ours["environment"].keys() == read
    assert ours["environment"]["ORTHANC_PASSWORD_FILE"] == f"/run/secrets/{ours['secrets'][0]}"
