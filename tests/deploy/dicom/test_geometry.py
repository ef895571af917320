import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from nibabel.affines import apply_affine

from deploy.dicom.geometry import grid_of, volume_of
from tests.deploy.dicom.dicom_study import Study, header, refusal, write_series
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


@pytest.fixture
def slices(array, tmp_path):
    return write_series(tmp_path, array, AFFINES["axial"], Study(), 1)


@pytest.mark.parametrize("name", AFFINES)
def test_voxels_are_at_the_positions_that_dicom_defines(name, array, tmp_path):
    """DICOM PS3.3 C.7.6.2.1.1: position = S + column index * row cosines * dj + row index * column cosines * di."""
    slices = write_series(tmp_path, array, AFFINES[name], Study(), 1)
    order = np.random.default_rng(1).permutation(len(slices))
    volume, ordered = volume_of([slices[index] for index in order], "series 1")
    for k, image in enumerate(ordered):
        origin, cosines = np.array(image.ImagePositionPatient, float), np.array(image.ImageOrientationPatient, float)
        di, dj = map(float, image.PixelSpacing)
        for row, column in np.ndindex(5, 7):
            lps = origin + column * cosines[:3] * dj + row * cosines[3:] * di
            np.testing.assert_allclose(apply_affine(volume.affine, [column, row, k]), lps * [-1, -1, 1], atol=1e-6)
            assert volume.array[column, row, k] == image.pixel_array[row, column]


def test_values_are_rescaled_slice_by_slice(array, slices):
    for image in slices:
        image.RescaleSlope = image.RescaleIntercept = ""
    expected = array.astype(np.float32)
    np.testing.assert_array_equal(volume_of(slices, "series 1")[0].array, expected)
    for image in slices:
        image.RescaleSlope, image.RescaleIntercept = "1", "0"
    slices[3].RescaleSlope, slices[3].RescaleIntercept = "0.5", "-10"
    volume, ordered = volume_of(slices, "series 1")
    expected[:, :, 3] = expected[:, :, 3] / 2 - 10
    assert ordered == slices
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, expected)


PADDED = {  # stored value, attributes
    "signed": (-32768, {"PixelPaddingValue": ("SS", -32768)}),
    "signed, written unsigned": (-2000, {"PixelPaddingValue": ("US", 63536)}),
    "range": (-1500, {"PixelPaddingValue": ("SS", -2000), "PixelPaddingRangeLimit": ("SS", -1000)}),
    "empty": (None, {"PixelPaddingValue": ("SS", None)}),
}


@pytest.mark.parametrize("name", PADDED)
def test_padding_is_background_and_other_voxels_are_those_of_gdcm(name, array, tmp_path):
    value, limits = PADDED[name]
    array = array.astype(np.int64) % 1000 - 500
    padding = np.indices(array.shape)[:2].sum(axis=0) == 0
    array[padding] = array[padding] if value is None else value
    values = {"PixelRepresentation": 1, "RescaleSlope": "2", "RescaleIntercept": "10"}
    write_series(tmp_path, array, AFFINES["axial"], Study(), 1, **values)
    files = sorted(tmp_path.iterdir())
    for file in files:
        image = pydicom.dcmread(file)
        for keyword, (vr, limit) in limits.items():
            image.add_new(keyword, vr, limit)
        image.save_as(file)
    gdcm = sitk.GetArrayFromImage(sitk.ReadImage(files)).T
    volume, _ = volume_of([pydicom.dcmread(file) for file in files], "series 1")
    np.testing.assert_array_equal(volume.array, np.where(padding & (value is not None), 0, gdcm))


