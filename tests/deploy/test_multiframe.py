"""Enhanced MR against the single-frame series of the same voxels, and against other readers of enhanced MR."""

import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("highdicom", reason="needs the environment of make deploy")

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
from nibabel.nicom.dicomwrappers import MultiframeWrapper

from deploy.bundle import open_bundle
from deploy.geometry import LPS_TO_RAS, grid_of, volume_of
from deploy.multiframe import frames_of
from deploy.segmentation import make_segmentation
from deploy.series_choice import is_volume, modality_of
from deploy.study import read_study
from tests.deploy.checks import dicom_errors, refusal
from tests.deploy.dicom_study import DESCRIPTIONS, Study, write_modality, write_series
from tests.deploy.enhanced_mr import item, write_enhanced
from tests.support import ROOT

SHAPE = (7, 5, 12)
ORDER = np.random.default_rng(1).permutation(SHAPE[2])
SLOPES = np.random.default_rng(2).integers(1, 5, SHAPE[2])
KINDS = {
    "plain": {},
    "geometry in every frame": {"geometry_per_frame": True},
    "frames in random order": {"order": ORDER},
    "rescaled frame by frame": {"slopes": SLOPES},
}


def oblique():
    """An affine of 1.5 x 1 x 3 mm, rotated about two axes."""
    a, b = np.deg2rad([20, -12])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag([1.5, 1.0, 3.0])
    affine[:3, 3] = [-40.5, 17.25, 3.0]
    return affine


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(0, 4000, SHAPE)


def single_frames(folder, array, study, slopes=None, **_):
    """The single-frame series that an enhanced image stands for."""
    slices = write_series(folder, array, oblique(), study, 3, SeriesDescription="t1")
    for image, slope in zip(slices, slopes if slopes is not None else [1] * len(slices), strict=True):
        image.RescaleSlope, image.RescaleIntercept = str(slope), "0"
    return slices


def enhanced(folder, array, study=None, modality="T1", **options):
    return write_enhanced(folder, array, oblique(), study or Study(), 3, modality, **options)


def canonical(array, affine):
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(array, dtype=np.float64), affine))
    return image.get_fdata(), image.affine


def assert_same(one, other):
    for left, right, tolerance in zip(canonical(*one), canonical(*other), (0, 1e-4), strict=True):
        np.testing.assert_allclose(left, right, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_the_volume_is_that_of_the_single_frame_series(kind, array, tmp_path):
    study = Study()
    image = enhanced(tmp_path / "enhanced", array, study, **KINDS[kind])
    expected, _ = volume_of(single_frames(tmp_path / "single", array, study, **KINDS[kind]), "single")
    volume, slices = volume_of([image], "enhanced")
    np.testing.assert_array_equal(volume.array, expected.array)
    np.testing.assert_array_equal(volume.affine, expected.affine)
    assert [frame.ReferencedFrameNumber for frame in slices] == (
        np.argsort(KINDS[kind].get("order", range(12))) + 1
    ).tolist()
    assert dicom_errors(next((tmp_path / "enhanced").iterdir())) == [], "the test's own image is valid"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "every frame" not in kind])
def test_highdicom_reads_the_same_volume(kind, array, tmp_path):
    image = enhanced(tmp_path, array, **KINDS[kind])
    volume, _ = volume_of([image], "enhanced")
    read = hd.Image.from_dataset(image).get_volume(dtype=np.float64)
    assert_same((volume.array, volume.affine), (read.array, LPS_TO_RAS @ read.affine))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "random" not in kind])  # it places them by the first frame
def test_nibabel_reads_the_same_volume(kind, array, tmp_path):
    image = enhanced(tmp_path, array, **KINDS[kind])
    volume, _ = volume_of([image], "enhanced")
    wrapper = MultiframeWrapper(image)
    assert_same((volume.array, volume.affine), (wrapper.get_data(), LPS_TO_RAS @ wrapper.affine))


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed (Debian: dcm2niix)")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "rescaled" not in kind])  # it wants one slope per series
def test_dcm2niix_reads_the_same_volume(kind, array, tmp_path):
    image = enhanced(tmp_path / "in", array, **KINDS[kind])
    volume, _ = volume_of([image], "enhanced")
    (tmp_path / "out").mkdir()
    subprocess.run(["dcm2niix", "-f", "x", "-o", tmp_path / "out", tmp_path / "in"], check=True, capture_output=True)
    read = nib.load(tmp_path / "out/x.nii")
    assert_same((volume.array, volume.affine), (read.get_fdata(), read.affine))


