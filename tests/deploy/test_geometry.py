import shutil
import subprocess

import pytest

pytest.importorskip("SimpleITK", reason="needs the environment of make deploy")

import nibabel as nib
import numpy as np
import pydicom
from nibabel.affines import apply_affine

from common.errors import InputError
from common.prepare.volumes import Volume
from deploy.geometry import grid_of, volume_of, write_nifti
from tests.deploy.dicom_study import Study, to_slices, write_series
from tests.support import oblique

AFFINES = {
    "axial": np.diag([-2.0, -2.0, 3.0, 1.0]),
    "mirrored": np.diag([2.0, -2.0, 3.0, 1.0]),
    "sagittal": np.array([[0, 0, 3.0, 5], [2.0, 0, 0, 6], [0, -2.0, 0, 7], [0, 0, 0, 1]]),
    "oblique": oblique(),
}


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(0, 4000, (7, 5, 12))


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("shuffle", [False, True])
def test_voxels_are_at_the_positions_that_dicom_defines(name, shuffle, array, tmp_path):
    """DICOM PS3.3 C.7.6.2.1.1: position = S + column index * row cosines * dj + row index * column cosines * di."""
    slices = write_series(tmp_path, array, AFFINES[name], Study(), 1, shuffle=shuffle)
    order = np.random.default_rng(1).permutation(len(slices))
    volume, ordered = volume_of([slices[index] for index in order], "series 1")
    for k, image in enumerate(ordered):
        origin, cosines = np.array(image.ImagePositionPatient, float), np.array(image.ImageOrientationPatient, float)
        di, dj = map(float, image.PixelSpacing)
        for column, row in ((0, 0), (6, 0), (2, 4)):
            lps = origin + column * cosines[:3] * dj + row * cosines[3:] * di
            np.testing.assert_allclose(apply_affine(volume.affine, [column, row, k]), lps * [-1, -1, 1], atol=1e-6)
            assert volume.array[column, row, k] == image.pixel_array[row, column]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("flip", [False, True])
def test_the_direction_of_the_slices_does_not_change_the_volume(axis, flip, array, tmp_path):
    affine = np.diag([-2.0, -2.0, 3.0, 1.0])
    array = np.tile(array, (2, 3, 1))
    slices = write_series(tmp_path, *to_slices(array, affine, axis, flip), Study(), 1, shuffle=True)
    volume, _ = volume_of(slices, "series 1")
    one = nib.as_closest_canonical(nib.Nifti1Image(volume.array, volume.affine))
    other = nib.as_closest_canonical(nib.Nifti1Image(array.astype(np.float32), affine))
    np.testing.assert_array_equal(one.get_fdata(), other.get_fdata())
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-6)


def test_values_are_rescaled_slice_by_slice(array, tmp_path):
    slices = write_series(tmp_path, array, AFFINES["axial"], Study(), 1)
    slices[3].RescaleSlope, slices[3].RescaleIntercept = "0.5", "-10"
    volume, ordered = volume_of(slices, "series 1")
    expected = array.astype(np.float32)
    expected[:, :, 3] = expected[:, :, 3] / 2 - 10
    assert ordered == slices
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, expected)


def changed(slices, index, **attributes):
    for keyword, value in attributes.items():
        setattr(slices[index], keyword, value)
    return slices


