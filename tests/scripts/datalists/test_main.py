"""`python -m scripts.datalists`: from the folders of a cohort to its datalist; `test_splits` has who is in which."""

import nibabel
import numpy as np
import pytest

from scripts.datalists import __main__ as datalists
from tests.scripts.datalists.cohorts import (
    add_brats_2023,
    add_ukb,
    brats,
    everybody,
    touch,
    ukb,
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
    content = written(datalists.COMMANDS[command], root, testing="all")
    assert list(content)[-3:] == ["training", "validation", "testing"]
    entry = {"subject": subject, "image": files[: len(MODALITIES[bundle])]}
    expected = {"name": command, "modalities": MODALITIES[bundle], "label_convention": convention}
    expected |= {"training": [], "validation": [], "testing": [entry | ({"label": files[-1]} if convention else {})]}
    assert content == expected


def test_brats_after_treatment_has_the_convention_that_is_asked_for(root):
    add_brats_2023(root, 5, 6, 7)
    content = written(brats, root, label_convention="brats2024")
    assert (content["label_convention"], "regions" in content) == ("brats2024", False)
    content = written(brats, root, label_convention="cavity = 4, whole=2+3+1")
    assert (content["regions"], "label_convention" in content) == ({"cavity": [4], "whole": [1, 2, 3]}, False)


def _write_ukb(root, person, visit, slices):
    """Two volumes of 8 slices, of which the first ones have a signal."""
    add_ukb(root, person, visits=(visit,))
    for file, count in zip(("20252_{}/T1/T1", "20253_{}/T2_FLAIR/T2_FLAIR"), slices, strict=True):
        volume = np.zeros((4, 4, 8), np.int16)
        volume[1, 2, :count] = 7
        nibabel.Nifti1Image(volume, np.eye(4)).to_filename(root / f"{person}_{file.format(visit)}_brain_to_MNI.nii.gz")


@pytest.fixture
def biobank(root):
    """Ten participants: 0 to 3 complete, 4 twice, 5 short once, 6 and 7 short, 8 with a broken FLAIR, 9 with none."""
    for person in (0, 1, 2, 3, 8, 9):
        _write_ukb(root, 1000000 + person, "2_0", (6, 6))
    for person, visit, *slices in [(4, 2, 6, 8), (4, 3, 8, 6), (5, 2, 5, 6), (5, 3, 6, 7), (6, 2, 5, 5), (7, 2, 6, 5)]:
        _write_ukb(root, 1000000 + person, f"{visit}_0", slices)
    (root / "1000008_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz").write_bytes(b"no image")
    (root / "1000009_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz").unlink()
    return root


def test_the_first_complete_visit_of_each_person_can_be_taken(biobank, capsys):
    (biobank / "1000000_20252_2_0/T1/T1_brain_to_MNI.nii.gz").write_bytes(b"no image")
    found = everybody(written(ukb, biobank, validation=2, min_slices=6, visits="first", workers=1))
    assert found == [f"{n}_2_0" for n in range(1000001, 1000005)] + ["1000005_3_0"]
    assert "first visits: 5 of 5 people, 5 of 6 visits\n" in capsys.readouterr().out
