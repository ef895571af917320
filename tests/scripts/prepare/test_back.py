"""Label maps back on the raw grids."""

import shutil

import nibabel
import numpy as np
import pytest

from common.files import read_json, write_json
from scripts.prepare.subjects import RECORD


@pytest.fixture
def places(cohort, tmp_path):
    """Options of the command; label maps are to lie in `tmp_path/maps`."""
    (tmp_path / "maps").mkdir()
    prepared, maps = cohort.folder / "out", tmp_path / "maps"
    return {"prepared": str(prepared), "predictions": str(maps), "output": str(tmp_path / "b")}


def test_the_command_writes_to_the_raw_grid_of_a_modality(cohort, run_prepare, places, tmp_path):
    """A map of a subject that nobody knows is one line, and the others go on."""
    mask = nibabel.load(cohort.folder / "out" / cohort.subject / f"{cohort.subject}_brain_mask.nii.gz")
    for name in (cohort.subject, "nobody"):
        nibabel.save(mask, tmp_path / f"maps/{name}.nii.gz")
    result = run_prepare("back", *(f"--{name}={value}" for name, value in places.items()), "--modality=FLAIR")
    assert result.returncode == 1
    assert f"nobody: no such subject in {cohort.folder / 'out'}" in result.stdout
    raw = nibabel.load(cohort.folder / "raw" / cohort.subject / f"{cohort.subject}_FLAIR.nii.gz")
    back = nibabel.load(tmp_path / f"b/{cohort.subject}.nii.gz")
    assert back.shape == raw.shape
    np.testing.assert_allclose(back.affine, raw.affine, atol=1e-4)
    truth = cohort.truth
    points = np.argwhere(back.get_fdata() > 0) @ back.affine[:3, :3].T + back.affine[:3, 3]
    expected = truth["points"] @ truth["motion_FLAIR"][:3, :3].T + truth["motion_FLAIR"][:3, 3]
    np.testing.assert_allclose(points.mean(axis=0), expected.mean(axis=0), atol=3)


def test_a_scan_that_has_changed_since_is_refused(cohort, run_prepare, places, tmp_path):
    shutil.copytree(cohort.folder / "out/lacking", tmp_path / "out/lacking")
    shutil.copy(tmp_path / "out/lacking/lacking_brain_mask.nii.gz", tmp_path / "maps/lacking.nii.gz")
    record = read_json(tmp_path / "out/lacking" / RECORD)
    record["sources"]["T1"]["file"] = str(shutil.copy(record["sources"]["T1"]["file"], tmp_path / "scan.nii.gz"))
    write_json(tmp_path / "out/lacking" / RECORD, record)
    options = [f"--{name}={value}" for name, value in (places | {"prepared": tmp_path / "out"}).items()]
    assert run_prepare("back", *options).returncode == 0
    shutil.rmtree(tmp_path / "b")
    (tmp_path / "scan.nii.gz").write_bytes(b"")
    ended = run_prepare("back", *options)
    assert (ended.returncode, ended.stdout.count("lacking: ")) == (1, 1)
    assert "scan.nii.gz: changed since it was prepared; restore it, or run scripts.prepare again" in ended.stdout
    assert ended.stdout.endswith("0 new, 0 done before, 1 failed (lacking), 0 outside limits; nothing written\n")
    (tmp_path / "scan.nii.gz").unlink()  # moved: nothing to compare with
    assert run_prepare("back", *options).returncode == 0
