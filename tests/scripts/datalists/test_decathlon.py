"""Tasks of the Medical Segmentation Decathlon, by the command."""

import json

import nibabel
import numpy as np
import pytest

from common.errors import InputError
from scripts.datalists.__main__ import decathlon
from tests.support import one_line

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
NAMES = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}  # dataset.json of Task01_BrainTumour
LABELS = {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}


@pytest.fixture
def task(data):
    rng = np.random.default_rng(0)
    voxels = {name: rng.normal(0, 50, (4, 5, 6, 4)).astype(np.float32) for name in ("Tr/BRATS_001", "Ts/BRATS_002")}
    for name, array in voxels.items():
        data.touch(f"images{name}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(array, AFFINE), data.root / f"images{name}.nii.gz")
    data.label("labelsTr/BRATS_001.nii.gz", 1, 2, 3)
    (data.root / "imagesTr/._BRATS_001.nii.gz").touch()
    (data.root / "dataset.json").write_text(json.dumps({"modality": NAMES, "labels": LABELS, "tensorImageSize": "4D"}))
    return data, voxels


def test_each_channel_becomes_a_file_of_a_raw_data_set(task):
    data, voxels = task
    with pytest.raises(InputError, match=r"files such as imagesTr/BRATS_001.nii.gz hold all channels"):
        data.scan()
    output = data.folder / "split"
    decathlon(str(data.root), str(output))
    for name, array in voxels.items():
        for channel in range(4):
            image = nibabel.load(output / f"images{name}_{channel:04d}.nii.gz")
            assert np.array_equal(np.asarray(image.dataobj), array[..., channel])
            assert np.array_equal(image.affine, AFFINE)
    label = "labelsTr/BRATS_001.nii.gz"
    assert (output / label).read_bytes() == (data.root / label).read_bytes()
    with pytest.raises(InputError, match=r"--output=.*split: exists; expected a new folder"):
        decathlon(str(data.root), str(output))
    data.root = output
    content = data.scan(testing="all")
    assert content["modalities"] == ["FLAIR", "T1", "T1ce", "T2"]
    assert content["regions"] == {"edema": [1], "non-enhancing_tumor": [2], "enhancing_tumour": [3]}
    assert [entry["subject"] for entry in content["unlabelled"]] == ["BRATS_002"]


def test_a_task_without_description_needs_the_modalities(task):
    data, _ = task
    (data.root / "dataset.json").unlink()
    for options, message in (
        ({}, r"--modalities: missing, as .*dataset.json states none"),
        ({"modalities": "T1,T2"}, r"imagesTr/BRATS_001.nii.gz: number of volumes 4; expected 2: T1, T2"),
        ({"modalities": "T1,T1"}, r"--modalities=T1,T1: a name occurs twice; expected distinct names"),
    ):
        with pytest.raises(InputError, match=message) as error:
            decathlon(str(data.root), str(data.folder / "out"), **options)
        assert one_line(error)
        assert sorted(path.name for path in data.folder.iterdir()) == ["data"]
    decathlon(str(data.root), str(data.folder / "out"), modalities="FLAIR,T1,T1ce,T2")
    data.root = data.folder / "out"
    with pytest.raises(InputError, match="--regions: missing; the values in 1 label map are 1, 2, 3"):
        data.scan()
