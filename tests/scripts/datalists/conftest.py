import pytest


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "cohort"
    folder.mkdir()
    return folder
