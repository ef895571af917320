"""Enhanced MR compared with highdicom: volumes, references of a segmentation to frames, and converted images."""

import highdicom as hd
import numpy as np

from deploy.dicom.geometry import volume_of
from deploy.outputs import Case
from deploy.outputs.segmentation import make
from scripts.prepare.resampling import FLIP
from tests.deploy.dicom.checks import dicom_errors
from tests.deploy.dicom.dicom_study import canonical
from tests.deploy.dicom.enhanced_mr import ORDER, SHAPE, write_frames
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
