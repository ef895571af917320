"""An empty store of MLflow, which takes seconds to make."""

import importlib.util
import shutil
from pathlib import Path

import pytest


class NotInstalled(pytest.Module):
    def collect(self):
        pytest.skip(
            "MLflow or wandb is not installed here; make tracking, then use .venv-tracking/bin/python",
            allow_module_level=True,
        )


def pytest_pycollect_makemodule(module_path, parent):
    """Skip the modules of this folder, which import MLflow and wandb, where one is missing."""
    if None in map(importlib.util.find_spec, ("mlflow", "wandb")):
        return NotInstalled.from_parent(parent, path=module_path)
    return None


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    import mlflow

    file = tmp_path_factory.mktemp("mlflow") / "mlruns.db"
    mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def store(empty_store, tmp_path, monkeypatch) -> Path:
    """The database of a store of its own, in a folder that takes the files of its runs."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(empty_store, tmp_path / "mlruns.db"))
