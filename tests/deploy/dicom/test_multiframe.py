"""Enhanced MR against the single-frame series of the same voxels."""

import highdicom as hd
import numpy as np
import pytest

from deploy.dicom.geometry import grid_of, volume_of
from deploy.dicom.series.evidence import candidates_of, why_no_volume
from deploy.dicom.study import read_study
from deploy.outputs import Case, make_segmentation
from scripts.prepare.volumes import FLIP
from tests.deploy.dicom.dicom_study import (
    DESCRIPTIONS,
    Study,
    canonical,
    refusal,
    write_modality,
    write_series,
)
from tests.deploy.dicom.enhanced_mr import ARRAY, ORDER, SHAPE, write_frames
from tests.support import oblique

SLOPES = np.random.default_rng(2).integers(1, 5, SHAPE[2])


@pytest.mark.parametrize("options", [{}, {"order": ORDER}, {"slopes": SLOPES}], ids=["plain", "order", "slopes"])
def test_the_volume_is_that_of_the_single_frame_series(options, tmp_path):
    study = Study()
    image = write_frames(tmp_path / "enhanced", study=study, **options)
    single = write_series(tmp_path / "single", ARRAY, oblique(), study, 3, SeriesDescription="t1")
    for instance, slope in zip(single, options.get("slopes", [1] * 12), strict=True):
        instance.RescaleSlope, instance.RescaleIntercept = str(slope), "0"
    expected, _ = volume_of(single, "single")
    volume, slices = volume_of([image], "enhanced")
    np.testing.assert_array_equal(volume.array, expected.array)
    np.testing.assert_array_equal(volume.affine, expected.affine)
    order = np.argsort(options.get("order", range(12)))
    assert [frame.ReferencedFrameNumber for frame in slices] == (order + 1).tolist()


@pytest.mark.parametrize("modality", DESCRIPTIONS)
def test_enhanced_and_single_frame_series_have_the_same_evidence(modality, tmp_path):
    write_modality(tmp_path / "single", ARRAY, np.eye(4), Study(), 3, modality)
    write_frames(tmp_path / "enhanced", modality)
    (single,), (multiple,) = read_study(tmp_path / "single"), read_study(tmp_path / "enhanced")
    assert [why_no_volume(single), why_no_volume(multiple), len(multiple.instances)] == ["", "", 12]
    assert multiple.files == [tmp_path / "enhanced/003.dcm"]
    assert candidates_of([multiple], ())[0].modality == modality
    for keyword in ("EchoTime", "RepetitionTime", "InversionTime"):
        assert multiple.header.get(keyword) == (single.header.get(keyword) or None)


def several_stacks(image):
    for number, groups in enumerate(image.PerFrameFunctionalGroupsSequence):
        groups.FrameContentSequence[0].StackID = str(number % 2)


def of_one_series(image):
    image.SeriesInstanceUID = "1.2.3"


HALVES = [{"order": half, "change": of_one_series} for half in np.arange(12).reshape(2, 6)]
REFUSED = [  # images of one series, the message
    ([{"order": np.repeat(range(12), 2)}], "two images share a position; expected one volume"),
    ([{"change": several_stacks}], "several stacks of images; expected one volume"),
    ([{"order": np.delete(range(12), 4)}], "mm after slice 4, 3.00 mm elsewhere; is a slice missing?"),
    (HALVES, "several multi-frame images; expected one volume in one image"),
]


@pytest.mark.parametrize(("images", "message"), REFUSED, ids=["two echoes", "two stacks", "a gap", "two images"])
def test_images_that_are_not_one_volume_are_refused(images, message, tmp_path):
    study = Study()
    for number, options in enumerate(images):
        write_frames(tmp_path / str(number), study=study, **options)
    (series,) = read_study(tmp_path)
    assert message in refusal(grid_of, [instance.header for instance in series.instances], "series 3")


def test_the_segmentation_refers_to_the_frames(tmp_path, tumours, assert_valid):
    """Each frame refers to the source's frame at the same position; the segments read back are unchanged."""
    image = write_frames(tmp_path / "in", order=ORDER)
    volume, slices = volume_of([image], "enhanced")
    segments = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.uint8)
    make_segmentation(Case(segments, volume, slices, {}, tumours)).save_as(tmp_path / "seg.dcm")
    assert_valid(tmp_path / "seg.dcm")
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
    for left, right in zip(canonical(volume.array, FLIP @ volume.affine), canonical(segments, oblique()), strict=True):
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-4)
