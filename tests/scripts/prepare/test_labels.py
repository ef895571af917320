"""Label maps come along, and subjects keep the modalities that they have."""

import json
import shutil

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine

from common.errors import InputError
from scripts.prepare.labels import read_labels
from tests.support import one_line


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_a_label_map_goes_to_the_template_and_back(cohort, run_prepare, tmp_path):
    shutil.copytree(cohort.folder / "raw", tmp_path / "raw")
    shutil.copytree(cohort.folder / "out", tmp_path / "out")
    scan = nibabel.load(tmp_path / "raw/lacking/scan_T1w.nii.gz")
    points = np.moveaxis(np.indices(scan.shape), 0, -1)
    centre = apply_affine(scan.affine, np.array(scan.shape) / 2)

    def ball(places):
        return np.linalg.norm(places - centre, axis=-1) < 40

    drawn = ball(apply_affine(scan.affine, points))
    labels = nibabel.Nifti1Image((3 * drawn).astype(np.uint8), scan.affine)
    nibabel.save(labels, tmp_path / "raw/lacking/scan_T1w_seg.nii.gz")
    places = [f"--root={tmp_path / 'raw'}", f"--output={tmp_path / 'out'}"]
    result = run_prepare("--like=ukb", "--spacing=4", *places, "--labels=seg", "--missing=keep")
    assert "1 new, 1 done before, 0 failed" in result.stdout
    entries = json.loads((tmp_path / "out/datalist.json").read_text())["testing"]
    assert {entry["subject"]: [bool(file) for file in entry["image"]] for entry in entries} == {
        cohort.subject: [True, True],
        "lacking": [True, False],
    }
    brought = nibabel.load(tmp_path / "out/lacking/lacking_seg.nii.gz")
    voxels = np.asarray(brought.dataobj)
    assert set(np.unique(voxels)) == {0, 3}
    record = json.loads((tmp_path / "out/lacking/prepare.json").read_text())
    assert (record["labels"]["drawn_on"], record["settings"]["modalities"]) == ("T1", ["T1"])
    assert record["space"].endswith("voxels of 4 mm")
    to_scan = np.array(record["transforms"]["T1"]["matrix"]) @ brought.affine
    expected = ball(apply_affine(to_scan, np.moveaxis(np.indices(voxels.shape), 0, -1)))
    assert dice(voxels == 3, expected) > 0.97
    (tmp_path / "maps").mkdir()
    shutil.copy(tmp_path / "out/lacking/lacking_seg.nii.gz", tmp_path / "maps/lacking.nii.gz")
    folders = [f"--prepared={tmp_path / 'out'}", f"--predictions={tmp_path / 'maps'}", f"--output={tmp_path / 'raw2'}"]
    assert run_prepare("back", *folders).returncode == 0
    again = nibabel.load(tmp_path / "raw2/lacking.nii.gz")
    assert dice(np.asarray(again.dataobj) == 3, drawn) > 0.95


def test_a_label_map_on_no_scans_grid_is_a_fault(cohort, run_prepare, tmp_path):
    shutil.copytree(cohort.folder / "raw/lacking", tmp_path / "raw/a")
    nibabel.save(nibabel.Nifti1Image(np.ones((5, 6, 7), np.uint8), np.eye(4)), tmp_path / "raw/a/a_seg.nii.gz")
    places = [f"--root={tmp_path / 'raw'}", f"--output={tmp_path / 'out'}"]
    result = run_prepare("--like=ukb", "--modalities=T1", "--spacing=4", *places, "--labels=seg")
    assert result.returncode == 1
    assert "a_seg.nii.gz: 5 x 6 x 7 voxels on the grid of no scan; expected that of T1" in result.stdout


@pytest.mark.parametrize(
    ("voxels", "message"),
    [
        (np.ones((2, 2, 2, 2), np.uint8), "2 x 2 x 2 x 2 voxels; expected a label map with three axes"),
        (np.full((2, 2, 2), 0.5, np.float32), "values from 0.5 to 0.5; expected labels"),
        (np.arange(125, dtype=np.int16).reshape(5, 5, 5), "125 different values; expected a label map"),
    ],
)
def test_what_is_no_label_map_is_refused(tmp_path, voxels, message):
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(InputError) as error:
        read_labels(tmp_path / "a.nii.gz")
    assert message in one_line(error)
