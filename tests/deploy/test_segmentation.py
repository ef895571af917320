from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.sr.codedict import codes

from deploy.dicom.geometry import volume_of
from deploy.job import Case
from deploy.outputs import make_all, segmentation
from scripts.prepare.volumes import Volume
from tests.deploy.dicom.checks import dicom_errors
from tests.deploy.dicom.dicom_study import Study, write_modality

OWN = "ventricles=1:35764002 SCT Brain ventricle,deep_grey_matter=20:d55e00,hippocampus=7+9,head=9"


@pytest.fixture
def slices(tmp_path):
    """The slices of a series in their order."""
    written = write_modality(tmp_path, np.ones((6, 5, 12)), np.diag([-2, -2, 3, 1]), Study(), 3, "T1ce", shuffle=True)
    return volume_of(written, "series 3")[1]


@pytest.mark.parametrize("highest", [3, 0])
def test_a_saved_segmentation_is_valid_and_reads_back(highest, slices, tumours, tmp_path):
    segments = np.random.default_rng(0).integers(0, highest + 1, (6, 5, 12)).astype(np.uint8)
    segments[:, :, :3] = 0
    segmentation.make(Case(segments, None, slices, {}, tumours)).save_as(tmp_path / "seg.dcm")
    assert dicom_errors(tmp_path / "seg.dcm") == []
    read = hd.seg.segread(tmp_path / "seg.dcm")
    pixels = read.get_pixels_by_source_instance([image.SOPInstanceUID for image in slices], combine_segments=True)
    np.testing.assert_array_equal(pixels.transpose(2, 1, 0), segments)
    assert read.get_volume(combine_segments=True).shape == (12, 5, 6)  # refuses gaps
    assert read.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices == 3


def test_rounding_in_the_source_misleads_no_reader(slices, tumours, tmp_path):
    """With uneven positions SimpleITK takes voxels of 1 mm; highdicom refuses these and axes not at right angles."""
    positions = np.array([image.ImagePositionPatient for image in slices], float)
    for k, image in enumerate(slices):
        image.ImageOrientationPatient = ["0.966", "0.259", "0", "-0.259", "0.966", "0"]  # 15 degrees
        image.ImagePositionPatient = (positions[k] + [0, 0.03 * (k % 3 == 1), 0.03 * (k % 2)]).tolist()
    segments = np.zeros((6, 5, 12), np.uint8)
    segments[4, 1, 7] = 1
    case = Case(segments, None, slices, {}, replace(tumours, convention="atlas"))
    segmentation.make(case).save_as(tmp_path / "seg.dcm")
    cosine, sine = np.cos(np.deg2rad(15)), np.sin(np.deg2rad(15))
    expected = positions[7] + 4 * 2 * np.array([cosine, sine, 0]) + 1 * 2 * np.array([-sine, cosine, 0])

    volume = hd.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True)
    (position,) = volume.map_indices_to_reference(np.argwhere(volume.array))
    np.testing.assert_allclose(position, expected, atol=0.05)
    image = sitk.ReadImage(tmp_path / "seg.dcm")
    (index,) = np.argwhere(sitk.GetArrayFromImage(image))[:, ::-1].tolist()
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), expected, atol=0.05)


def test_regions_of_ones_own_are_segments_with_their_names_and_codes(slices, tumours, tmp_path):
    """In the segmentation and the report: the stated code, or the name as a private code (PS3.3, 8.2)."""
    bundle = replace(tumours, convention=OWN)
    names = ["ventricles", "hippocampus outside head", "head", "deep_grey_matter"]
    expected = [("35764002", "SCT", "Brain ventricle"), *((name, "99BSF", name) for name in names[1:])]
    segments = np.arange(6 * 5 * 12, dtype=np.uint8).reshape(6, 5, 12) % 5
    volumes = {name: 1.5 + number for number, name in enumerate(names)}
    made = make_all(Case(segments, Volume(segments, np.eye(4)), slices, volumes, bundle))
    for name in ("segmentation", "measurements"):
        made[name].save_as(tmp_path / f"{name}.dcm")
        assert dicom_errors(tmp_path / f"{name}.dcm") == []
    read = hd.seg.segread(tmp_path / "segmentation.dcm")
    described = [read.get_segment_description(number) for number in read.segment_numbers]
    assert [segment.segment_label for segment in described] == names
    kinds = [segment.segmented_property_type for segment in described]
    assert [(kind.value, kind.scheme_designator, kind.meaning) for kind in kinds] == expected
    assert {segment.segmented_property_category for segment in described} == {codes.SCT.Tissue}
    groups = hd.sr.srread(tmp_path / "measurements.dcm").content.get_volumetric_roi_measurement_groups()
    assert [group.finding_type for group in groups] == kinds
    assert {group.finding_category for group in groups} == {codes.SCT.Tissue}
    assert [group.get_measurements()[0].value for group in groups] == [*volumes.values()]
