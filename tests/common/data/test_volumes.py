"""NIfTI files that `write_volume` writes, read by nibabel."""

import nibabel
import numpy as np
import pytest

from common.data.volumes import write_volume
from common.errors import InputError

AFFINE = np.array([[0, -2.0, 0, 30], [1.5, 0, 0, -7], [0, 0, 3.0, 11], [0, 0, 0, 1]])


@pytest.mark.parametrize("codes", [(1, 1), (0, 2), (1, 0), (4, 4)])
@pytest.mark.parametrize("voxels", [np.arange(24, dtype=np.uint8), np.linspace(-1, 1, 48).astype(np.float32)])
def test_voxels_affine_and_codes_are_kept(tmp_path, voxels, codes):
    shape = (2, 3, 4) if voxels.size == 24 else (2, 3, 4, 2)
    write_volume(tmp_path / "new/a.nii.gz", voxels.reshape(shape), AFFINE, *codes)
    written = nibabel.load(tmp_path / "new/a.nii.gz")
    assert written.get_data_dtype() == voxels.dtype
    np.testing.assert_array_equal(np.asarray(written.dataobj), voxels.reshape(shape))
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-6)
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == codes
    assert written.header.get_xyzt_units() == ("mm", "unknown")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.nii.gz"]


def test_the_same_content_has_the_same_bytes_whatever_the_name(tmp_path):
    voxels = np.ones((2, 3, 4), np.int16)
    for name in ("a.nii.gz", "b.nii.gz"):
        write_volume(tmp_path / name, voxels, AFFINE)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_volume_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "a.nii.gz").mkdir()
    with pytest.raises(InputError, match=r"a.nii.gz: cannot be written: "):
        write_volume(tmp_path / "a.nii.gz", np.ones((2, 2, 2), np.uint8), AFFINE)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]
