"""A package that the tests share."""

from pathlib import Path

import pytest

from scripts.package.build import build


@pytest.fixture(scope="session")
def original(tmp_path_factory) -> Path:
    """The package of atlas_stage2, its zip and its list beside it. No test changes it."""
    folder = tmp_path_factory.mktemp("dist")
    build("atlas_stage2", folder, verify=False)
    return folder / "atlas_stage2"
