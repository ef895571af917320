"""`LoadScand` returns MONAI's arrays bit for bit, refuses damaged files, and uses the sform whatever pixdim is."""

import gzip

import monai
import nibabel
import numpy as np
import pytest
from monai.transforms import LoadImage

from common.data.transforms import LoadScand
from common.errors import InputError

AFFINE = np.diag([-1.5, 1, 2, 1])


def scan(path, dtype=np.int16, slope=None, inter=None):
    voxels = (np.random.default_rng(0).random((7, 8, 9)) * 200).astype(dtype)
    image = nibabel.Nifti1Image(voxels, AFFINE)
    image.header.set_data_dtype(dtype)
    image.header.set_slope_inter(slope, inter)
    nibabel.save(image, path)
    return path


def load(path):
    return LoadScand("image")({"image": str(path)})["image"]


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
@pytest.mark.parametrize(
    ("dtype", "slope", "inter"), [(np.int16, None, None), (np.uint8, 0.3, -7), (np.float32, None, None), (">i2", 2, 0)]
)
def test_arrays_are_those_of_monai(tmp_path, name, dtype, slope, inter):
    path = scan(tmp_path / name, dtype, slope, inter)
    expected, ours = LoadImage("NibabelReader", ensure_channel_first=True)(path), load(path)
    assert np.array_equal(ours, expected)
    assert ours.dtype == expected.dtype
    for meta in ("affine", "original_affine", "spatial_shape", "filename_or_obj"):
        np.testing.assert_array_equal(ours.meta[meta], expected.meta[meta])


@pytest.mark.parametrize("offset", [-8, -5, -1])
def test_a_wrong_checksum_or_length_is_refused(tmp_path, offset):
    path = flip(scan(tmp_path / "a.nii.gz"), offset)
    with pytest.raises(
        InputError, match=r"a\.nii\.gz: (CRC check|Incorrect length|Error -3|.* bytes).*; expected a NIfTI"
    ):
        load(path)


def test_parts_and_zeros_after_them_are_sound(tmp_path):
    """bgzip writes several gzip members, tapes pad with zeros."""
    path = scan(tmp_path / "a.nii.gz")
    expected = load(path)
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:] + b"after") + bytes(512))
    assert np.array_equal(load(path), expected)


def test_a_rounded_pixdim_leaves_the_sform_where_monai_replaces_it(tmp_path):
    """The reason for our reader. If the assertion about MONAI fails, delete the assertion, not the reader."""
    affine = np.diag([-4.0, 4, 4, 1])
    affine[:3, 3] = [98, -134, -72]
    image = nibabel.Nifti1Image(np.ones((5, 6, 7), np.float32), None)
    image.set_sform(affine, 1, update_affine=False)
    image.header["pixdim"][1:4] = 4.00016
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(load(tmp_path / "a.nii").affine, affine)
    assert monai.__version__ == "1.6.1"
    assert np.abs(LoadImage("NibabelReader")(tmp_path / "a.nii").affine - affine).max() > 100
