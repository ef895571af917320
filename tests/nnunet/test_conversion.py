"""The conversion, against nnU-Net's own reading of what it wrote."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from common.data.datalists import Datalist
from common.data.regions import regions_of
from common.errors import InputError
from scripts.nnunet.conversion import LabelScheme, convert
from tests.support import one_line

AFFINE = np.diag([-2.0, -2.0, 2.0, 1.0])


@pytest.fixture
def write_case(tmp_path):
    def write(subject: str, values: list[int], channels: int = 1, ending: str = ".nii.gz") -> dict:
        drawn = np.random.default_rng(len(subject)).choice(values, (8, 9, 10)).astype(np.uint8)
        drawn.flat[: len(values)] = values
        paths = [tmp_path / "cohort" / f"{subject}_{name}{ending}" for name in ("seg", *range(channels))]
        paths[0].parent.mkdir(exist_ok=True)
        for path in paths:
            nibabel.save(nibabel.Nifti1Image(drawn, AFFINE), path)
        return {"subject": subject, "image": [str(path) for path in paths[1:]], "label": str(paths[0])}

    return write


def convert_small(folder: Path, cases: list[dict], convention: str) -> None:
    convert(folder, cases[:-1], cases[-1:], [f"M{n}" for n in range(len(cases[0]["image"]))], convention)


def test_nnunet_finds_nothing_wrong(write_case, tmp_path):
    cases = [write_case(subject, [0, 1, 2, 4], 2) for subject in ("a", "b", "c")]
    convert_small(tmp_path / "Dataset001_x", cases, "brats2021")
    verify_dataset_integrity(str(tmp_path / "Dataset001_x"), 1)
    read = get_filenames_of_train_images_and_targets(str(tmp_path / "Dataset001_x"))
    assert {name: files["images"] for name, files in read.items()} == {c["subject"]: c["image"] for c in cases}


def test_the_split_is_the_datalists(cohort, tmp_path):
    listed = Datalist(cohort.datalist, cohort.root)
    training, validation = (listed.load(split, label_convention="brats2021") for split in ("training", "validation"))
    convert(tmp_path, training, validation, listed.content["modalities"], "brats2021")
    assert json.loads((tmp_path / "splits_final.json").read_text()) == [
        {
            "train": [entry["subject"] for entry in listed.content["training"]],
            "val": [entry["subject"] for entry in listed.content["validation"]],
        }
    ]
    channels = json.loads((tmp_path / "dataset.json").read_text())["channel_names"]
    assert channels == {"0": "FLAIR", "1": "T1ce", "2": "T1", "3": "T2"}


@pytest.mark.parametrize("convention", ["brats2021", "brats2023", "atlas", "whole=1+2,a=1,b=2"])
def test_nnunet_turns_each_label_into_its_regions_and_back(convention):
    """For each value: the regions that nnU-Net sees in the converted value are ours, and give the value again."""
    scheme = LabelScheme(convention)
    manager = LabelManager(scheme.labels, scheme.class_order)
    regions = regions_of(convention)
    names = [name for name in scheme.labels if name != "background"]
    for value, converted in scheme.values.items():
        seen = [converted in np.atleast_1d(scheme.labels[name]) for name in names]
        assert seen == [value in regions[name] for name in names]
        heads = seen if manager.has_regions else [not any(seen), *seen]
        probabilities = np.array(heads, dtype=np.float32)[:, None, None, None]
        assert manager.convert_probabilities_to_segmentation(probabilities).item() == value


def test_labels_keep_their_voxels_and_grid(write_case, tmp_path):
    cases = [write_case(subject, [0, 1, 2, 4]) for subject in ("a", "b")]
    convert_small(tmp_path / "out", cases, "brats2021")
    for case in cases:
        original, made = (
            nibabel.load(path) for path in (case["label"], tmp_path / f"out/labelsTr/{case['subject']}.nii.gz")
        )
        expected = np.asarray(original.dataobj).copy()
        expected[expected == 4] = 3
        np.testing.assert_array_equal(np.asarray(made.dataobj), expected)
        np.testing.assert_array_equal(made.affine, original.affine)


def test_labels_and_files_that_nnunet_cannot_take_are_refused(write_case, tmp_path):
    cases = [write_case("a", [0, 1, 3]), write_case("b", [0, 1])]
    with pytest.raises(InputError) as error:
        convert_small(tmp_path / "out", cases, "brats2021")
    assert one_line(error) == f"{cases[0]['label']}: label value 3; expected only 0, 1, 2, 4"
    cases = [write_case("a", [0, 1]), write_case("b", [0, 1], ending=".nii")]
    with pytest.raises(InputError, match=r"b_\w+\.nii: expected all images and labels as \.nii\.gz, or all as \.nii"):
        convert_small(tmp_path / "out", cases, "atlas")
