from collections.abc import Callable
from pathlib import Path

import pytest

from tests.common.dicom.dicom_study import cohort_maker


@pytest.fixture(scope="session")
def cohorts(tmp_path_factory) -> Callable[..., Path]:
    """Makes the folder of a cohort of one subject."""
    return cohort_maker(tmp_path_factory.mktemp("cohorts"))
