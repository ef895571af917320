"""nnU-Net's raw data from a datalist, against nnU-Net's documents dataset_format.md and region_based_training.md."""

import json

import nibabel
import numpy as np
import pytest

from scripts.datalists.files import write
from scripts.nnunet import nnunet

AFFINE = np.diag([-2.0, -2.0, 2.0, 1.0])
BRATS = {"channel_names": {"0": "FLAIR", "1": "T1"}, "numTraining": 3, "file_ending": ".nii.gz"}


@pytest.fixture
def datalist(tmp_path):
    """Return a function that writes scans and their datalist: 2 for training, 1 for validation, 1 for testing."""

    def make(values, convention, ending=".nii.gz"):
        entries = []
        for number, subject in enumerate("abcd"):
            drawn = np.random.default_rng(number).choice(values, (5, 6, 7)).astype(np.uint8)
            files = [f"{subject}/{subject}_{kind}{ending}" for kind in ("flair", "t1", "seg")]
            (tmp_path / subject).mkdir()
            for file in files:
                nibabel.save(nibabel.Nifti1Image(drawn, AFFINE), tmp_path / file)
            entries.append({"subject": subject, "image": files[:2], "label": files[2]})
        content = {"name": "brats", "modalities": ["FLAIR", "T1"], "label_convention": convention}
        content |= {"training": entries[:2], "validation": entries[2:3], "testing": entries[3:]}
        write(content, tmp_path / "brats.json")
        return tmp_path / "brats.json"

    return make


def test_the_folder_is_the_one_that_nnunet_documents(datalist, tmp_path):
    nnunet(str(datalist([0, 1, 2, 3], "brats2023")), str(tmp_path / "raw"))
    folder = tmp_path / "raw/Dataset001_brats"
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    training = [f"imagesTr/{case}_000{channel}.nii.gz" for case in "abc" for channel in (0, 1)]
    training += [f"labelsTr/{case}.nii.gz" for case in "abc"]
    held_out = ["imagesTs/d_0000.nii.gz", "imagesTs/d_0001.nii.gz", "labelsTs/d.nii.gz"]
    assert files == sorted([*training, *held_out, "dataset.json", "splits_final.json"])
    content = json.loads((folder / "dataset.json").read_text())
    assert content.items() >= BRATS.items()
    assert list(content["labels"].items()) == [("background", 0), ("WT", [1, 2, 3]), ("TC", [1, 3]), ("ET", 3)]
    assert content["regions_class_order"] == [2, 1, 3]
    assert json.loads((folder / "splits_final.json").read_text()) == [{"train": ["a", "b"], "val": ["c"]}]
    assert (folder / "imagesTr/a_0001.nii.gz").samefile(tmp_path / "a/a_t1.nii.gz")
    assert (folder / "labelsTr/a.nii.gz").samefile(tmp_path / "a/a_seg.nii.gz")


def test_label_values_with_gaps_become_consecutive_on_the_same_grid(datalist, tmp_path, capsys):
    nnunet(str(datalist([0, 1, 2, 4], "brats2021")), str(tmp_path / "raw"))
    folder = tmp_path / "raw/Dataset001_brats"
    assert "--label_convention=WT=1+2+3,TC=1+3,ET=3" in capsys.readouterr().out
    for case, part in zip("abcd", ("Tr", "Tr", "Tr", "Ts"), strict=True):
        original, made = (
            nibabel.load(path)
            for path in (tmp_path / f"{case}/{case}_seg.nii.gz", folder / f"labels{part}/{case}.nii.gz")
        )
        expected = np.asarray(original.dataobj).copy()
        expected[expected == 4] = 3
        np.testing.assert_array_equal(np.asarray(made.dataobj), expected)
        np.testing.assert_array_equal(made.affine, original.affine)
