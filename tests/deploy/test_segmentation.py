import shutil
import subprocess

import pytest

pytest.importorskip("highdicom", reason="needs the environment of make deploy")

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset

from common.preflight import InputError
from deploy.bundle import TASKS, open_bundle
from deploy.geometry import volume_of
from deploy.segmentation import label_segments, series_number, write_segmentation
from tests.bundles.conftest import ROOT
from tests.deploy.dicom_study import NAME, Study, write_modality

TUMOUR = TASKS["tumour"].segments


def errors_of(path):
    """What dciodvfy calls an error in a file; it is part of Debian's dicom3tools."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    result = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    return [line for line in result.stderr.splitlines() if line.startswith("Error")] + (
        [f"status {result.returncode}"] if result.returncode else []
    )


@pytest.mark.parametrize("enhancing", [3, 4])
def test_segments_are_numbered_without_a_gap(enhancing):
    label = np.array([0, 1, 2, enhancing], np.uint8)
    assert label_segments(label, TUMOUR).tolist() == [0, 1, 2, 3]
    assert label_segments(label[:1], TUMOUR).tolist() == [0]


def test_labels_that_no_convention_has_are_refused():
    with pytest.raises(InputError, match="label 7 in the bundle's map; expected 1, 2, 3, 4"):
        label_segments(np.array([0, 7], np.uint8), TUMOUR)
    with pytest.raises(InputError, match="labels 3, 4 in one map"):
        label_segments(np.array([3, 4], np.uint8), TUMOUR)


@pytest.fixture
def case(tmp_path, models):
    """The sorted slices of a series, and the bundle."""
    slices = write_modality(tmp_path, np.ones((6, 5, 12)), np.diag([-2, -2, 3, 1]), Study(), 3, "T1ce", shuffle=True)
    _, ordered = volume_of(slices, "series 3")
    return ordered, open_bundle(ROOT / "bundles/brats_finetune", models("brats"))


@pytest.mark.parametrize("kind", ["mixed", "one segment", "empty"])
def test_what_is_written_is_read_back_and_valid(kind, case, tmp_path):
    slices, bundle = case
    segments = np.random.default_rng(0).integers(0, 4, (6, 5, 12)).astype(np.uint8)
    segments[:, :, :3] = 0
    segments[segments != {"mixed": segments, "one segment": 2, "empty": 0}[kind]] = 0
    write_segmentation(segments, slices, bundle).save_as(tmp_path / "seg.dcm")
    read = hd.seg.segread(tmp_path / "seg.dcm")
    uids = [image.SOPInstanceUID for image in slices]
    pixels = read.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)
    np.testing.assert_array_equal(pixels.transpose(2, 1, 0), segments)
    assert errors_of(tmp_path / "seg.dcm") == []


@pytest.mark.parametrize(("number", "expected"), [(5, 1051), (None, 1001), (-300, 1001), (2**31 - 1, 1001)])
def test_the_number_of_a_new_series_is_one_that_dicom_allows(number, expected):
    source = Dataset()
    source.SeriesNumber = number
    assert series_number(source, 1) == expected


@pytest.mark.parametrize(
    ("character_set", "name"),
    [("ISO_IR 100", "Müller^Jörg"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"), (None, "A^B")],
)
def test_a_name_of_any_script_is_kept_and_nothing_private(case, tmp_path, character_set, name):
    slices, bundle = case
    for number, image in enumerate(slices):
        image.SpecificCharacterSet = character_set
        image.PatientName = name
        image.add_new(0x00090010, "LO", NAME)
        image.add_new(0x00091001, "LO", NAME)
        image.OperatorsName = image.SeriesDescription = NAME
        image.save_as(tmp_path / "slice.dcm")
        slices[number] = pydicom.dcmread(tmp_path / "slice.dcm")
    write_segmentation(np.ones((6, 5, 12), np.uint8), slices, bundle).save_as(tmp_path / "seg.dcm")
    read = pydicom.dcmread(tmp_path / "seg.dcm")
    assert str(read.PatientName) == name
    assert NAME not in str(read)
    assert errors_of(tmp_path / "seg.dcm") == []


def test_what_an_anonymiser_left_out_or_a_hospital_filled_in_at_will_is_empty(case, tmp_path):
    slices, bundle = case
    first = slices[0]
    for keyword in ("PatientID", "StudyID", "AccessionNumber", "PatientBirthDate", "ReferringPhysicianName"):
        delattr(first, keyword)
    first.PatientSex, first.StudyDate, first.StudyTime, first.PatientName = "X", "unknown", "noon", ["A^B", "C^D"]
    write_segmentation(np.ones((6, 5, 12), np.uint8), slices, bundle).save_as(tmp_path / "seg.dcm")
    read = pydicom.dcmread(tmp_path / "seg.dcm")
    assert [read[key].value or "" for key in ("PatientID", "PatientSex", "StudyDate", "StudyTime")] == [""] * 4
    assert read.PatientName == "A^B"
    assert errors_of(tmp_path / "seg.dcm") == []
    assert first.PatientSex == "X", "the slice is as it was"


def test_where_each_frame_lies_and_what_it_shows_is_said(case):
    """Against the source itself: same frame of reference, position and orientation, and the image that is segmented."""
    slices, bundle = case
    segments = np.zeros((6, 5, 12), np.uint8)
    segments[1, 2, 4:7], segments[3, 3, 5] = 1, 3
    result = write_segmentation(segments, slices, bundle)
    (shared,) = result.SharedFunctionalGroupsSequence
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == slices[0].ImageOrientationPatient
    assert shared.PixelMeasuresSequence[0].PixelSpacing == slices[0].PixelSpacing
    found = []
    for frame in result.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        (image,) = [image for image in slices if image.SOPInstanceUID == source.ReferencedSOPInstanceUID]
        assert frame.PlanePositionSequence[0].ImagePositionPatient == image.ImagePositionPatient
        found.append((frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber, slices.index(image)))
    assert sorted(found) == [(1, 4), (1, 5), (1, 6), (3, 5)]


def test_a_segmentation_has_uids_of_its_own_each_time(case):
    slices, bundle = case
    one, other = (write_segmentation(np.ones((6, 5, 12), np.uint8), slices, bundle) for _ in range(2))
    for uid in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert one[uid].value.is_valid
        assert one[uid].value != other[uid].value


def test_a_segmentation_says_what_it_is_and_which_model_made_it(case):
    slices, bundle = case
    result = write_segmentation(np.ones((6, 5, 12), np.uint8), slices, bundle)
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
        assert bundle.digest in algorithm.AlgorithmParameters
    assert result.ManufacturerModelName == bundle.name[:64]
    assert result.SoftwareVersions == bundle.version
    assert result.StudyInstanceUID == slices[0].StudyInstanceUID
    assert result.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
    assert result.PatientID == slices[0].PatientID
