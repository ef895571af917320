"""Each environment variable that stops or changes a command is named in its message; commands start cold."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from common.environment import child_environment
from tests.scripts.evaluate.evaluations import blobs, save
from tests.support import ROOT


@pytest.fixture
def folder():
    """Yield a folder that any user may write to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture
def evaluate(folder):
    """Return a command that evaluates one case and writes to the folder `out`."""
    for name, seed in (("p", 0), ("r", 1)):
        save(folder / name / "case.nii.gz", blobs(seed))
    options = [f"--predictions={folder / 'p'}", f"--references={folder / 'r'}", f"--output={folder / 'out'}"]
    return [sys.executable, "-m", "scripts.evaluate", *options, "--protocol=atlas", "--workers=1"]


def test_a_child_process_imports_the_checkout_and_nothing_of_the_current_folder(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/__init__.py").write_text("raise SystemExit('of the current folder')")
    command = [sys.executable, "-c", "import os, scripts; print(os.getcwd(), scripts.__file__)"]
    result = subprocess.run(command, cwd=tmp_path, env=child_environment(), capture_output=True, text=True, check=True)
    assert result.stdout == f"{tmp_path} {ROOT / 'scripts/__init__.py'}\n"
