"""Clones of public repositories become complete data sets, or none."""

import gzip
import subprocess
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from studies.real.collect import SETS, collect

RNG = np.random.default_rng(0)


def scan(shape=(6, 5, 4), values=None, shift=0.0):
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[0, 3] = shift
    voxels = RNG.integers(1, 900, shape).astype(np.int16) if values is None else values.astype(np.uint8)
    return gzip.compress(nibabel.Nifti1Image(voxels, affine).to_bytes())


@pytest.fixture
def clone(tmp_path):
    """Return a function that commits files (path -> content) and clones the repository to clones/NAME.git."""

    def make(repository, files, removed=()):
        folder = tmp_path / "work" / repository.rpartition("/")[2]
        folder.mkdir(parents=True)

        def git(*words):
            identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
            subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)

        git("init", "--quiet")
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        git("add", ".")
        git("commit", "--quiet", "--message=one")
        if removed:
            git("rm", "--quiet", *removed)
            git("commit", "--quiet", "--message=two")
        git("clone", "--quiet", "--bare", ".", str(tmp_path / f"clones/{folder.name}.git"))
        return tmp_path / "clones"

    return make


def test_scans_of_ixi_come_from_the_history_with_three_regions_and_a_brain(clone, tmp_path, monkeypatch):
    monkeypatch.setitem(SETS, "ixi", replace(SETS["ixi"], shape=(6, 5, 4)))
    monkeypatch.delitem(SETS, "wmh")
    muse = np.zeros((6, 5, 4))
    muse[0], muse[1], muse[2], muse[3] = 51, 59, 47, 7
    below, files = "test_data/processed/IXI/", {}
    for name, shift in (("IXI012-HH-1211", 0.0), ("IXI013-HH-1212", 3.0)):  # the second on another grid
        files[f"{below}Nifti/T1/{name}_T1.nii.gz"] = scan()
        files[f"{below}DLMUSE/{name}_T1_DLMUSE.nii.gz"] = scan(values=muse, shift=shift)
    clones = clone("CBICA/NiChart_Project", files, removed=[path for path in files if "IXI012" in path])
    collect(str(clones), str(tmp_path / "out"))
    ixi = tmp_path / "out/ixi"
    written = {path.name: np.asarray(nibabel.load(path).dataobj) for path in ixi.rglob("*.nii.gz")}
    assert sorted(written) == ["IXI012_T1.nii.gz", "IXI012_brain.nii.gz", "IXI012_seg.nii.gz"]
    assert [int(written["IXI012_seg.nii.gz"][plane, 0, 0]) for plane in range(5)] == [1, 2, 3, 0, 0]
    assert [int(written["IXI012_brain.nii.gz"][plane, 0, 0]) for plane in range(5)] == [1, 1, 1, 1, 0]
    assert (ixi / "regions.yaml").read_text().splitlines()[0] == "ventricles: {labels: [1]}"


def test_the_other_set_and_what_is_there_already(clone, tmp_path, capsys):
    clones = clone("JeroenBertels/deepvoxnet2", {f"a/case_3/{name}.nii.gz": scan() for name in ("FLAIR", "T1", "GT_W")})
    collect(str(clones), str(tmp_path / "out"))
    names = sorted(path.name for path in (tmp_path / "out").rglob("*.nii.gz"))
    assert names == ["case3_FLAIR.nii.gz", "case3_T1.nii.gz", "case3_seg.nii.gz"]
    assert "no clone of CBICA/NiChart_Project" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    collect(str(clones), str(tmp_path / "out"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before
