"""Each environment variable that stops or changes a command is named in its message; commands start cold."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from common.environment import child_environment
from tests.scripts.evaluate.evaluations import blobs, save
from tests.support import ROOT, execute_as_unknown_user, needs_root

RECIPES = {  # file -> lines that set the environment
    "container/Dockerfile": r"^ENV (.*)$",
    "deploy/Dockerfile": r"^ENV (.*)$",
    "container/brainsegfounder.def": r"^%environment\n((?:    .*\n)+)",
}


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


def environment_of(recipe):
    """Return the environment variables that a container recipe sets."""
    settings = re.findall(RECIPES[recipe], (ROOT / recipe).read_text(), re.MULTILINE)
    exports = "\n".join(line if line.startswith(" ") else f"export {line}" for line in settings)
    shell = ["env", "-i", "sh", "-euc", f"{exports}\nenv"]
    lines = subprocess.run(shell, capture_output=True, text=True, check=True).stdout.splitlines()
    return dict(line.split("=", 1) for line in lines)


@needs_root
@pytest.mark.parametrize("module", ["getpass", pytest.param("monai.bundle", marks=pytest.mark.slow)])
@pytest.mark.parametrize("recipe", RECIPES)
def test_any_user_may_run_a_container(recipe, module, folder):
    """`monai.bundle run` imports MONAI before the bundle's code, so it needs the image's variables."""
    variables = environment_of(recipe)
    assert variables["HOME"] == "/tmp", "everybody may write to it"
    command = [sys.executable, "-c", f"import getpass, {module}; getpass.getuser()"]
    ended = execute_as_unknown_user(command, **variables | {"HOME": str(folder)})
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_child_process_imports_the_checkout_and_nothing_of_the_current_folder(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/__init__.py").write_text("raise SystemExit('of the current folder')")
    command = [sys.executable, "-c", "import os, scripts; print(os.getcwd(), scripts.__file__)"]
    result = subprocess.run(command, cwd=tmp_path, env=child_environment(), capture_output=True, text=True, check=True)
    assert result.stdout == f"{tmp_path} {ROOT / 'scripts/__init__.py'}\n"
