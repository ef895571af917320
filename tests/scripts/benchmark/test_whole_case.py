"""The whole case of `scripts.benchmark inference`, at the size of the quick start."""

import nibabel
import numpy as np
import pytest

from scripts.benchmark import timing, whole_case
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


def test_each_variant_of_the_trained_network_is_scored(tmp_path, monkeypatch):
    """The commands are run by hand; here, what they get and where their label maps are looked for."""
    seen = []
    monkeypatch.setattr(whole_case, "run_process", lambda words, *_: seen.append(words) or timing.Measured(1.0))
    monkeypatch.setattr(whole_case, "dice_of", lambda folder, scans: {"WT": len(folder.name) / 10})
    variants = whole_case._variants(tmp_path / "model.pt", tmp_path / "scans", tmp_path / "out", is_scored=True)
    assert {name: run().dice for name, run in variants.items()} == {
        "ours": {"WT": 0.4},
        "ours, bfloat16": {"WT": 0.4},
        "stock": {"WT": 0.5},
        "stock, cropped to the brain": {"WT": 0.7},
    }
    names = ("ours", "half", "stock", "cropped")
    for name, words in zip(names, seen, strict=True):
        assert {str(tmp_path / "out" / name), f"--output_dir={tmp_path / 'out' / name}"} & set(words)
    assert [words[-1] == "box" for words in seen] == [False, False, False, True]