def test_a_legacy_converted_image_is_read_like_its_sources(array, tmp_path):
    sources = write_modality(
        tmp_path / "single", array, oblique(), Study(), 3, "T1ce", ImageType=["ORIGINAL", "PRIMARY"]
    )
    converted = hd.legacy.LegacyConvertedEnhancedMRImage(
        sources, series_instance_uid=hd.UID(), series_number=4, sop_instance_uid=hd.UID(), instance_number=1
    )
    (tmp_path / "study").mkdir()
    converted.save_as(tmp_path / "study/converted.dcm")
    (series,) = read_study(tmp_path / "study")
    assert is_volume(series)
    assert modality_of(series.header) == "T1ce"
    assert series.header.EchoTime == 3
    volume, _ = volume_of([pydicom.dcmread(tmp_path / "study/converted.dcm")], "converted")
    expected, _ = volume_of(sources, "single")
    np.testing.assert_array_equal(volume.array, expected.array)
    np.testing.assert_array_equal(volume.affine, expected.affine)


@pytest.mark.parametrize("command", [["dcmcrle"], ["dcmcjpls"], ["dcmcjpeg", "+e1"]], ids=" ".join)
def test_losslessly_compressed_frames_are_equal(command, array, tmp_path):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (Debian: dcmtk)")
    expected, _ = volume_of([enhanced(tmp_path, array)], "enhanced")
    (path,) = tmp_path.iterdir()
    subprocess.run([*command, path, path], check=True)
    image = pydicom.dcmread(path)
    assert image.file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(volume_of([image], "enhanced")[0].array, expected.array)


@pytest.mark.parametrize("modality", DESCRIPTIONS)
def test_the_rules_for_series_find_what_they_find_in_single_frames(modality, array, tmp_path):
    """By words, and without them by times and contrast agent, which enhanced MR has under other names."""
    write_modality(tmp_path / "single", array, np.eye(4), Study(), 3, modality)
    enhanced(tmp_path / "enhanced", array, modality=modality)
    (single,), (multiple,) = read_study(tmp_path / "single"), read_study(tmp_path / "enhanced")
    assert [is_volume(single), is_volume(multiple), len(multiple.instances)] == [True, True, 12]
    assert modality_of(multiple.header) == modality
    for keyword in ("EchoTime", "RepetitionTime", "InversionTime"):
        assert multiple.header.get(keyword) == (single.header.get(keyword) or None)
    del single.header.SeriesDescription, multiple.header.SeriesDescription
    for keyword in ("ContrastBolusStartTime", "AcquisitionDate", "AcquisitionTime"):  # which only these frames have
        if keyword in multiple.header:
            single.header[keyword] = multiple.header[keyword]
    assert modality_of(multiple.header) == modality_of(single.header)


def no_agent(image):
    usage = image.SharedFunctionalGroupsSequence[0].ContrastBolusUsageSequence[0]
    usage.ContrastBolusAgentAdministered, usage.ContrastBolusAgentPhase = "NO", "PRE_CONTRAST"


@pytest.mark.parametrize(("change", "agent"), [(lambda image: None, "Gadobutrol"), (no_agent, "NONE")])
def test_frames_tell_of_sequence_and_contrast_agent_as_single_frames_do(change, agent, array, tmp_path):
    frame = frames_of(enhanced(tmp_path, array, modality="T1ce", change=change))[3]
    assert frame.ContrastBolusAgent == agent
    assert frame.get("ContrastBolusStartTime") == ("025800" if agent == "Gadobutrol" else None)
    assert (frame.SequenceName, frame.ScanningSequence) == ("sequence", ["SE", "IR"])
    assert frame.ImageType == ["ORIGINAL", "PRIMARY", "OTHER", "NONE"]
    assert (frame.AcquisitionDate, frame.AcquisitionTime) == ("20260102", "030405")


def test_the_groups_of_a_frame_overrule_shared_ones(array, tmp_path):
    def change(image):
        image.PerFrameFunctionalGroupsSequence[3].MREchoSequence = [item(EffectiveEchoTime=77.0)]

    frames = frames_of(enhanced(tmp_path, array, change=change))
    assert [frame.EchoTime for frame in frames] == [3] * 3 + [77] + [3] * 8


def test_phase_images_say_so_in_their_image_type(array, tmp_path):
    def change(image):
        image.SharedFunctionalGroupsSequence[0].MRImageFrameTypeSequence[0].ComplexImageComponent = "PHASE"

    assert "PHASE" in frames_of(enhanced(tmp_path, array, change=change))[0].ImageType


def test_the_frames_do_not_change_the_image(array, tmp_path):
    image = enhanced(tmp_path, array)
    before = image.to_json()
    assert len(frames_of(image)) == 12
    assert image.to_json() == before


