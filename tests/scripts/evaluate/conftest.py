"""The cohort that the tests of the command score."""

import pytest

from scripts.pages import evaluation as pages
from tests.scripts.evaluate.evaluations import AFFINE, blobs, save


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """Predictions and references of five cases with labels 0 and 1; the page is left out."""
    monkeypatch.setattr(pages, "write_pages", lambda folder, *_: folder / "evaluation.html")
    arrays = {}
    for number in range(5):
        pair = blobs(2 * number), blobs(2 * number + 1)
        if number == 3:
            pair[0][:] = 0
        save(tmp_path / f"p/c{number}.nii.gz", pair[0], AFFINE)
        save(tmp_path / f"r/c{number}.nii.gz", pair[1], AFFINE)
        arrays[f"c{number}"] = pair
    return tmp_path, arrays
