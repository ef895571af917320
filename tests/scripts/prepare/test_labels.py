"""Label maps come along, and go back."""

import json
import shutil

import nibabel
import numpy as np

from scripts.prepare.__main__ import back


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_a_label_map_goes_to_the_template_and_back(cohort, tmp_path):
    folder = cohort.folder / "out/lacking"
    brought = nibabel.load(folder / "lacking_seg.nii.gz")
    voxels = np.asarray(brought.dataobj)
    assert set(np.unique(voxels)) == {0, 3}
    record = json.loads((folder / "prepare.json").read_text())
    assert (record["labels"]["drawn_on"], record["settings"]["modalities"]) == ("T1", ["T1"])
    to_scan = np.array(record["transforms"]["T1"]["matrix"]) @ brought.affine
    assert dice(voxels == 3, cohort.ball(to_scan, voxels.shape)) > 0.97
    (tmp_path / "maps").mkdir()
    shutil.copy(folder / "lacking_seg.nii.gz", tmp_path / "maps/lacking.nii.gz")
    back(str(cohort.folder / "out"), str(tmp_path / "maps"), str(tmp_path / "back"))
    again = nibabel.load(tmp_path / "back/lacking.nii.gz")
    assert dice(np.asarray(again.dataobj) == 3, cohort.ball(again.affine, again.shape)) > 0.95
