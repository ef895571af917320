"""Pictures of suspicious subjects: where what is odd about them is painted."""

import base64
from io import BytesIO

import nibabel
import numpy as np
import pytest
from matplotlib.image import imread

from scripts.datalists.page import draw

BLUE, RED, MAGENTA = [86, 180, 233], [213, 94, 0], [255, 0, 255]
LESIONS = {"modalities": ["T1", "T2"], "convention": "atlas"}


def save(path, volume, affine=None):
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else affine), path)


def pixels(drawn):
    content = drawn[-1].removeprefix("data:image/png;base64,")
    return (imread(BytesIO(base64.b64decode(content)))[..., :3] * 255).round().astype(int)


def where(picture, colour):
    """Share of the picture's height and width at which the middle of a colour is."""
    places = np.argwhere((picture == colour).all(axis=-1))
    return (places.mean(axis=0) + 0.5) / picture.shape[:2]


@pytest.fixture
def case(tmp_path):
    """32 x 64 x 32 voxels of 1 x 1 x 2 mm: planes of 32 x 64, 32 x 64 and 64 x 64 mm, 3.5 pixels a millimetre."""
    volume = np.zeros((32, 64, 32), np.float32)
    volume[4:28, 4:60, 4:28] = np.random.default_rng(0).uniform(100, 200, (24, 56, 24))
    label = np.zeros(volume.shape, np.uint8)
    label[4:8, 40:48, 20:24] = 1
    save(tmp_path / "t1.nii.gz", volume)
    save(tmp_path / "t2.nii.gz", volume)
    save(tmp_path / "seg.nii.gz", label)
    return {"subject": "s", "image": ["t1.nii.gz", "t2.nii.gz"], "label": "seg.nii.gz"}


def test_planes_are_as_large_as_they_are_in_millimetres_and_the_label_is_outlined_where_it_is(case, tmp_path):
    """Its middle is 6 mm from the patient's left edge (x rises to the right), 44 from the back and 44 from below."""
    file, modality, uri = draw((case, "t2.nii.gz"), str(tmp_path), **LESIONS)
    picture = pixels((file, uri))
    assert (file, modality, picture.shape) == ("t2.nii.gz", "T2", (224, 112 + 112 + 224 + 3 * 2, 3))
    axial, coronal, sagittal = picture[:, 1:113], picture[:, 115:227], picture[:, 229:453]
    assert where(axial, RED) == pytest.approx([1 - 44 / 64, 1 - 6 / 32], abs=0.02)
    assert where(coronal, RED) == pytest.approx([1 - 44 / 64, 1 - 6 / 32], abs=0.02)
    assert where(sagittal, RED) == pytest.approx([1 - 44 / 64, 1 - 44 / 64], abs=0.02)
    inside = axial[round(224 * (1 - 44 / 64)), round(112 * (1 - 6 / 32))]
    assert inside[0] == inside[1] == inside[2]


def test_voxels_that_are_not_finite_are_magenta_and_in_the_planes(case, tmp_path):
    """Also where the first axis is stored from right to left."""
    volume = np.full((32, 64, 32), 5.0, np.float32)
    volume[24:28, 16:20, 8:12] = np.nan
    save(tmp_path / "t1.nii.gz", volume[::-1], np.diag([-1.0, 1.0, 2.0, 1.0]))
    picture = pixels(draw((case, "t1.nii.gz"), str(tmp_path), **LESIONS))
    assert where(picture[:, 1:113], MAGENTA) == pytest.approx([1 - 18 / 64, 1 - 26 / 32], abs=0.02)
    assert where(picture[:, 229:453], MAGENTA) == pytest.approx([1 - 20 / 64, 1 - 18 / 64], abs=0.02)


def test_regions_have_their_colours_and_labels_of_no_region_are_magenta(case, tmp_path):
    label = np.zeros((32, 64, 32), np.uint8)
    label[8:24, 20:44, 18:26] = 2
    label[12:20, 26:38, 20:24] = 1
    label[4:6, 8:12, 20:24] = 7
    save(tmp_path / "seg.nii.gz", label)
    regions = {"modalities": ["T1", "T2"], "convention": "whole=1+2:56b4e9,core=1:d55e00"}
    axial = pixels(draw((case, None), str(tmp_path), **regions))[:, 1:113]
    for colour, (low, high) in {"BLUE": (8, 24), "RED": (12, 20), "MAGENTA": (4, 6)}.items():
        columns = np.nonzero((axial == globals()[colour]).all(axis=-1))[1]
        assert (columns.min() / 3.5, (columns.max() + 1) / 3.5) == pytest.approx((32 - high, 32 - low), abs=0.3)
