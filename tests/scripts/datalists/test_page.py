"""Pictures of suspicious subjects: where what is odd about them is painted."""

import base64
import tracemalloc
from io import BytesIO

import nibabel
import numpy as np
import pytest
from matplotlib.image import imread

from scripts.datalists.page import draw

RED, MAGENTA = [209, 73, 91], [255, 0, 255]


def save(path, volume, affine=None):
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else affine), path)


def pixels(drawn):
    content = drawn[1].removeprefix("data:image/png;base64,")
    return (imread(BytesIO(base64.b64decode(content)))[..., :3] * 255).round().astype(int)


def where(picture, colour):
    """Share of the picture's height and width at which the middle of a colour is."""
    places = np.argwhere((picture == colour).all(axis=-1))
    return (places.mean(axis=0) + 0.5) / picture.shape[:2]


@pytest.fixture
def case(tmp_path):
    """32 x 64 x 32 voxels of 1 x 1 x 2 mm: planes of 32 x 64, 32 x 64 and 64 x 64 mm, two pixels a millimetre."""
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
    file, uri = draw((case, "t2.nii.gz"), str(tmp_path))
    picture = pixels((file, uri))
    assert (file, picture.shape) == ("t2.nii.gz", (128, 2 * 32 + 2 * 32 + 2 * 64 + 3 * 2, 3))
    axial, coronal, sagittal = picture[:, 1:65], picture[:, 67:131], picture[:, 133:261]
    assert where(axial, RED) == pytest.approx([1 - 44 / 64, 1 - 6 / 32], abs=0.02)
    assert where(coronal, RED) == pytest.approx([1 - 44 / 64, 1 - 6 / 32], abs=0.02)
    assert where(sagittal, RED) == pytest.approx([1 - 44 / 64, 44 / 64], abs=0.02)
    inside = axial[round(128 * (1 - 44 / 64)), round(64 * (1 - 6 / 32))]
    assert inside[0] == inside[1] == inside[2]


@pytest.mark.parametrize("flip", [False, True])
def test_voxels_that_are_not_finite_are_magenta_and_in_the_planes(case, tmp_path, flip):
    volume = np.full((32, 64, 32), 5.0, np.float32)
    volume[24:28, 16:20, 8:12] = np.nan
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    if flip:  # the same voxels of the world, stored the other way round
        volume, affine = volume[::-1], np.diag([-1.0, 1.0, 2.0, 1.0])
    save(tmp_path / "t1.nii.gz", volume, affine)
    picture = pixels(draw((case, "t1.nii.gz"), str(tmp_path)))
    assert where(picture[:, 1:65], MAGENTA) == pytest.approx([1 - 18 / 64, 1 - 26 / 32], abs=0.02)
    assert where(picture[:, 133:261], MAGENTA) == pytest.approx([1 - 20 / 64, 18 / 64], abs=0.02)


def test_in_place_of_what_cannot_be_drawn_the_next_image_is(case, tmp_path):
    (tmp_path / "t1.nii.gz").write_bytes(b"no image")
    assert draw((case, "t1.nii.gz"), str(tmp_path))[0] == "t2.nii.gz"
    assert draw((case, "seg.nii.gz"), str(tmp_path))[0] == "t2.nii.gz"
    save(tmp_path / "t2.nii.gz", np.zeros((4, 4)))
    assert draw((case, "t1.nii.gz"), str(tmp_path))[0] == "seg.nii.gz"
    (tmp_path / "seg.nii.gz").unlink()
    assert draw((case, "t1.nii.gz"), str(tmp_path)) is None


@pytest.mark.parametrize("volume", [np.zeros((5, 6, 7)), np.full((5, 6, 7), np.nan), np.zeros((1, 90, 2, 3))])
def test_whatever_has_voxels_is_drawn(tmp_path, volume):
    save(tmp_path / "t1.nii.gz", volume)
    assert max(pixels(draw(({"subject": "s", "image": ["t1.nii.gz"]}, "t1.nii.gz"), str(tmp_path))).shape) >= 64


def test_a_header_of_a_huge_volume_makes_no_room_for_it(tmp_path):
    """1,000 voxels along each axis, written at the place that the format says, and 27 of them."""
    content = bytearray(nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)).to_bytes())
    content[42:48] = np.array([1000] * 3, "<i2").tobytes()
    (tmp_path / "t1.nii").write_bytes(content)
    tracemalloc.start()
    assert draw(({"subject": "s", "image": ["t1.nii"]}, "t1.nii"), str(tmp_path)) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
