"""Reading and writing of NIfTI files, compared with nibabel and MONAI."""

import nibabel
import numpy as np
import pytest
from monai.transforms import LoadImage

from common.data.transforms import LoadScand
from common.data.volumes import forms_of, open_volume, write_volume

AFFINE = np.array([[0, -2.0, 0, 30], [1.5, 0, 0, -7], [0, 0, 3.0, 11], [0, 0, 0, 1]])


def scan(path, dtype=np.int16, slope=None, inter=None):
    voxels = (np.random.default_rng(0).random((7, 8, 9)) * 200).astype(dtype)
    image = nibabel.Nifti1Image(voxels, np.diag([-1.5, 1, 2, 1]))
    image.header.set_data_dtype(dtype)
    image.header.set_slope_inter(slope, inter)
    nibabel.save(image, path)
    return path


def load(path):
    return LoadScand("image")({"image": str(path)})["image"]


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


def test_a_rounded_pixdim_leaves_the_sform_where_monai_replaces_it(tmp_path):
    """The reason for our reader."""
    affine = np.diag([-4.0, 4, 4, 1])
    affine[:3, 3] = [98, -134, -72]
    image = nibabel.Nifti1Image(np.ones((5, 6, 7), np.float32), None)
    image.set_sform(affine, 1, update_affine=False)
    image.header["pixdim"][1:4] = 4.00016
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(load(tmp_path / "a.nii").affine, affine)


def test_forms_of_nifti_2_are_copied_and_nothing_else(tmp_path):
    """In double precision, from a big-endian header."""
    header = nibabel.Nifti2Header(endianness=">")
    header.set_sform(AFFINE / 3, 4)
    header.set_qform(np.diag([-2.0, 1.5, 3, 1]), 1)
    header["pixdim"][:4] = 0, 2, 1.5, 3.0000001
    header["xyzt_units"], header["descrip"], header["magic"] = 10, b"Jane Doe", header["magic"]
    source = tmp_path / "a.nii"
    nibabel.save(nibabel.Nifti2Image(np.zeros((2, 3, 4), np.int16), None, header), source)
    write_volume(tmp_path / "b.nii", np.ones((2, 3, 4), np.uint8), forms_of(open_volume(source)))
    result = nibabel.load(tmp_path / "b.nii").header
    for field in header:
        if field.startswith(("srow", "quatern", "qoffset")) or field in ("qform_code", "sform_code", "xyzt_units"):
            assert result[field].tolist() == nibabel.load(source).header[field].tolist(), field
    assert b"Jane" not in result.binaryblock, "personal data of the header is not copied"
    np.testing.assert_array_equal(result.get_sform(), nibabel.load(source).affine)
