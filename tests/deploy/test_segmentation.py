import pytest

pytest.importorskip("highdicom", reason="needs the environment of make deploy")

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from common.errors import InputError
from deploy.bundle import open_bundle
from deploy.geometry import volume_of
from deploy.segmentation import label_segments, make_segmentation, series_number
from deploy.tasks import TASKS
from tests.deploy.checks import dicom_errors
from tests.deploy.dicom_study import NAME, Study, write_modality
from tests.support import ROOT

TUMOUR = TASKS["tumour"].segments


@pytest.mark.parametrize("enhancing", [3, 4])
def test_segments_are_numbered_without_gaps(enhancing):
    label = np.array([0, 1, 2, enhancing], np.uint8)
    assert label_segments(label, TUMOUR).tolist() == [0, 1, 2, 3]
    assert label_segments(label[:1], TUMOUR).tolist() == [0]


def test_labels_of_no_convention_are_refused():
    with pytest.raises(InputError, match="label 7 in the bundle's label map; expected 1, 2, 3, 4"):
        label_segments(np.array([0, 7], np.uint8), TUMOUR)
    with pytest.raises(InputError, match="labels 3, 4 in one label map"):
        label_segments(np.array([3, 4], np.uint8), TUMOUR)


@pytest.fixture
def case(tmp_path, models):
    """The slices of a series in their order, and a bundle."""
    slices = write_modality(tmp_path, np.ones((6, 5, 12)), np.diag([-2, -2, 3, 1]), Study(), 3, "T1ce", shuffle=True)
    _, ordered = volume_of(slices, "series 3")
    return ordered, open_bundle(ROOT / "bundles/brats_finetune", models("brats"))


@pytest.mark.parametrize("kind", ["mixed", "one segment", "empty"])
def test_a_saved_segmentation_is_valid_and_reads_back(kind, case, tmp_path):
    slices, bundle = case
    segments = np.random.default_rng(0).integers(0, 4, (6, 5, 12)).astype(np.uint8)
    segments[:, :, :3] = 0
    segments[segments != {"mixed": segments, "one segment": 2, "empty": 0}[kind]] = 0
    make_segmentation(segments, slices, bundle).save_as(tmp_path / "seg.dcm")
    read = hd.seg.segread(tmp_path / "seg.dcm")
    uids = [image.SOPInstanceUID for image in slices]
    pixels = read.get_pixels_by_source_instance(uids, combine_segments=True)
    np.testing.assert_array_equal(pixels.transpose(2, 1, 0), segments)
    volume = read.get_volume(combine_segments=True)  # refuses gaps
    assert volume.shape == (12, 5, 6)
    assert read.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices == 3
    assert read.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert dicom_errors(tmp_path / "seg.dcm") == []


@pytest.mark.parametrize(("number", "expected"), [(5, 1051), (None, 1001), (-300, 1001), (2**31 - 1, 1001)])
def test_the_number_of_a_new_series_is_valid_in_dicom(number, expected):
    source = Dataset()
    source.SeriesNumber = number
    assert series_number(source, 1) == expected


