"""Listing of a folder, and the account of its image files."""

import os
from pathlib import Path

import pytest

from common.data.layouts.listing import list_images
from common.data.layouts.names import Naming
from common.data.layouts.reading import LAYOUTS, read_cohort, recognised
from tests.scripts.datalists.cohorts import touch


def paths(listing):
    return [file.path for file in listing.files]


def test_links_to_folders_are_followed_once_and_loops_end(tmp_path):
    touch(tmp_path / "elsewhere", "P2/mri/T1.nii.gz", "P3/T1.mgz")
    root = tmp_path / "root"
    touch(root, "P1/T1.NII.GZ", "P1/.hidden/T1.nii", "P1/._T1.nii", ".git/annex/T1.nii", "P1/T2.mgh")
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
    assert paths(listing) == ["P1/T1.NII.GZ", "P1/T2.mgh", "P2/mri/T1.nii.gz", "P3/T1.mgz", "P5/T1.nii", "P7_T1.nii"]
    assert listing.unread == ("P6",)
    assert list(listing.tops) == ["P1", "P2", "P3", "P5"]
    assert paths(list_images(root, without=root / "P2")) == [path for path in paths(listing) if path[:3] != "P2/"]
    with pytest.raises(FileNotFoundError):
        list_images(tmp_path / "missing")


TREES = {
    "bids": [
        *("sub-1/anat/sub-1_T1w.nii.gz", "sub-1/dwi/sub-1_dwi.nii.gz", "sub-1/anat/sub-1_MP2RAGE.nii.gz"),
        *("sub-1/func/sub-1_bold.nii.gz", "derivatives/a/sub-1/sub-1_T1w.nii.gz", "derivatives/b/average.nii.gz"),
        *("derivatives/a/sub-1/anat/sub-1_label-lesion_roi.nii.gz", "derivatives/a/sub-1/sub-1_dseg.nii.gz"),
        *(
            "derivatives/a/sub-1/sub-1_label-lesion_probseg.nii.gz",
            "code/T1w.nii.gz",
            "derivatives/sub-2/sub-2_mask.nii",
        ),
        *("derivatives/a/sub-1/sub-1_desc-brain_mask.nii", "sub-1/anat/sub-1_part-phase_T2starw.nii", "x_T1w.nii"),
    ],
    "folders": [
        "P1/T1.nii.gz",
        "P1/sub/T1.nii.gz",
        "P1/a.nii",
        "P2/P2_T1.nii",
        "P2/P2_FLAIR.nii",
        "P3/seg.nii",
        "P4/b.mha",
    ],
    "flat": [
        *("P1_T1.nii", "P1_T1_seg.nii", "P2_seg.nii", "images/P3_T1.nii", "labels/P3.nii", "deep/er/P4_T1.nii"),
        *("FLAIR/P4.nii", "masks/P4_brain_mask.nii", "c.mgh", "d.hdr"),
    ],
    "nnunet": [
        "imagesTr/C_0000.nii.gz",
        "imagesTr/c.nii.gz",
        "labelsTr/C.nii.gz",
        "labelsTr/D.nii.gz",
        "other/E.nii.gz",
    ],
    "brats": ["BraTS2021_00001/BraTS2021_00001_t1.nii.gz", "BraTS2021_00001/BraTS2021_00001_old.nii.gz"],
}


@pytest.mark.parametrize("layout", TREES)
def test_every_image_is_used_or_named(tmp_path, layout):
    touch(tmp_path, *TREES[layout])
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "T1"}, "labels": {}}')
    if layout == "brats":
        data = read_cohort("brats", tmp_path)
    else:
        data = LAYOUTS[layout].read(list_images(tmp_path), Naming())
    used = {path for subject in data.subjects.values() for path in subject.images.values() if subject.images}
    used |= {subject.label for subject in data.subjects.values() if subject.images and subject.label}
    unused = data.unused(["T1", "DWI"])
    other = {path for path in used if path.endswith("FLAIR.nii")} | ({"FLAIR/P4.nii"} & used)
    everything = [
        str(Path(folder, name).relative_to(tmp_path)) for folder, _, names in os.walk(tmp_path) for name in names
    ]
    assert sorted([*unused, *(used - other)]) == sorted(set(everything) - {"dataset.json"})
    assert used - other, "some are used"


def test_inference_reads_cohorts_by_their_layouts_and_else_the_names(tmp_path):
    touch(tmp_path / "ukb", "1000012_20252_2_0/T1/T1_brain_to_MNI.nii.gz")
    assert list(recognised(list_images(tmp_path / "ukb"), Naming()).subjects) == ["1000012_2_0"]
    touch(tmp_path / "sites", *(f"site/P{n}/P{n}_T1.nii.gz" for n in (1, 2)))
    assert list(recognised(list_images(tmp_path / "sites"), Naming()).subjects) == ["site_P1", "site_P2"]
