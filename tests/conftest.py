"""A tiny embedded cohort in each layout; one thread a test process, as the networks here are too small for more."""

import sys
from pathlib import Path

import pytest
import torch

from tests.support import execute

COHORTS = {"ukb": (6, 3, 0), "brats": (6, 2, 1), "atlas": (7, 3, 1)}  # subjects, validation, testing


@pytest.fixture(scope="session")
def cohorts(tmp_path_factory) -> Path:
    """A folder with ukb, brats and atlas, and the datalist of each beside it."""
    folder = tmp_path_factory.mktemp("cohorts")
    for name, (subjects, validation, testing) in COHORTS.items():
        size = [f"--subjects={subjects}", "--spacing=4", f"--output={folder / name}", "--workers=1"]
        split = [f"--root={folder / name}", f"--output={folder / name}.json"]
        split += [f"--validation={validation}", f"--testing={testing}"]
        for command in (["scripts.phantoms", "make", f"--layout={name}", *size], ["scripts.datalists", name, *split]):
            result = execute([sys.executable, "-m", *command])
            assert result.returncode == 0, result.stderr
    return folder


torch.set_num_threads(1)