@pytest.mark.parametrize(
    ("character_set", "name"),
    [("ISO_IR 100", "Müller^Jörg"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"), (None, "A^B")],
)
def test_names_in_any_script_are_kept_and_private_attributes_are_not(case, tmp_path, character_set, name):
    slices, bundle = case
    for number, image in enumerate(slices):
        image.SpecificCharacterSet = character_set
        image.PatientName = name
        image.add_new(0x00090010, "LO", NAME)
        image.add_new(0x00091001, "LO", NAME)
        image.OperatorsName = image.SeriesDescription = NAME
        image.save_as(tmp_path / "slice.dcm")
        slices[number] = pydicom.dcmread(tmp_path / "slice.dcm")
    make_segmentation(np.ones((6, 5, 12), np.uint8), slices, bundle).save_as(tmp_path / "seg.dcm")
    read = pydicom.dcmread(tmp_path / "seg.dcm")
    assert str(read.PatientName) == name
    assert NAME not in str(read)
    assert dicom_errors(tmp_path / "seg.dcm") == []


def test_missing_and_invalid_attributes_are_empty(case, tmp_path):
    slices, bundle = case
    first = slices[0]
    for keyword in ("PatientID", "StudyID", "AccessionNumber", "PatientBirthDate", "ReferringPhysicianName"):
        delattr(first, keyword)
    first.PatientSex, first.StudyDate, first.StudyTime, first.PatientName = "X", "unknown", "noon", ["A^B", "C^D"]
    make_segmentation(np.ones((6, 5, 12), np.uint8), slices, bundle).save_as(tmp_path / "seg.dcm")
    read = pydicom.dcmread(tmp_path / "seg.dcm")
    assert [read[key].value or "" for key in ("PatientID", "PatientSex", "StudyDate", "StudyTime")] == [""] * 4
    assert read.PatientName == "A^B"
    assert dicom_errors(tmp_path / "seg.dcm") == []
    assert first.PatientSex == "X", "the slice is not changed"


def test_frames_have_position_segment_and_source_image(case):
    """Compared with the source: same frame of reference, position and orientation, and a reference to the image."""
    slices, bundle = case
    segments = np.zeros((6, 5, 12), np.uint8)
    segments[1, 2, 4:7], segments[3, 3, 5] = 1, 3
    result = make_segmentation(segments, slices, bundle)
    (shared,) = result.SharedFunctionalGroupsSequence
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == slices[0].ImageOrientationPatient
    assert shared.PixelMeasuresSequence[0].PixelSpacing == slices[0].PixelSpacing
    found = []
    for frame in result.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        (image,) = [image for image in slices if image.SOPInstanceUID == source.ReferencedSOPInstanceUID]
        assert frame.PlanePositionSequence[0].ImagePositionPatient == image.ImagePositionPatient
        found.append((frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber, slices.index(image)))
    assert sorted(found) == [(segment, index) for segment in (1, 2, 3) for index in range(12)]


CIELAB = {  # L*, a*, b* by scikit-image 0.26.0, rgb2lab (D65), scaled to 16 bits as PS3.3, C.10.7.1.1, says
    "#e9c46a": [52856, 33519, 45631],
    "#4dac6d": [41612, 21986, 39103],
    "#d1495b": [33279, 46959, 37865],
}


def test_segments_have_the_colours_of_their_regions(case):
    slices, bundle = case
    result = make_segmentation(np.ones((6, 5, 12), np.uint8), slices, bundle)
    for segment, expected in zip(result.SegmentSequence, TUMOUR, strict=True):
        difference = np.subtract(segment.RecommendedDisplayCIELabValue, CIELAB[expected.colour])
        assert np.abs(difference).max() <= 16, "below a tenth of a unit of b*"
    assert len({segment.colour for segment in TUMOUR}) == 3


def test_a_missing_slice_thickness_is_the_distance_and_a_wrong_spacing_is_computed_anew(case, tmp_path):
    slices, bundle = case
    for image in slices:
        image.SliceThickness, image.SpacingBetweenSlices = None, "17"
    make_segmentation(np.ones((6, 5, 12), np.uint8), slices, bundle).save_as(tmp_path / "seg.dcm")
    (measures,) = pydicom.dcmread(tmp_path / "seg.dcm").SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert (measures.SliceThickness, measures.SpacingBetweenSlices) == (3, 3)
    assert dicom_errors(tmp_path / "seg.dcm") == []


def test_rounding_errors_of_the_orientation_do_not_matter(case):
    slices, bundle = case
    slices[4].ImageOrientationPatient = [1, 1e-7, 0, 0, 1, 0]
    result = make_segmentation(np.ones((6, 5, 12), np.uint8), slices, bundle)
    assert result.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient[1] == 0


def test_every_segmentation_has_new_uids(case):
    slices, bundle = case
    one, other = (make_segmentation(np.ones((6, 5, 12), np.uint8), slices, bundle) for _ in range(2))
    for uid in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert one[uid].value.is_valid
        assert one[uid].value != other[uid].value


def test_segments_have_codes_and_name_the_model(case):
    slices, bundle = case
    result = make_segmentation(np.ones((6, 5, 12), np.uint8), slices, bundle)
    assert [segment.SegmentNumber for segment in result.SegmentSequence] == [1, 2, 3]
    for segment, expected in zip(result.SegmentSequence, TUMOUR, strict=True):
        (kind,), (category,), (region,) = (
            segment.SegmentedPropertyTypeCodeSequence,
            segment.SegmentedPropertyCategoryCodeSequence,
            segment.AnatomicRegionSequence,
        )
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert segment.SegmentLabel == expected.label
        assert (kind.CodeValue, kind.CodingSchemeDesignator) == (expected.code, "SCT")
        assert (category.CodeValue, region.CodeValue) == ("49755003", "12738006")
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert algorithm.AlgorithmName == bundle.name[:64]
        assert algorithm.AlgorithmVersion == bundle.version
        assert bundle.name in algorithm.AlgorithmParameters
        assert bundle.checkpoint_sha256 in algorithm.AlgorithmParameters
    assert result.ManufacturerModelName == bundle.name[:64]
    assert result.SoftwareVersions == bundle.version
    assert result.StudyInstanceUID == slices[0].StudyInstanceUID
    assert result.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
    assert result.PatientID == slices[0].PatientID
