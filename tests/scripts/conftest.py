"""A folder to fill with files, and a SLURM for the tests of a module."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.scripts.slurm_cluster import PROGRAMS, Slurm


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def slurm():
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: apt-get install slurmctld slurmd slurm-client munge")
    if os.geteuid():
        pytest.skip("SLURM's daemons have to be started as root")
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # a short path: sockets are in it
    slurm = Slurm(folder)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()
        shutil.rmtree(folder)
