"""NIfTI files that `write_volume` writes, read by nibabel."""

import nibabel
import numpy as np
import pytest

from common.data.volumes import forms_of, open_volume, write_volume

AFFINE = np.array([[0, -2.0, 0, 30], [1.5, 0, 0, -7], [0, 0, 3.0, 11], [0, 0, 0, 1]])


@pytest.mark.parametrize(("shear", "code"), [(5e-5, 1), (2e-4, 0), (0.04, 0)])
def test_a_sheared_affine_is_the_sform_alone(tmp_path, shear, code):
    """A qform has no shear; ITK also accepts axes as orthogonal up to 1e-4."""
    affine = AFFINE.copy()
    affine[:3, 2] += shear * affine[:3, 1]
    write_volume(tmp_path / "a.nii", np.ones((2, 3, 4), np.uint8), affine)
    header = nibabel.load(tmp_path / "a.nii").header
    np.testing.assert_allclose(header.get_sform(), affine, atol=1e-6)
    assert (header["qform_code"], header["sform_code"]) == (code, 1)
    np.testing.assert_allclose(header.get_zooms(), np.linalg.norm(affine[:3, :3], axis=0), rtol=1e-6)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image, nibabel.Nifti1Pair])
def test_forms_of_any_nifti_are_copied_and_nothing_else(tmp_path, kind):
    """Double precision in NIfTI-2, a pair of files, and a big-endian header."""
    header = kind.header_class(endianness=">")
    header.set_sform(AFFINE / 3, 4)
    header.set_qform(np.diag([-2.0, 1.5, 3, 1]), 1)
    header["pixdim"][:4] = 0, 2, 1.5, 3.0000001
    header["xyzt_units"], header["descrip"], header["magic"] = 3, b"Jane Doe", header["magic"]
    source = tmp_path / ("a.img" if kind is nibabel.Nifti1Pair else "a.nii")
    nibabel.save(kind(np.zeros((2, 3, 4), np.int16), None, header), source)
    write_volume(tmp_path / "b.nii", np.ones((2, 3, 4), np.uint8), forms_of(open_volume(source)))
    result = nibabel.load(tmp_path / "b.nii").header
    for field in header:
        if field.startswith(("srow", "quatern", "qoffset")) or field in ("qform_code", "sform_code", "xyzt_units"):
            assert result[field].tolist() == nibabel.load(source).header[field].tolist(), field
    assert b"Jane" not in result.binaryblock, "personal data of the header is not copied"
    np.testing.assert_array_equal(result.get_sform(), nibabel.load(source).affine)


def test_without_an_sform_the_edges_of_voxels_must_be_known_but_no_time_step(tmp_path):
    series = nibabel.Nifti1Image(np.ones((2, 3, 4, 2), np.uint8), None)
    series.header["pixdim"][4] = 0
    nibabel.save(series, tmp_path / "a.nii")
    assert open_volume(tmp_path / "a.nii").shape == (2, 3, 4, 2)
    series.header["pixdim"][3] = 0
    nibabel.save(series, tmp_path / "a.nii")
    with pytest.raises(ValueError, match=r"^pixdim 0, so the size of its voxels is unknown$"):
        open_volume(tmp_path / "a.nii")
