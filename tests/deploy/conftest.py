"""Cohorts, models and bundles; all tests of this folder need the environment of make deploy."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("pydicom", reason="needs the environment of make deploy")

from deploy.bundle import Bundle, open_bundle
from tests.bundles.workflows import untrained
from tests.deploy.dicom.dicom_study import cohorts as cohorts
from tests.support import ROOT, execute


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Path]:
    """Layout -> untrained checkpoint for its bundle; its masks are noise with voxels of every segment."""
    folder = tmp_path_factory.mktemp("models")
    conventions = {"brats": "brats2021", "atlas": "atlas"}
    return {
        layout: Path(untrained(f"{layout}_finetune", folder / f"{layout}.pt", label_convention=convention))
        for layout, convention in conventions.items()
    }


@pytest.fixture(scope="session")
def tumours(models) -> Bundle:
    """The bundle for tumours."""
    return open_bundle(ROOT / "bundles/brats_finetune", models["brats"])


@pytest.fixture(scope="session")
def package(tmp_path_factory, models) -> Path:
    """The package of the bundle for tumours, with weights."""
    folder = tmp_path_factory.mktemp("dist")
    options = [f"--output={folder}", f"--weights={models['brats']}"]
    result = execute([sys.executable, "-m", "scripts.package", "brats_finetune", *options])
    assert result.returncode == 0, result.stderr
    return folder / "brats_finetune"
