"""Enhanced MR compared with highdicom: volumes, references of a segmentation to frames, and converted images."""

import highdicom as hd
import numpy as np
import pydicom

from deploy.dicom.geometry import volume_of
from deploy.dicom.series.evidence import why_no_volume
from deploy.dicom.study import read_study
from deploy.outputs import Case
from deploy.outputs.segmentation import make
from scripts.prepare.resampling import FLIP
from tests.deploy.dicom.checks import dicom_errors, modality_of
from tests.deploy.dicom.dicom_study import Study, canonical, write_modality
from tests.deploy.dicom.enhanced_mr import ARRAY, ORDER, SHAPE, write_frames
from tests.support import oblique


def assert_same(one, other):
    for left, right, tolerance in zip(canonical(*one), canonical(*other), (0, 1e-4), strict=True):
        np.testing.assert_allclose(left, right, rtol=0, atol=tolerance)


def test_the_segmentation_refers_to_the_frames(tmp_path, tumours):
    """Each frame refers to the source's frame at the same position; the segments read back are unchanged."""
    image = write_frames(tmp_path / "in", order=ORDER)
    volume, slices = volume_of([image], "enhanced")
    segments = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.uint8)
    make(Case(segments, volume, slices, {}, tumours), {}).save_as(tmp_path / "seg.dcm")
    assert dicom_errors(tmp_path / "seg.dcm") == []
    read = hd.seg.segread(tmp_path / "seg.dcm")
    positions = [
        groups.PlanePositionSequence[0].ImagePositionPatient for groups in image.PerFrameFunctionalGroupsSequence
    ]
    assert len(read.PerFrameFunctionalGroupsSequence) == 3 * 12
    for groups in read.PerFrameFunctionalGroupsSequence:
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedSOPInstanceUID == image.SOPInstanceUID
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(position, positions[source.ReferencedFrameNumber - 1], atol=1e-6)
    (reference,) = read.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert reference.ReferencedSOPClassUID == image.SOPClassUID
    volume = read.get_volume(combine_segments=True)
    assert_same((volume.array, FLIP @ volume.affine), (segments, oblique()))


def test_a_legacy_converted_image_is_read_like_its_sources(tmp_path):
    kind = {"ImageType": ["ORIGINAL", "PRIMARY"]}
    sources = write_modality(tmp_path / "single", ARRAY, oblique(), Study(), 3, "T1ce", **kind)
    converted = hd.legacy.LegacyConvertedEnhancedMRImage(
        sources, series_instance_uid=hd.UID(), series_number=4, sop_instance_uid=hd.UID(), instance_number=1
    )
    (tmp_path / "study").mkdir()
    converted.save_as(tmp_path / "study/converted.dcm")
    (series,) = read_study(tmp_path / "study")
    assert why_no_volume(series) == ""
    assert (modality_of(series.header), series.header.EchoTime) == ("T1ce", 3)
    volume, _ = volume_of([pydicom.dcmread(tmp_path / "study/converted.dcm")], "converted")
    expected, _ = volume_of(sources, "single")
    np.testing.assert_array_equal(volume.array, expected.array)
    np.testing.assert_array_equal(volume.affine, expected.affine)