MIXED = "slices differ in size, spacing or orientation; expected one grid"
GRID = "define no grid; expected right angles"
EMPTY = "slice 3 of 12 along the third axis is empty; expected no empty slice"
ONE = [  # attributes of one slice among twelve, part of the message
    ({"Rows": 6}, MIXED),
    ({"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]}, MIXED),
    ({"ImagePositionPatient": [0, 0, 9]}, "two images share a position"),
    ({"ImagePositionPatient": [0, 0, 6.2]}, "3.00 mm elsewhere; is a slice missing?"),
    ({"ImagePositionPatient": ["nan", 0, 6]}, "has no valid ImagePositionPatient"),
    ({"EchoTime": 300}, " to 300 ms; expected one volume"),
    ({"PixelData": b"12"}, "cannot be read (ValueError)"),
    ({"PixelData": bytes(2 * 7 * 5 + 2)}, "cannot be read (UserWarning)"),
    ({"PixelData": bytes(2 * 7 * 5)}, EMPTY),
    ({"RescaleSlope": None}, "some images have a RescaleSlope and others none; expected it in all or none"),
    ({"RescaleIntercept": 1e15}, ") equal"),
    ({"RescaleSlope": "1e40"}, "RescaleSlope and RescaleIntercept give NaN or infinite voxels"),
]
ALL = [  # attributes of all slices
    ({"PixelSpacing": [0, 0]}, GRID),
    ({"ImageOrientationPatient": [1, 0, 0, 0.5, 0.866, 0]}, GRID),
    ({"PhotometricInterpretation": "MONOCHROME1"}, "inverted or lookup-table images"),
    ({"RescaleSlope": -1}, "RescaleSlope -1; expected a positive number"),
    ({"ModalityLUTSequence": [header(LUTDescriptor=[4096, 0, 16])]}, "no ModalityLUTSequence"),
    ({"BitsStored": 8, "HighBit": 7, "LossyImageCompression": "01"}, "8 bits, compressed with loss"),
    ({"BitsStored": 12, "HighBit": 15}, "HighBit 15 with BitsStored 12; expected 11"),
    ({"Rows": 1, "NumberOfFrames": 5}, "several frames or samples"),
]


@pytest.mark.parametrize(
    ("changed", "attributes", "message"), [*((slice(2, 3), *row) for row in ONE), *((slice(None), *row) for row in ALL)]
)
def test_slices_that_form_no_volume_are_refused(slices, changed, attributes, message):
    for image in slices:
        image.EchoTime, image.RescaleSlope, image.RescaleIntercept = 100, 1, 0
    for image in slices[changed]:
        for keyword, value in attributes.items():
            setattr(image, keyword, value)
    text = refusal(volume_of, slices, "series 1")
    assert text.startswith("series 1: ")
    assert message in text


BESIDE = "mm off the line through the first and last slices; expected 1.0 mm at most"


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        (lambda k: 0.1 * k, "not stacked along their normal"),
        (lambda k: 1.2 * (k in (3, 5, 7)), BESIDE),
        (lambda k: 0.05 * k * (11 - k), BESIDE),
    ],
    ids=["shear", "zigzag", "bow"],
)
def test_slices_beside_one_line_are_refused(slices, beside, message):
    """Their positions drift, alternate, or bow towards the middle, at equal distances along the normal."""
    for k, image in enumerate(slices):
        image.ImagePositionPatient = [beside(k), 0, 3 * k]
    assert message in refusal(grid_of, slices, "x")
    for k, image in enumerate(slices):
        image.ImagePositionPatient = [beside(k) / 2, 0, 3 * k]
    assert grid_of(slices, "x")[0].shape == (7, 5, 12)


@pytest.mark.parametrize(("digits", "distance"), [(2, 1.2), (2, 0.9375), (1, 3.3)])
def test_rounded_positions_are_not_a_gap(digits, distance, array, tmp_path):
    slices = write_series(tmp_path, array, oblique((1, 1, distance)), Study(), 1)
    for image in slices:
        image.ImagePositionPatient = [round(float(value), digits) for value in image.ImagePositionPatient]
    grid, _ = grid_of(slices, "series 1")
    assert grid.shape == (7, 5, 12)
    np.testing.assert_allclose(grid.affine, oblique((1, 1, distance)), atol=2 * 10**-digits)
    assert "is a slice missing?" in refusal(grid_of, slices[:4] + slices[5:], "x")