@pytest.mark.parametrize("kind", KINDS)
def test_the_segmentation_refers_to_the_frames(kind, array, tmp_path, models):
    """Each frame refers to the frame of the source at its place; the segments read back are those that were written."""
    image = enhanced(tmp_path / "in", array, **KINDS[kind])
    _, slices = volume_of([image], "enhanced")
    bundle = open_bundle(ROOT / "bundles/brats_finetune", models("brats"))
    segments = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.uint8)
    make_segmentation(segments, slices, bundle).save_as(tmp_path / "seg.dcm")
    assert dicom_errors(tmp_path / "seg.dcm") == []
    read = hd.seg.segread(tmp_path / "seg.dcm")
    places = [groups.PlanePositionSequence[0].ImagePositionPatient for groups in image.PerFrameFunctionalGroupsSequence]
    assert len(read.PerFrameFunctionalGroupsSequence) == 3 * 12
    for groups in read.PerFrameFunctionalGroupsSequence:
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedSOPInstanceUID == image.SOPInstanceUID
        assert groups.PlanePositionSequence[0].ImagePositionPatient == places[source.ReferencedFrameNumber - 1]
    (reference,) = read.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert reference.ReferencedSOPClassUID == image.SOPClassUID
    volume = read.get_volume(combine_segments=True)
    assert_same((volume.array, LPS_TO_RAS @ volume.affine), (segments, oblique()))


def several_stacks(image):
    for number, groups in enumerate(image.PerFrameFunctionalGroupsSequence):
        groups.FrameContentSequence[0].StackID = str(number % 2)


REFUSED = {
    "two echoes": ({"order": np.repeat(np.arange(12), 2)}, "two images have one position; expected one volume"),
    "two volumes in time": ({"order": np.tile(np.arange(12), 2)}, "two images have one position; expected one volume"),
    "two stacks": ({"change": several_stacks}, "several stacks of images; expected one volume"),
    "a gap": ({"order": np.delete(np.arange(12), 4)}, "mm after slice 4, 3.00 mm elsewhere; is a slice missing?"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_images_that_are_not_one_volume_are_refused(kind, array, tmp_path):
    options, message = REFUSED[kind]
    enhanced(tmp_path, array, **options)
    (series,) = read_study(tmp_path)
    assert is_volume(series)
    refused = refusal(grid_of, [instance.header for instance in series.instances], "series 3")
    assert refused.startswith("series 3: ")
    assert message in refused


def test_a_series_of_several_images_is_refused(array, tmp_path):
    study, uid = Study(), hd.UID()
    for part in (0, 1):
        change = lambda image: setattr(image, "SeriesInstanceUID", uid)  # noqa: E731
        enhanced(tmp_path / str(part), array, study, order=np.arange(6) + 6 * part, change=change)
    (series,) = read_study(tmp_path)
    message = refusal(grid_of, [instance.header for instance in series.instances], "series 3")
    assert message == "series 3: several multi-frame images; expected one volume in one image"


def test_three_orientations_in_one_image_are_not_a_volume(array, tmp_path):
    def turn(image):
        for number, groups in enumerate(image.PerFrameFunctionalGroupsSequence):
            cosines = np.roll(np.eye(3), number % 3, axis=0)[:2].ravel().tolist()
            groups.PlaneOrientationSequence[0].ImageOrientationPatient = cosines

    enhanced(tmp_path, array, geometry_per_frame=True, change=turn)
    assert [is_volume(series) for series in read_study(tmp_path)] == [False]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: setattr(image, "NumberOfFrames", 13),
        lambda image: delattr(image, "PerFrameFunctionalGroupsSequence"),
    ],
)
def test_frames_without_description_are_reported(change, array, tmp_path):
    enhanced(tmp_path, array, change=change)
    assert refusal(read_study, tmp_path) == "--input: contains a DICOM file that cannot be read (ValueError)"


def test_missing_voxels_are_reported_in_one_line(array, tmp_path):
    image = enhanced(tmp_path, array)
    image.PixelData = image.PixelData[:-10]
    message = refusal(volume_of, [image], "series 3")
    assert message == "series 3: voxels cannot be read (Explicit VR Little Endian: ValueError)"


@pytest.mark.parametrize(("code", "usable"), [("12738006", True), ("69536005", True), ("421060004", False)])
def test_the_anatomy_of_the_frames_rules_out_other_parts_of_the_body(code, usable, array, tmp_path):
    def change(image):
        (anatomy,) = image.SharedFunctionalGroupsSequence[0].FrameAnatomySequence
        anatomy.AnatomicRegionSequence[0].CodeValue = code  # brain, head, vertebral column

    enhanced(tmp_path, array, change=change)
    (series,) = read_study(tmp_path)
    assert modality_of(series.header) == ("T1" if usable else None)


def test_a_study_lists_one_file_for_all_frames(array, tmp_path):
    enhanced(tmp_path, array)
    (series,) = read_study(tmp_path)
    assert series.files == [Path(tmp_path / "003.dcm")]
