"""The whole case of `scripts.benchmark inference`, at the size of the quick start."""

import nibabel
import numpy as np
import pytest

from scripts.benchmark import whole_case
from scripts.phantoms.cohort import make


def test_the_stock_way_writes_regions_on_the_grid_of_the_scan(tmp_path):
    make("brats", 1, str(tmp_path / "cohort"), spacing=4.0, workers=1)
    checkpoint = whole_case._write_checkpoint(tmp_path / "model.pt", "micro", 64)
    whole_case.segment("cpu", str(checkpoint), str(tmp_path / "cohort"), str(tmp_path / "stock"))
    (file,) = (tmp_path / "stock").iterdir()
    scan = nibabel.load(next((tmp_path / "cohort").rglob("*_flair.nii.gz")))
    found = nibabel.load(file)
    assert found.shape[:3] == scan.shape
    np.testing.assert_allclose(found.affine, scan.affine)
    assert set(np.unique(np.asarray(found.dataobj))) == {0, 1}


def test_dice_of_label_maps_and_of_channels_is_the_same(tmp_path):
    """Two cases counted by hand: TC is 1 and 4, WT all labels, ET is 4."""
    cases = {  # voxels: reference, prediction; shares 2 |A and B| / (|A| + |B|)
        "a": ([1, 2, 4, 4, 0, 0, 0, 0], [1, 2, 4, 0, 2, 0, 0, 0]),  # TC 4/5, WT 6/8, ET 2/3
        "b": ([1, 2, 4, 0, 0, 0, 0, 0], [1, 2, 4, 0, 0, 0, 0, 0]),  # 1
    }
    for name in ("scans", "ours", "stock"):
        (tmp_path / name).mkdir()
    for case, (reference, found) in cases.items():
        found = np.array(found, np.uint8).reshape(2, 2, 2)
        channels = np.stack([np.isin(found, labels) for labels in ((1, 4), (1, 2, 4), (4,))], axis=-1)
        volumes = {
            f"scans/{case}_seg": np.array(reference, np.uint8).reshape(2, 2, 2),
            f"ours/{case}": found,
            f"stock/{case}_flair_trans": channels.astype(np.float32),
        }
        for file, voxels in volumes.items():
            nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / f"{file}.nii.gz")
    expected = {"TC": (4 / 5 + 1) / 2, "WT": (3 / 4 + 1) / 2, "ET": (2 / 3 + 1) / 2}
    for name in ("ours", "stock"):
        assert whole_case.dice_of(tmp_path / name, tmp_path / "scans") == pytest.approx(expected)
