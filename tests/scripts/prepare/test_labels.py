"""Label maps come along, and go back."""

import json
import shutil

import nibabel
import numpy as np
import pytest

from common.errors import InputError
from common.prepare.volumes import Volume
from scripts.prepare.__main__ import back
from scripts.prepare.labels import read_labels
from tests.support import one_line


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


@pytest.mark.parametrize(
    ("voxels", "message"),
    [
        (np.ones((2, 2, 2, 2), np.uint8), "shape 2 x 2 x 2 x 2; expected three dimensions"),
        (np.full((2, 2, 2), 0.5, np.float32), "label 0.5; expected whole numbers as labels"),
        (np.full((2, 2, 2), 65536, np.int32), "labels from 65536 to 65536; expected 0 to 65535"),
        (np.arange(125, dtype=np.int16).reshape(5, 5, 5), "125 different values; expected a label map"),
        (np.ones((5, 6, 7), np.uint8), "shape 5 x 6 x 7; expected 4 x 4 x 4, that of the prepared scans"),
    ],
)
def test_what_is_no_label_map_on_the_grid_is_refused(tmp_path, voxels, message):
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii.gz")
    grid = Volume(np.zeros((4, 4, 4), np.uint8), np.eye(4)).grid if voxels.shape == (5, 6, 7) else None
    with pytest.raises(InputError) as error:
        read_labels(tmp_path / "a.nii.gz", grid)
    assert message in one_line(error)
