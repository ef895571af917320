"""The commands ukb, brats and atlas: from the folders of a cohort to its datalist."""

import nibabel
import numpy as np
import pytest

from common.errors import InputError
from tests.scripts.datalists.folders import (
    add_atlas,
    add_brats_2023,
    add_ukb,
    everybody,
    sizes,
    subjects,
    touch,
    written,
)
from tests.support import MODALITIES

ATLAS = "{0}/ses-1/anat/{0}_ses-1_space-MNI152NLin2009aSym_{1}.nii.gz"
UKB = "20252_2_0/T1/T1 20253_2_0/T2_FLAIR/T2_FLAIR"


@pytest.mark.parametrize(
    ("command", "bundle", "subject", "convention", "file", "kinds"),
    [
        ("ukb", "ukb_ssl_pretrain", "1000012_2_0", None, "1000012_{1}_brain_to_MNI.nii.gz", UKB),
        ("brats", "brats_stage2", "BraTS2021_00007", "brats2021", "{0}/{0}_{1}.nii.gz", "flair t1ce t1 t2 seg"),
        ("brats", "brats_stage2", "BraTS-GLI-00007-101", "brats2023", "{0}/{0}-{1}.nii.gz", "t2f t1c t1n t2w seg"),
        ("brats", "brats_stage2", "BraTS-GoAT-00007", "brats2023", "{0}/{0}-{1}.nii.gz", "t2f t1c t1n t2w seg"),
        ("atlas", "atlas_stage2", "sub-r003s001", "atlas", ATLAS, "T1w label-L_desc-T1lesion_mask"),
    ],
)
def test_each_layout_gives_relative_paths_in_its_order(root, command, bundle, subject, convention, file, kinds):
    files = [file.format(subject, kind) for kind in kinds.split()]
    touch(root, *files, "readme.txt", "derivatives/T1.nii.gz")
    content = written(command, root, testing="all")
    assert list(content)[-3:] == ["training", "validation", "testing"]
    entry = {"subject": subject, "image": files[: len(MODALITIES[bundle])]}
    expected = {"name": command, "modalities": MODALITIES[bundle], "label_convention": convention}
    expected |= {"training": [], "validation": [], "testing": [entry | ({"label": files[-1]} if convention else {})]}
    assert content == expected


def test_sessions_after_the_first_are_subjects_of_the_same_person_and_a_second_copy_is_refused(root):
    for session in (1, 2, 11):
        name = f"sub-r001s001_ses-{session}_space-MNI152NLin2009aSym_T1w.nii.gz"
        touch(root, f"R001/sub-r001s001/ses-{session}/anat/{name}")
    content = written("atlas", root, testing="all")
    assert everybody(content) == ["sub-r001s001", "sub-r001s001_ses-11", "sub-r001s001_ses-2"]
    assert not any("person" in entry for entry in content["testing"])
    touch(root, f"sub-r001s001/ses-2/anat/{name.replace('ses-11', 'ses-2')}")
    with pytest.raises(InputError, match=r"R001/sub-r001s001/ses-2.* and sub-r001s001/ses-2.* would both be of sub-r"):
        written("atlas", root, testing="all")


def test_the_convention_that_is_asked_for_and_two_releases_in_one_folder(root):
    add_brats_2023(root, 5, 6, 7)
    assert written("brats", root, label_convention="brats2024")["label_convention"] == "brats2024"
    content = written("brats", root, label_convention="cavity = 4, whole=2+3+1")
    assert (content["regions"], "label_convention" in content) == ({"cavity": [4], "whole": [1, 2, 3]}, False)
    touch(root, "BraTS2021_00001/BraTS2021_00001_t1.nii.gz")
    with pytest.raises(InputError, match="layouts are mixed"):
        written("brats", root)


def test_the_first_complete_visit_of_each_person_can_be_taken(root):
    """Participant 1 came twice, 2 has a short first visit, 3 is short, 4 has a broken FLAIR, 5 none."""
    visits = [(0, 2, 6, 6), (1, 2, 6, 8), (1, 3, 8, 6), (2, 2, 5, 6), (2, 3, 6, 7), (3, 2, 6, 5), (4, 2, 6, 6)]
    add_ukb(root, 1000005)
    (root / "1000005_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz").unlink()
    for person, visit, *slices in visits:
        add_ukb(root, 1000000 + person, visits=(f"{visit}_0",))
        for name, count in zip(("20252_{}_0/T1/T1", "20253_{}_0/T2_FLAIR/T2_FLAIR"), slices, strict=True):
            volume = np.zeros((4, 4, 8), np.int16)
            volume[1, 2, :count] = 7  # slices with a signal
            file = root / f"{1000000 + person}_{name.format(visit)}_brain_to_MNI.nii.gz"
            nibabel.Nifti1Image(volume, np.eye(4)).to_filename(file)
    (root / "1000004_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz").write_bytes(b"no image")
    found = everybody(written("ukb", root, testing="all", min_slices=6, visits="first", workers=1))
    assert found == ["1000000_2_0", "1000001_2_0", "1000002_3_0"]


@pytest.mark.parametrize(
    ("validation", "testing", "expected"),
    [
        *[(0.1, 0, [18, 2, 0]), (3, 5, [12, 3, 5]), (0.25, 0.5, [5, 5, 10]), (0.001, 0.0, [19, 1, 0])],
        (0.1, "all", [0, 0, 20]),
    ],
)
def test_splits_have_the_size_asked_for_and_share_nobody(root, validation, testing, expected):
    add_atlas(root, *range(20))
    content = written("atlas", root, validation=validation, testing=testing)
    splits = subjects(content)
    assert sizes(splits) == expected
    assert everybody(content) == [f"sub-r{number:03d}s001" for number in range(20)]
    options = {"validation": validation, "testing": testing}
    assert subjects(written("atlas", root, **options)) == splits
    assert subjects(written("atlas", root, seed=1, **options)) != splits or testing == "all"


def test_the_self_supervised_stage_validates_on_two_people(root):
    """Telling views apart takes a batch of two crops."""
    add_ukb(root, *range(1000000, 1000005))
    with pytest.raises(InputError, match="4 of 5 people for training and 1 for validation; expected 2 and 2"):
        written("ukb", root, validation=1)
    assert sizes(subjects(written("ukb", root, validation=0.1))) == [3, 2, 0]


def test_subjects_without_mask_are_kept_apart(root):
    add_atlas(root, *range(6), above="Training/R{:03d}/")
    add_atlas(root, *range(6, 10), above="Testing/R{:03d}/", mask=False)
    content = written("atlas", root, validation=1, testing=2)
    assert all("label" in entry for split in ("training", "validation", "testing") for entry in content[split])
    assert sizes(subjects(content)) == [3, 1, 2, 4]
    assert content["unlabelled"][0].keys() == {"subject", "image"}
