from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from scripts.phantoms.cohort import make


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
