"""The whole case of `scripts.benchmark inference`, at the size of the quick start."""

import nibabel
import numpy as np

from scripts.benchmark import whole_case
from scripts.phantoms.cohort import make


def test_the_stock_way_writes_regions_on_the_grid_of_the_scan(tmp_path, monkeypatch):
    monkeypatch.setattr(whole_case, "SIZE", "micro")
    monkeypatch.setattr(whole_case, "EDGE", 64)
    make("brats", 1, str(tmp_path / "cohort"), spacing=4.0, workers=1)
    checkpoint = whole_case._write_checkpoint(tmp_path / "model.pt")
    whole_case.segment(str(checkpoint), str(tmp_path / "cohort"), str(tmp_path / "stock"))
    (file,) = (tmp_path / "stock").iterdir()
    scan = nibabel.load(next((tmp_path / "cohort").rglob("*_flair.nii.gz")))
    found = nibabel.load(file)
    assert found.shape[:3] == scan.shape
    np.testing.assert_allclose(found.affine, scan.affine)
    assert set(np.unique(np.asarray(found.dataobj))) == {0, 1}
