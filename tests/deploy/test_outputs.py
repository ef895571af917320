"""The DICOM objects of a result."""

from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.sr.codedict import codes

from deploy.bundle import segments_of
from deploy.dicom.geometry import volume_of
from deploy.outputs import Case, draw_summary, make_all, make_segmentation
from scripts.prepare.volumes import Volume
from tests.deploy.dicom.dicom_study import Study, write_modality
from tests.deploy.dicom.enhanced_mr import write_enhanced

OWN = "ventricles=1:35764002 SCT Brain ventricle,deep_grey_matter=20:d55e00,hippocampus=7+9,head=9"


@pytest.fixture
def slices(tmp_path):
    """The slices of a series in their order."""
    written = write_modality(tmp_path, np.ones((6, 5, 12)), np.diag([-2, -2, 3, 1]), Study(), 3, "T1ce", shuffle=True)
    return volume_of(written, "series 3")[1]


@pytest.mark.parametrize("highest", [3, 0])
def test_a_saved_segmentation_is_valid_and_reads_back(highest, slices, tumours, assert_valid, tmp_path):
    segments = np.random.default_rng(0).integers(0, highest + 1, (6, 5, 12)).astype(np.uint8)
    make_segmentation(Case(segments, None, slices, {}, tumours)).save_as(tmp_path / "seg.dcm")
    assert_valid(tmp_path / "seg.dcm")
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
    make_segmentation(case).save_as(tmp_path / "seg.dcm")
    cosine, sine = np.cos(np.deg2rad(15)), np.sin(np.deg2rad(15))
    expected = positions[7] + 4 * 2 * np.array([cosine, sine, 0]) + 1 * 2 * np.array([-sine, cosine, 0])

    volume = hd.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True)
    (position,) = volume.map_indices_to_reference(np.argwhere(volume.array))
    np.testing.assert_allclose(position, expected, atol=0.05)
    image = sitk.ReadImage(tmp_path / "seg.dcm")
    (index,) = np.argwhere(sitk.GetArrayFromImage(image))[:, ::-1].tolist()
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), expected, atol=0.05)


def test_regions_of_ones_own_are_segments_with_their_names_and_codes(slices, tumours, assert_valid, tmp_path):
    """In the segmentation and the report: the stated code, or the name as a private code (PS3.3, 8.2)."""
    bundle = replace(tumours, convention=OWN)
    names = ["ventricles", "hippocampus outside head", "head", "deep_grey_matter"]
    expected = [("35764002", "SCT", "Brain ventricle"), *((name, "99BSF", name) for name in names[1:])]
    segments = np.arange(6 * 5 * 12, dtype=np.uint8).reshape(6, 5, 12) % 5
    volumes = {name: 1.5 + number for number, name in enumerate(names)}
    made = make_all(Case(segments, Volume(segments, np.eye(4)), slices, volumes, bundle))
    for name in ("segmentation", "measurements"):
        made[name].save_as(tmp_path / f"{name}.dcm")
        assert_valid(tmp_path / f"{name}.dcm")
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


TUMOUR = segments_of("brats2021")
VOLUMES = dict(zip([segment.label for segment in TUMOUR], (0.0, 12.3456, 1234.5), strict=True))
REMARK = "voxels of 4.00 x 4.00 x 4.00 mm; the model was trained on 1 mm"


@pytest.mark.parametrize("write", [write_modality, write_enhanced])
def test_the_report_belongs_to_the_study_and_its_volumes_refer_to_the_segments(write, tumours, assert_valid, tmp_path):
    written = write(tmp_path / "in", np.ones((6, 5, 12)), np.diag([-2, -2, 3, 1.0]), Study(), 3, "T1ce")
    volume, slices = volume_of(written if isinstance(written, list) else [written], "series 3")
    made = make_all(Case(np.ones((6, 5, 12), np.uint8), volume, slices, VOLUMES, tumours, [REMARK]))
    segmentation, path = made["segmentation"], tmp_path / "report.dcm"
    made["measurements"].save_as(path)
    assert_valid(path)
    report = hd.sr.srread(path)
    assert report.SeriesNumber == 1033
    assert (report.PreliminaryFlag, report.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    evidence = {instance for _, _, instance, _ in report.get_evidence()}
    assert evidence == {segmentation.SOPInstanceUID, *(image.SOPInstanceUID for image in slices)}
    groups = report.content.get_volumetric_roi_measurement_groups()
    for number, (group, segment) in enumerate(zip(groups, TUMOUR, strict=True), 1):
        (measurement,) = group.get_measurements(name=codes.SCT.Volume)
        assert measurement.value == pytest.approx(VOLUMES[segment.label], abs=5e-4)
        assert measurement.unit == codes.UCUM.CubicCentimeter
        reference = group.referenced_segment
        assert reference.referenced_sop_instance_uid == segmentation.SOPInstanceUID
        assert reference.referenced_segment_numbers == [number]
        assert reference.source_series_for_segmentation.value == slices[0].SeriesInstanceUID
        assert group.tracking_uid == segmentation.SegmentSequence[number - 1].TrackingUID
        assert (group.finding_type.value, group.finding_category.value) == (segment.code.split()[0], "49755003")
        texts = [item.TextValue for item in group[0].ContentSequence if item.ValueType == "TEXT"]
        assert {tumours.name, tumours.version, f"checkpoint sha256 {tumours.checkpoint_sha256}"} <= {*texts}
    comments = [item.value for item in report.content[0].ContentSequence if item.name.meaning == "Comment"]
    assert comments == ["Research only, not for diagnosis", REMARK]


VOLUME = Volume(np.full((20, 24, 12), 100, np.float32), np.diag([1.0, 2.0, 3.0, 1.0]))  # in RAS+
SEGMENTS = np.zeros((20, 24, 12), np.uint8)
SEGMENTS[14:18, 16:22, 8:10] = 2  # at the right, front and top


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
def test_outlines_are_where_radiologists_expect_them(flips, tumours):
    where = tuple(slice(None, None, flip) for flip in flips)
    flipped = Volume(VOLUME.array[where], VOLUME.affine @ np.diag([*flips, 1]))
    volumes = {segment.label: 1.0 for segment in tumours.segments}
    figure = draw_summary(Case(SEGMENTS[where], flipped, [], volumes, tumours))
    _, sagittal, _, coronal, plain, axial = (np.asarray(axes.images[0].get_array()) for axes in figure.axes[:6])
    colour = [*bytes.fromhex(tumours.segments[1].colour[1:])]
    assert not (plain == colour).all(-1).any()
    for picture, horizontal in ((sagittal, 0.21), (coronal, 0.2), (axial, 0.2)):  # front; the patient's right
        marked = np.argwhere((picture == colour).all(-1))
        assert marked.mean(0)[1] / picture.shape[1] == pytest.approx(horizontal, abs=0.03)
        assert marked.mean(0)[0] < picture.shape[0] / 3, "top, or front"
