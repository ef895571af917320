"""Clones of public repositories become data sets, whole or not at all."""

import gzip
import subprocess
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from common.errors import InputError
from scripts.public_scans import LARGEST, MUSE, SETS, public_scans
from tests.support import one_line

RNG = np.random.default_rng(0)


def scan(shape=(6, 5, 4), values=None, shift=0.0):
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[0, 3] = shift
    voxels = RNG.integers(1, 900, shape).astype(np.int16) if values is None else values.astype(np.uint8)
    return gzip.compress(nibabel.Nifti1Image(voxels, affine).to_bytes())


@pytest.fixture
def clone(tmp_path):
    """Commit files to a repository in clones/NAME, each a path and its content."""

    def make(repository, files, removed=()):
        folder = tmp_path / "clones" / repository.rpartition("/")[2]
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
        return tmp_path / "clones"

    return make


def test_ixi_comes_from_the_history_with_three_regions_a_brain_and_people(clone, tmp_path, monkeypatch):
    monkeypatch.setitem(SETS, "ixi", replace(SETS["ixi"], shape=(6, 5, 4)))
    muse = np.zeros((6, 5, 4))
    muse[0], muse[1], muse[2], muse[3] = 51, 59, 47, 7
    below = "test_data/processed/IXI/"
    t1 = scan()
    files = {
        f"{below}Nifti/T1/IXI012-HH-1211_T1.nii.gz": t1,
        f"{below}DLMUSE/IXI012-HH-1211_T1_DLMUSE.nii.gz": scan(values=muse),
        f"{below}Nifti/T1/IXI013-HH-1212_T1.nii.gz": scan(),
        f"{below}DLMUSE/IXI013-HH-1212_T1_DLMUSE.nii.gz": scan(values=muse, shift=3.0),
        f"{below}Nifti/T1/IXI014-HH-1213_T1.nii.gz": b"version https://git-lfs.github.com/spec/v1\n",
        f"{below}DLMUSE/IXI014-HH-1213_T1_DLMUSE.nii.gz": scan(values=muse),
        f"{below}plot_data/plot_data.csv": b"MRID,Age,Sex\nIXI012-HH-1211,38.78,M\n",
    }
    clones = clone("CBICA/NiChart_Project", files, removed=[path for path in files if "IXI012" in path])
    public_scans(str(clones), str(tmp_path / "out"), "ixi")
    found = tmp_path / "out" / "ixi"
    assert sorted(path.name for path in found.rglob("*.nii.gz")) == [
        "IXI012_T1.nii.gz",
        "IXI012_brain.nii.gz",
        "IXI012_seg.nii.gz",
    ]
    regions = np.asarray(nibabel.load(found / "IXI012_seg.nii.gz").dataobj)
    assert [int(regions[plane, 0, 0]) for plane in range(5)] == [1, 2, 3, 0, 0]
    brain = np.asarray(nibabel.load(found / "IXI012_brain.nii.gz").dataobj)
    assert [int(brain[plane, 0, 0]) for plane in range(5)] == [1, 1, 1, 1, 0]
    expected = nibabel.Nifti1Image.from_bytes(gzip.decompress(t1))
    written = nibabel.load(found / "IXI012_T1.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(expected.dataobj))
    np.testing.assert_allclose(written.affine, expected.affine)
    assert (found / "people.csv").read_text() == "subject,age,sex\nIXI012,38.78,M\n"
    assert (found / "regions.yaml").read_text().splitlines()[0] == "ventricles: {labels: [1]}"
    assert "CC BY-SA 3.0" in (found / "SOURCE.md").read_text()
    assert list(MUSE) == ["ventricles", "deep_grey", "hippocampus"]


def test_each_modality_of_wmh_keeps_its_grid_and_a_subject_without_labels_is_left_out(clone, tmp_path):
    below = "sample_datasets/demo_dataset/"
    files = {f"{below}t1/S{number}_T1.nii.gz": scan() for number in (1, 2)}
    files |= {f"{below}fl/S{number}_FL.nii.gz": scan((7, 6, 3)) for number in (1, 2)}
    files[f"{below}nichart_dlwmls_out/DLWMLS_FLAIR/S1_FL_DLWMLS.nii.gz"] = scan(values=np.ones((7, 6, 3)))
    clones = clone("CBICA/NiChart_Project", files)
    public_scans(str(clones), str(tmp_path / "out"), ["wmh"])
    found = tmp_path / "out" / "wmh"
    shapes = {path.name: nibabel.load(path).shape for path in found.rglob("*.nii.gz")}
    assert shapes == {"S1_T1.nii.gz": (6, 5, 4), "S1_FLAIR.nii.gz": (7, 6, 3), "S1_seg.nii.gz": (7, 6, 3)}


def test_the_other_sets_and_what_is_there_already(clone, tmp_path, capsys):
    clone("JeroenBertels/deepvoxnet2", {f"a/case_3/{name}.nii.gz": scan() for name in ("FLAIR", "T1", "GT_W")})
    clones = clone("aaronsossin/DepressionMRI_AI", {"b/sub-07/anat/sub-07_T1w.nii.gz": scan()})
    public_scans(str(clones), str(tmp_path / "out"))
    names = sorted(path.name for path in (tmp_path / "out").rglob("*.nii.gz"))
    assert names == ["case3_FLAIR.nii.gz", "case3_T1.nii.gz", "case3_seg.nii.gz", "sub-07_T1.nii.gz"]
    assert "no clone of CBICA/NiChart_Project" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    public_scans(str(clones), str(tmp_path / "out"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_a_clone_without_the_scans_is_refused_and_leaves_nothing(clone, tmp_path):
    clones = clone("JeroenBertels/deepvoxnet2", {"README.md": b"none"})
    with pytest.raises(InputError) as error:
        public_scans(str(clones), str(tmp_path / "out"), "tumour")
    assert "no scans of tumour" in one_line(error)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_name_that_would_leave_the_folder_is_no_subject(clone, tmp_path):
    files = {f"sample_datasets/demo_dataset/{place}/..x_1.nii.gz": scan() for place in ("t1", "fl")}
    files["sample_datasets/demo_dataset/nichart_dlwmls_out/DLWMLS_FLAIR/..x_1.nii.gz"] = scan()
    with pytest.raises(InputError, match="no scans of wmh"):
        public_scans(str(clone("CBICA/NiChart_Project", files)), str(tmp_path / "out"), "wmh")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_scan_that_unpacks_to_more_than_a_quarter_of_a_gibibyte_is_left_out(clone, tmp_path, monkeypatch):
    assert LARGEST == 2**28
    monkeypatch.setattr("scripts.public_scans.LARGEST", 400)  # the header, and a few voxels
    clones = clone("aaronsossin/DepressionMRI_AI", {"b/sub-07/anat/sub-07_T1w.nii.gz": scan()})
    with pytest.raises(InputError, match="no scans of t1_stripped"):
        public_scans(str(clones), str(tmp_path / "out"), "t1_stripped")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sets": 5}, "sets=5: expected one of"),
        ({"sets": []}, "sets=[]: expected one of"),
        ({"sets": "oasis"}, f"expected one of {', '.join(SETS)}"),
        ({"clones": "nowhere"}, "no such folder; expected a folder of clones"),
        ({}, "no clone of"),
    ],
)
def test_bad_options_are_refused(tmp_path, options, message):
    (tmp_path / "clones").mkdir()
    with pytest.raises(InputError) as error:
        public_scans(**({"clones": str(tmp_path / "clones"), "output": str(tmp_path / "out")} | options))
    assert message in one_line(error)
    assert not (tmp_path / "out").exists()
