"""What `python -m scripts.planning` decides: raw scans, and the length of a training by its time."""

import json
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from scripts import planning
from scripts.prepare.scans import need_preparation


def test_validations_and_steps_fill_the_hours(monkeypatch):
    """Steps of 0.9 s, and 4 windows of 0.3 s for each of 3 people: 20 validations of 3.6 s leave 3528 s of the hour."""
    monkeypatch.setattr(planning, "step_of", lambda *_: None)
    monkeypatch.setattr(planning, "fits_on_gpu", lambda *_: True)
    timing = SimpleNamespace(mean=0.9 / planning.OVERHEAD)
    monkeypatch.setattr(planning, "Timer", lambda *_, **__: SimpleNamespace(timeit=lambda _: timing))
    monkeypatch.setattr(planning, "EDGES", {"cpu": (64,), "cuda": (64,)})
    scan = SimpleNamespace(modalities=("T1",), name="ours")
    train, seconds = planning.training(scan, 20, [1.0, 1.0, 3.0], 1.0, "cpu")
    assert (train["iterations"], train["val_interval"]) == (20 * 196, 196)
    assert seconds == pytest.approx(20 * (196 * 0.9 + 3.6))
    assert train["spacing"] == [2.0, 2.0, 3.0], "a small network trains on coarse voxels"
    assert "spacing" not in planning.training(scan, 20, [1.0, 1.0, 3.0], 1.0, "cuda")[0]


def test_brains_on_one_grid_are_used_and_scans_on_several_are_prepared(cohorts, tmp_path):
    entry = json.loads((cohorts / "brats.json").read_text())["training"][0]
    case = {"subject": entry["subject"], "image": [str(cohorts / "brats" / file) for file in entry["image"]]}
    assert need_preparation([case], "abcd")[0] is False
    scan = nibabel.load(case["image"][0])
    moved = nibabel.Nifti1Image(np.asarray(scan.dataobj), np.diag([2.0, 2, 2, 1]) @ scan.affine)
    nibabel.save(moved, tmp_path / "moved.nii.gz")
    case["image"][0] = str(tmp_path / "moved.nii.gz")
    is_raw, evidence = need_preparation([case], "abcd")
    assert (is_raw, evidence) == (True, "files of a subject on different grids")