BROKEN = {
    "a slice is missing": (lambda s: s[:4] + s[5:], "mm after slice 4, .* is a slice missing"),
    "same position": (
        lambda s: changed(s, 2, ImagePositionPatient=s[3].ImagePositionPatient),
        "two images have one position",
    ),
    "another size": (lambda s: changed(s, 2, Rows=6), "slices differ in size, spacing or orientation"),
    "another spacing": (lambda s: changed(s, 2, PixelSpacing=[2, 2]), "slices differ in size, spacing or orientation"),
    "another orientation": (
        lambda s: changed(s, 2, ImageOrientationPatient=[0, 1, 0, 1, 0, 0]),
        "slices differ in size, spacing or orientation",
    ),
    "no position": (lambda s: changed(s, 2, ImagePositionPatient=None), "an image has no ImagePositionPatient"),
    "shear": (
        lambda s: [changed(s, k, ImagePositionPatient=[0.3 * k, 0, k])[k] for k in range(len(s))],
        "not stacked along their normal",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_slices_without_a_grid_are_refused(name, array, tmp_path):
    harm, message = BROKEN[name]
    slices = harm(write_series(tmp_path, array, np.eye(4), Study(), 1))
    with pytest.raises(InputError, match=f"^series 1: .*{message}"):
        grid_of(slices, "series 1")


def test_unreadable_voxels_are_reported_in_one_line(array, tmp_path):
    slices = write_series(tmp_path, array, np.eye(4), Study(), 1)
    slices[0].PixelData = slices[0].PixelData[:10]
    with pytest.raises(InputError, match=r"^series 1: voxels cannot be read \(Explicit VR Little Endian: \w+\)$"):
        volume_of(slices, "series 1")


@pytest.mark.parametrize("slope", ["NaN", "inf", "1e40"])
def test_a_slope_that_gives_no_finite_voxels_is_refused(array, tmp_path, slope):
    slices = write_series(tmp_path, array, AFFINES["axial"], Study(), 1)
    slices[3].RescaleSlope = slope
    with pytest.raises(InputError, match=r"^series 1: RescaleSlope and RescaleIntercept give NaN or infinite voxels"):
        volume_of(slices, "series 1")


def test_a_single_slice_is_refused(array, tmp_path):
    (image,) = write_series(tmp_path, array[:, :, :1], AFFINES["axial"], Study(), 1)
    with pytest.raises(InputError, match=r"^series 1: a single slice; expected a stack of them"):
        volume_of([image], "series 1")


def test_an_image_without_transfer_syntax_is_refused(array, tmp_path):
    slices = write_series(tmp_path, array, AFFINES["axial"], Study(), 1)
    del slices[3].file_meta.TransferSyntaxUID
    with pytest.raises(InputError, match=r"^series 1: voxels cannot be read"):
        volume_of(slices, "series 1")


def test_rounded_positions_are_not_a_gap(array, tmp_path):
    slices = write_series(tmp_path, array, np.diag([1, 1, 1.2, 1]), Study(), 1)
    for image in slices:
        image.ImagePositionPatient = [round(float(value), 2) for value in image.ImagePositionPatient]
    assert grid_of(slices, "series 1")[0].shape == (7, 5, 12)


def test_nifti_files_hold_values_and_affine_but_no_text(tmp_path):
    volume = Volume(np.random.default_rng(0).random((4, 5, 6)).astype(np.float32), oblique())
    write_nifti(volume, tmp_path / "case.nii")
    image = nib.load(tmp_path / "case.nii")
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), volume.array)
    np.testing.assert_allclose(image.affine, volume.affine, atol=1e-5)
    assert volume.voxel_volume == pytest.approx(1.5 * 1.0 * 3.0 / 1000)
    assert not any(bytes(image.header[field]).strip(b"\0") for field in ("descrip", "intent_name", "db_name"))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"PixelSpacing": [0, 0]}, "define no grid; expected right angles"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.5, 0.866, 0]}, "define no grid; expected right angles"),
        ({"ImageOrientationPatient": [0] * 6}, "define no grid; expected right angles"),
        ({"Rows": None}, "an image has no Rows or Columns"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "inverted images"),
        ({"RescaleSlope": "1", "PixelData": b"12"}, r"voxels cannot be read \(Explicit VR Little Endian: ValueError\)"),
    ],
)
def test_slices_that_form_no_volume_are_refused(array, tmp_path, attributes, message):
    slices = write_series(tmp_path, array, AFFINES["axial"], Study(), 1)
    for keyword, value in attributes.items():
        for image in slices:
            setattr(image, keyword, value)
    with pytest.raises(InputError, match=rf"^series 1: .*{message}"):
        volume_of(slices, "series 1")


def test_an_empty_rescale_slope_and_intercept_are_ignored(array, tmp_path):
    slices = write_series(tmp_path, array, AFFINES["axial"], Study(), 1)
    for image in slices:
        image.RescaleSlope = image.RescaleIntercept = ""
    np.testing.assert_array_equal(volume_of(slices, "series 1")[0].array, array)


@pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="dcmcjpeg is not installed (Debian: dcmtk)")
@pytest.mark.parametrize("command", [["dcmcrle"], ["dcmcjpls"], ["dcmcjpeg", "+e1"], ["dcmcjpeg", "+el"]], ids=" ".join)
@pytest.mark.parametrize("signed", [0, 1])
def test_losslessly_compressed_voxels_are_equal(array, tmp_path, command, signed):
    write_series(tmp_path, array, AFFINES["axial"], Study(), 1, PixelRepresentation=signed)
    slices = []
    for path in sorted(tmp_path.iterdir()):
        subprocess.run([*command, path, path], check=True)
        slices.append(pydicom.dcmread(path))
    assert all(image.file_meta.TransferSyntaxUID.is_compressed for image in slices)
    np.testing.assert_array_equal(volume_of(slices, "series 1")[0].array, array)
