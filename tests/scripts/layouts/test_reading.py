"""Listing of the images below a folder."""

import pytest

from scripts.layouts.reading import list_images
from tests.scripts.datalists.folders import touch


def test_links_to_folders_are_followed_once_and_loops_end(tmp_path):
    touch(tmp_path / "elsewhere", "P2/mri/T1.nii.gz", "P3/T1.mgz")
    root = tmp_path / "root"
    touch(root, "P1/T1.NII.GZ", "P1/.hidden/T1.nii", "P1/._T1.nii", ".git/annex/T1.nii", "P1/T2.mgh", "P1/T2.nrrd")
    for link, target in {
        "P2": "../elsewhere/P2",
        "P3": "../elsewhere/P3",
        "P4": "P1",  # listed in its place
        "P5": ".git/annex",  # hidden
        "P1/up": "../../root",
        "P6": "nowhere",
        "P7_T1.nii": "nowhere.nii",  # the checks of files name it
    }.items():
        (root / link).symlink_to(target)
    (tmp_path / "elsewhere/P2/mri/loop").symlink_to("..")
    listing = list_images(root)
    paths = ["P1/T1.NII.GZ", "P1/T2.mgh", "P2/mri/T1.nii.gz", "P3/T1.mgz", "P7_T1.nii"]
    assert listing == paths
    with pytest.raises(FileNotFoundError):
        list_images(tmp_path / "missing")
