"""A clone of a public repository becomes a complete data set once."""

import gzip
import subprocess

import nibabel
import numpy as np

from studies.real.collect import collect


def test_a_clone_becomes_a_data_set_and_stays(tmp_path, capsys):
    work, affine = tmp_path / "deepvoxnet2", np.diag([2.0, 2.0, 2.0, 1.0])
    voxels = np.random.default_rng(0).integers(1, 900, (6, 5, 4)).astype(np.int16)
    for name in ("FLAIR", "T1", "GT_W"):
        file = work / f"a/case_3/{name}.nii.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(nibabel.Nifti1Image(voxels, affine).to_bytes()))
    for words in ["init", "add .", "commit -m 1", "rm -r a", "commit -m 2", "clone --bare . ../clones/deepvoxnet2.git"]:
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words.split()]
        subprocess.run(git, cwd=work, check=True, capture_output=True)
    collect(str(tmp_path / "clones"), str(tmp_path / "out"))
    assert "no clone of CBICA/NiChart_Project" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.nii.gz")}
    assert sorted(path.name for path in before) == ["case3_FLAIR.nii.gz", "case3_T1.nii.gz", "case3_seg.nii.gz"]
    (scan,) = (path for path in before if path.name == "case3_T1.nii.gz")
    np.testing.assert_array_equal(np.asarray(nibabel.load(scan).dataobj), voxels)
    collect(str(tmp_path / "clones"), str(tmp_path / "out"))
    assert {path: path.stat().st_mtime_ns for path in before} == before
