"""What `python -m scripts.planning` decides: raw scans, structures, and the length of a training by its time."""

import json
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from scripts import planning


def test_validations_and_steps_fill_the_hours(monkeypatch):
    """Steps of 1 s, and 4 windows of 0.3 s for each of 3 people: 20 validations of 3.6 s leave 3528 s of the hour."""
    options = {"patch_size": [64] * 3, "batch_size": 1}
    monkeypatch.setattr(planning, "fit_training", lambda *_: (dict(options), 1.0, 0.3))
    scan = SimpleNamespace(modalities=("T1",), name="ours")
    train, seconds = planning.training(scan, 20, [1.0, 1.0, 3.0], 1.0, "cpu")
    assert (train["iterations"], train["val_interval"]) == (20 * 176, 176)
    assert seconds == pytest.approx(20 * (176 + 3.6))
    assert train["spacing"] == [2.0, 2.0, 3.0], "a small network trains on coarse voxels"
    assert "spacing" not in planning.training(scan, 20, [1.0, 1.0, 3.0], 1.0, "cuda")[0]


def cubes(file, *middles):
    """A label map of cubes in a volume of 40 x 50 x 40 voxels, as a case."""
    labels = np.zeros((40, 50, 40), np.uint8)
    for x, y, z in middles:
        labels[x - 3 : x + 4, y - 3 : y + 4, z - 3 : z + 4] = 1
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), file)
    return {"label": str(file)}


@pytest.mark.parametrize(
    ("middles", "expected"),
    [
        ([[(14, 25, 20), (26, 25, 20)], [(15, 26, 22), (27, 26, 22)]], True),  # on both sides, in all people
        ([[(20, 25, 10)], [(20, 25, 30)]], True),  # in a field of view that ends higher
        ([[(20, 22, 20)], [(20, 28, 20)]], False),  # a tumour in front, or behind
        ([[(12, 25, 20)], [(28, 25, 20)]], False),  # a tumour on either side
        ([[(20, 25, 20)], []], False),  # not in everybody
    ],
)
def test_structures_are_at_one_place_in_everybody(tmp_path, middles, expected):
    cases = [cubes(tmp_path / f"{number}.nii", *of_case) for number, of_case in enumerate(middles)]
    assert planning.are_structures(cases, "thalamus=1") == expected


def test_brains_on_one_grid_are_used_and_scans_on_several_are_prepared(cohorts, tmp_path):
    entry = json.loads((cohorts / "brats.json").read_text())["training"][0]
    case = {"subject": entry["subject"], "image": [str(cohorts / "brats" / file) for file in entry["image"]]}
    assert planning.judged([case], "abcd")[0] is False
    scan = nibabel.load(case["image"][0])
    moved = nibabel.Nifti1Image(np.asarray(scan.dataobj), np.diag([2.0, 2, 2, 1]) @ scan.affine)
    nibabel.save(moved, tmp_path / "moved.nii.gz")
    case["image"][0] = str(tmp_path / "moved.nii.gz")
    is_raw, evidence = planning.judged([case], "abcd")
    assert (is_raw, evidence) == (True, "files of a subject on different grids")
