"""A study of short commands, and its command line."""

import sys
from pathlib import Path

import pytest
import yaml

from scripts.experiments import study as study_module
from tests.scripts.experiments.work import WORK


@pytest.fixture
def work(tmp_path) -> Path:
    """The script of all jobs: logs its name, waits while `wait-NAME` exists, and fails if `fail-NAME` exists."""
    path = tmp_path / "work.py"
    path.write_text(WORK)
    return path


@pytest.fixture
def study(tmp_path, monkeypatch) -> Path:
    """A study of three entries; the second needs the first and has a further axis."""
    content = {
        "title": "A study",
        "datalists": {},
        "runs": {
            "first": {
                "command": "python {script} first {output}",
                "files": ["script"],
                "for": {"size": ["tiny", "small"]},
            },
            "second": {
                "command": "python {script} second-{size}-{fold} {output} {pretrained}",
                "files": ["script"],
                "pretrained": "first",
                "for": {"fold": [0, 1]},
            },
            "alone": {"command": "python {script} alone {output}", "files": ["script"]},
        },
    }
    path = tmp_path / "commands.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    monkeypatch.setattr(study_module, "STUDIES", tmp_path)
    return path


@pytest.fixture
def options(study, work, tmp_path) -> dict:
    """Options of plan and run for that study."""
    return {"study": str(study), "output": str(tmp_path / "out"), "files": {"script": str(work)}}


@pytest.fixture
def command(study, work, tmp_path) -> list[str]:
    """The words of a command line for that study, without plan or run."""
    places = [f"--output={tmp_path / 'out'}", f"--files={{'script':'{work}'}}"]
    return [sys.executable, "-m", "scripts.experiments", str(study), *places]
