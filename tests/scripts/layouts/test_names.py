"""Listing of the images below a folder, and what inference makes of their names."""

import pytest

from scripts.layouts.listing import list_images
from scripts.layouts.names import identify
from tests.scripts.datalists.folders import touch


def test_links_to_folders_are_followed_once_and_loops_end(tmp_path):
    touch(tmp_path / "elsewhere", "P2/mri/T1.nii.gz", "P3/T1.mgz")
    root = tmp_path / "root"
    touch(root, "P1/T1.NII.GZ", "P1/.hidden/T1.nii", "P1/._T1.nii", ".git/annex/T1.nii", "P1/T2.mgh", "P1/T2.nrrd")
    for link, target in {
        "P2": "../elsewhere/P2",
        "P3": "../elsewhere/P3",
        "P4": "P1",  # listed in its place
        "P5": ".git/annex",  # not listed, as it is hidden
        "P1/up": "../../root",
        "P6": "nowhere",
        "P7_T1.nii": "nowhere.nii",  # the checks of files name it
    }.items():
        (root / link).symlink_to(target)
    (tmp_path / "elsewhere/P2/mri/loop").symlink_to("..")
    listing = list_images(root)
    paths = ["P1/T1.NII.GZ", "P1/T2.mgh", "P2/mri/T1.nii.gz", "P3/T1.mgz", "P5/T1.nii", "P7_T1.nii"]
    assert [file.path for file in listing.files] == paths
    assert sorted(listing.unread) == ["P1/T2.nrrd", "P6"]
    assert listing.tops == ("P1", "P2", "P3", "P5")
    with pytest.raises(FileNotFoundError):
        list_images(tmp_path / "missing")


@pytest.mark.parametrize(
    ("path", "kind", "parts"),
    [
        ("P1/P1_T1", "T1", ["P1"]),
        ("sub-1/ses-2/anat/sub-1_ses-2_acq-3d_run-1_FLAIR", "FLAIR", ["sub-1", "ses-2"]),
        ("site/P1_v2_flair", "FLAIR", ["site", "v2"]),
        ("P1/Gd/T1", "T1ce", ["P1"]),
        ("T2/P1/t1", "T1", ["T2", "P1"]),  # a visit of the name T2
        ("P1/T1/scan", "T1", ["P1"]),
        ("T1/P1", "T1", ["P1"]),
        ("masks/P1", "label", ["P1"]),
        ("P1/masks/P1_T1", "label", ["P1", "T1"]),
        ("P1_CBF", "CBF", ["P1"]),
    ],
)
def test_the_names_of_file_and_folders_tell_subject_and_kind(tmp_path, path, kind, parts):
    touch(tmp_path, f"{path}.nii.gz")
    file = list_images(tmp_path).files[0]
    found, subjects, _ = identify(file, ["T1", "CBF"])
    assert (found, subjects[0]) == (kind, parts)
