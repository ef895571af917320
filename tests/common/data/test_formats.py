"""MGH and NRRD files beside NIfTI: the same voxels in the same places, and damage in one line."""

import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from common.data.scan_checks import read_scan
from common.data.transforms import LoadScand
from common.errors import InputError
from tests.support import one_line

AFFINE = np.array([[0, -2.0, 0, 70], [0, 0, 3.0, -40], [-1.5, 0, 0, 60], [0, 0, 0, 1]])
AFFINE[:3, :3] = nibabel.eulerangles.euler2mat(0.2, 0.1, -0.3) @ AFFINE[:3, :3]
VOXELS = np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype(np.int16)


def write(path, voxels=VOXELS, compressed=True):
    if path.suffix == ".nrrd":
        nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), path.with_suffix(".nii"))
        sitk.WriteImage(sitk.ReadImage(path.with_suffix(".nii")), path, useCompression=compressed)
    else:
        kind = nibabel.MGHImage if path.suffix in (".mgz", ".mgh") else nibabel.Nifti1Image
        nibabel.save(kind(voxels, AFFINE), path)
    return path


@pytest.mark.parametrize("suffix", [".nii.gz", ".mgz", ".mgh", ".nrrd"])
def test_voxels_and_places_are_the_same_in_all_formats(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}")
    scan, voxels = read_scan(path)
    assert np.array_equal(voxels, VOXELS)
    np.testing.assert_allclose(scan.affine, AFFINE, atol=1e-5)
    loaded = LoadScand("image")({"image": [str(path), str(write(tmp_path / "b.nii.gz", VOXELS + 1))]})["image"]
    assert np.array_equal(loaded, [VOXELS, VOXELS + 1])
    np.testing.assert_allclose(loaded.affine, AFFINE, atol=1e-5)


def test_an_nrrd_lies_where_itk_puts_it(tmp_path):
    path = write(tmp_path / "a.nrrd")
    scan, _ = read_scan(path)
    place = sitk.ReadImage(path).TransformContinuousIndexToPhysicalPoint((1.0, 2.0, 3.0))
    np.testing.assert_allclose((scan.affine @ [1, 2, 3, 1])[:3] * [-1, -1, 1], place, atol=1e-9)
    text = path.read_bytes().replace(b"space: left-posterior-superior", b"space: right-anterior-superior")
    path.write_bytes(text)
    np.testing.assert_allclose(read_scan(path)[0].affine[:2], -scan.affine[:2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda data: data.replace(b"space: left-posterior-superior", b"space: scanner-xyz"),
            "space scanner-xyz, or axes",
        ),
        (
            lambda data: b"\n".join(line for line in data.split(b"\n") if b"space" not in line),
            "space none, or axes without",
        ),
        (
            lambda data: data.replace(b"kinds:", b'space units: "m" "m" "m"\nkinds:'),
            "space units m, where mm was expected",
        ),
        (
            lambda data: data.replace(b"kinds:", b"data file: other.raw\nkinds:"),
            "voxels are in another file, other.raw",
        ),
        (lambda data: b"none", "no NRRD file"),
        (lambda data: data[:-20], "it cannot be read to its end"),
    ],
)
def test_an_nrrd_that_cannot_be_placed_or_read_is_named(tmp_path, change, message):
    path = write(tmp_path / "a.nrrd", compressed=False)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=rf"a\.nrrd: .*{message}") as error:
        read_scan(path)
    assert one_line(error)


def test_a_flipped_bit_in_an_mgz_is_found(tmp_path):
    path = write(tmp_path / "a.mgz")
    data = bytearray(path.read_bytes())
    data[-8:-4] = struct.pack("<I", struct.unpack("<I", data[-8:-4])[0] ^ 1)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.mgz: "):
        read_scan(path)
