"""A cohort, its datalist, and a run of the command that is killed once and repeated."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.nnunet.command import SMALL, Cohort, command
from tests.support import ROOT, execute


class NotInstalled(pytest.Module):
    def collect(self):
        pytest.skip(
            "nnU-Net is not installed here; make nnunet, then use .venv-nnunet/bin/python", allow_module_level=True
        )


def pytest_pycollect_makemodule(module_path, parent):
    """Skip the modules of this folder, which import nnU-Net, where it is missing."""
    if importlib.util.find_spec("nnunetv2") is None:
        return NotInstalled.from_parent(parent, path=module_path)
    return None


@pytest.fixture(autouse=True)
def environment():
    """MONAI's runner sets environment variables; here they end with the test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


class Run(NamedTuple):
    command: list[str]
    output: Path
    killed: str  # what was printed before the kill
    printed: str  # and after it


@pytest.fixture(scope="session")
def cohort(cohorts, tmp_path_factory) -> Cohort:
    """Six subjects of the embedded BraTS: three for training, one for validation, two held out."""
    made = Cohort(cohorts / "brats", tmp_path_factory.mktemp("cohort") / "brats.json")
    scan = [f"--root={made.root}", f"--output={made.datalist}", "--validation=1", "--testing=2"]
    result = execute([sys.executable, "-m", "scripts.datalists", "brats", *scan])
    assert result.returncode == 0, result.stderr
    return made


@pytest.fixture(scope="session")
def finished(cohort, tmp_path_factory) -> Run:
    """The whole command, killed as soon as its training has saved a checkpoint, then repeated to the end."""
    output = tmp_path_factory.mktemp("nnunet") / "output"
    started = command(cohort, output, *SMALL)
    log = output.with_suffix(".log")
    with log.open("w") as file:
        process = subprocess.Popen(started, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        limit = time.monotonic() + 900
        while process.poll() is None and time.monotonic() < limit and "Epoch 1" not in log.read_text():
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    (checkpoint,) = output.rglob("checkpoint_best.pth")
    cut = checkpoint.read_bytes()[:-100]  # as if the kill had come while nnU-Net wrote another one
    checkpoint.with_name("checkpoint_latest.pth").write_bytes(cut)
    result = execute(started)
    assert result.returncode == 0, log.read_text() + result.stdout + result.stderr
    return Run(started, output, log.read_text(), result.stdout)
