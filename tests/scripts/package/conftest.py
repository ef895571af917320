"""A package shared by the tests."""

from pathlib import Path

import pytest

from scripts.package.build import build


@pytest.fixture(scope="session")
def original(tmp_path_factory) -> Path:
    """The package of atlas_stage2, with its zip and its list of SHA-256 beside it; tests must not change it."""
    folder = tmp_path_factory.mktemp("dist")
    build("atlas_stage2", folder, verify=False)
    return folder / "atlas_stage2"
