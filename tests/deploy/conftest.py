"""Cohorts, models, bundles and a DICOM check; all tests of this folder need the environment of make deploy."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("pydicom", reason="needs the environment of make deploy")

from deploy.bundle import Bundle, open_bundle
from scripts.phantoms.cohort import make
from tests.bundles.workflows import untrained
from tests.support import ROOT, execute


@pytest.fixture(scope="session")
def cohorts(tmp_path_factory) -> Callable[..., Path]:
    """Returns a function that makes a cohort of one subject in a layout, by default with or without skull as usual."""
    root = tmp_path_factory.mktemp("cohorts")

    @cache
    def make_cohort(layout: str, skull_stripped: bool | None = None) -> Path:
        folder = root / f"{layout} {skull_stripped}"
        make(layout, 1, str(folder), spacing=4, skull_stripped=skull_stripped, workers=1)
        return folder

    return make_cohort


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


@pytest.fixture
def assert_valid() -> Iterator[Callable[[Path], None]]:
    """Asserts that dciodvfy finds no error in a DICOM file; without it, a test runs but is also reported as skipped."""
    installed = shutil.which("dciodvfy")

    def check(path: Path) -> None:
        if installed:
            result = subprocess.run([installed, path], capture_output=True, text=True, check=False)
            errors = [line for line in result.stderr.splitlines() if line.startswith("Error")]
            assert (errors, result.returncode) == ([], 0)

    yield check
    if not installed:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools); DICOM files were not validated")
