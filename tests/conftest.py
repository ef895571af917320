"""Fixtures: a tiny embedded cohort in each layout, and bundles that run on it with one thread per process."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests import kept


@pytest.fixture(scope="session")
def cohorts() -> Path:
    """Folder of all cohorts; see `kept.cohorts`. Tests must not change it."""
    return kept.cohorts()


@pytest.fixture(scope="session")
def trained() -> Callable[[str], Path]:
    """Function: bundle -> folder of its training of one step; see `kept.trained`. Tests must not change it."""
    return kept.trained


@pytest.fixture
def without_initialisation(monkeypatch):
    """Networks keep uninitialised weights, for tests of shapes: PyTorch would draw 70 million random numbers."""
    for name in ("trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "uniform_", "normal_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)


torch.set_num_threads(1)
