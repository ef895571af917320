import gzip

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


def test_an_unreadable_volume_has_no_count(tmp_path):
    volume = np.random.default_rng(0).integers(0, 999, (20, 20, 20), np.int16)
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / "scan.nii.gz")
    assert slices_with_signal(tmp_path / "scan.nii.gz") == 20
    content = (tmp_path / "scan.nii.gz").read_bytes()
    raw = gzip.decompress(content)
    damaged = {"empty.nii.gz": b"", "text.nii.gz": b"text", "half.nii.gz": content[: len(content) // 2]}
    for name, offset, values in (("size", 42, [30000] * 3), ("type", 70, [7777]), ("sides", 40, [3, -4])):
        field = np.array(values, "<i2").tobytes()
        damaged[f"{name}.nii.gz"] = gzip.compress(raw[:offset] + field + raw[offset + len(field) :])
    damaged["4d.nii"] = nibabel.Nifti1Image(np.ones((2, 2, 2, 2), np.int16), np.eye(4)).to_bytes()
    for name, written in damaged.items():
        (tmp_path / name).write_bytes(written)
        assert slices_with_signal(tmp_path / name) is None, name
