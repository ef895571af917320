"""MGH and NRRD files give the same voxels and positions as NIfTI; damage is reported in one line."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from common.data.scan_checks import read_scan
from common.data.transforms import LoadScand
from common.data.volumes import affine_in, forms_of
from common.errors import InputError
from tests.support import one_line

AFFINE = np.array([[0, -2.0, 0, 70], [0, 0, 3.0, -40], [-1.5, 0, 0, 60], [0, 0, 0, 1]])
AFFINE[:3, :3] = nibabel.eulerangles.euler2mat(0.2, 0.1, -0.3) @ AFFINE[:3, :3]
VOXELS = np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype(np.int16)


def write(path, voxels=VOXELS, compressed=True):
    if path.suffix == ".nrrd":
        nibabel.save(nibabel.Nifti1Image(voxels, AFFINE, dtype=voxels.dtype), path.with_suffix(".nii"))
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


def test_an_mgh_file_without_place_keeps_its_voxel_size(tmp_path):
    """FreeSurfer's default axes: left, inferior, anterior."""
    image = nibabel.MGHImage(VOXELS, AFFINE)
    image.header["goodRASFlag"] = 0
    nibabel.save(image, tmp_path / "a.mgz")
    scan, voxels = read_scan(tmp_path / "a.mgz")
    assert np.array_equal(voxels, VOXELS)
    np.testing.assert_allclose(scan.affine[:3, :3], [[-1.5, 0, 0], [0, 0, 3], [0, -2, 0]], atol=1e-6)
    assert scan.extra["assumed"]


def test_results_state_an_assumed_place(tmp_path):
    path = write(tmp_path / "a.nrrd", compressed=False)
    lines = [line for line in path.read_bytes().split(b"\n") if not line.startswith(b"space origin")]
    path.write_bytes(b"\n".join(lines))
    scan, _ = read_scan(path)
    position = sitk.ReadImage(path).TransformContinuousIndexToPhysicalPoint((1.0, 2.0, 3.0))
    forms = forms_of(scan)
    np.testing.assert_allclose((affine_in(forms) @ [1, 2, 3, 1])[:3] * [-1, -1, 1], position, atol=1e-4)
    assert scan.extra["assumed"]
    assert [int.from_bytes(forms[at : at + 2], "little") for at in (252, 254)] == [2, 2], "qform_code and sform_code"


def test_an_nrrd_lies_where_itk_puts_it(tmp_path):
    path = write(tmp_path / "a.nrrd")
    scan, _ = read_scan(path)
    position = sitk.ReadImage(path).TransformContinuousIndexToPhysicalPoint((1.0, 2.0, 3.0))
    np.testing.assert_allclose((scan.affine @ [1, 2, 3, 1])[:3] * [-1, -1, 1], position, atol=1e-9)
    for name, sides in {"right-anterior-superior": (-1, -1), "LAS": (1, -1)}.items():
        other = tmp_path / "b.nrrd"
        other.write_bytes(path.read_bytes().replace(b"left-posterior-superior", name.encode()))
        position = sitk.ReadImage(other).TransformContinuousIndexToPhysicalPoint((1.0, 2.0, 3.0))
        turned, _ = read_scan(other)
        np.testing.assert_allclose((turned.affine @ [1, 2, 3, 1])[:3] * [-1, -1, 1], position, atol=1e-9)
        np.testing.assert_allclose(turned.affine[:2], scan.affine[:2] * np.array(sides)[:, None])


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
            lambda data: data.replace(b"posterior-superior", b"posterior"),
            "space left-posterior, or axes without",
        ),
        (
            lambda data: data.replace(b"kinds:", b'space units: "m" "m" "m"\nkinds:'),
            "space units m, not mm",
        ),
        (
            lambda data: data.replace(b"kinds:", b"data file: other.raw\nkinds:"),
            "voxels are in a separate file, other.raw",
        ),
        (lambda data: b"none", "no NRRD header"),
        (
            lambda data: data.replace(b"encoding: raw", b"encoding: hex"),
            "encoding hex, not one of raw, gzip",
        ),
        (lambda data: data.replace(b"dimension: 3", b"dimension: 4"), "4 dimensions, not 3"),
        (lambda data: data.replace(b"sizes: 5", b"sizes: x"), "invalid literal"),
        (lambda data: data.replace(b"sizes: 5", b"sizes: -5"), "shape -5 x .* with an edge below 1 voxel"),
        (lambda data: data + b"more", "more than 420 bytes, although its header declares 420"),
        (lambda data: data[:-20], "bytes"),
    ],
)
def test_an_nrrd_that_cannot_be_placed_or_read_is_named(tmp_path, change, message):
    path = write(tmp_path / "a.nrrd", compressed=False)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=rf"a\.nrrd: .*{message}") as error:
        read_scan(path)
    assert one_line(error)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_all_types_of_voxels_are_those_of_itk(tmp_path, dtype):
    path = write(tmp_path / "a.nrrd", VOXELS.astype(dtype))
    scan, voxels = read_scan(path)
    assert np.array_equal(voxels, sitk.GetArrayFromImage(sitk.ReadImage(path)).T)
    assert voxels.dtype == scan.get_data_dtype() == dtype


@pytest.mark.parametrize(("suffix", "position"), [(".mgz", -8), (".nrrd", -8), (".nrrd", -30)])
def test_a_flipped_bit_in_a_compressed_file_is_found(tmp_path, suffix, position):
    path = write(tmp_path / f"a{suffix}")
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"a\{suffix}: "):
        read_scan(path)
