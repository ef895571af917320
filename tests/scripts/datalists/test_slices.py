import nibabel
import numpy as np
import pytest

from scripts.datalists.build import slices_with_signal


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_slices_are_axial_whatever_the_order_of_the_axes(tmp_path, order):
    """World axis `w` runs along voxel axis `order[w]`."""
    volume = np.zeros((3, 4, 9), np.float32)
    volume[1, 1, [2, 3, 7]] = 0.5
    volume[0, 0, 5] = -1
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for world in range(3):
        affine[world, order[world]] = -2 if world == 2 else 1
    turned = np.moveaxis(volume, (0, 1, 2), order)
    nibabel.Nifti1Image(turned, affine).to_filename(tmp_path / "scan.nii.gz")
    assert turned.shape[order[2]] == 9
    assert slices_with_signal(tmp_path / "scan.nii.gz") == 3
