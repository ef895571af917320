import os
import re
import shutil

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSNearLossless,
    MediaStorageDirectoryStorage,
    RawDataStorage,
    RLELossless,
    generate_uid,
)

from deploy.dicom.series.evidence import why_no_volume
from deploy.dicom.study import read_study
from tests.deploy.dicom.checks import refusal
from tests.deploy.dicom.dicom_study import IDENTIFIER, NAME, VOXELS, Study, change, write_brats, write_modality
from tests.deploy.dicom.enhanced_mr import write_enhanced

ONE_PATIENT = "--input: contains images of 2 patients; expected one patient"


@pytest.fixture
def study(tmp_path):
    """Folder and identity of a study: a localiser and the four series of BraTS, numbered 2 to 5."""
    identity = Study()
    write_brats(tmp_path / "study", None, identity)
    return tmp_path / "study", identity


def test_other_files_copies_and_links_inside_the_folder_add_nothing(study, tmp_path, capsys):
    folder, _ = study
    (folder / "SENTINEL.txt").write_text("text")
    os.mkfifo(folder / "SENTINEL.dcm")
    file = next((folder / "3").iterdir())
    shutil.copy(file, folder / "copy.dcm")
    (folder / "link.dcm").symlink_to(file)
    directory = pydicom.dcmread(file)
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    del directory.SeriesInstanceUID
    directory.save_as(folder / "DICOMDIR")
    series = read_study(folder)
    assert [entry.number for entry in series] == [1, 2, 3, 4, 5]
    assert len(series[2].instances) == 12
    assert capsys.readouterr().err == "warning: --input: files ignored, as they are not DICOM: 2\n"
    (tmp_path / "elsewhere").mkdir()
    (folder / "links").symlink_to(tmp_path / "elsewhere")
    message = "--input: contains a link that is broken or leads outside the folder"
    assert refusal(read_study, folder).startswith(message)
    (folder / "links").unlink()
    (folder / "loop").symlink_to(folder / "loop")
    assert refusal(read_study, folder).startswith(message)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_images_without_voxels_are_no_candidate(study, syntax):
    folder, _ = study
    paths = sorted((folder / "4").iterdir())
    for keeps in (True, False):
        for path in paths:
            image = pydicom.dcmread(path)
            image.file_meta.TransferSyntaxUID = syntax
            if not keeps:
                del image.PixelData
            image.save_as(path, enforce_file_format=True, implicit_vr=syntax.is_implicit_VR, little_endian=True)
        expected = "" if keeps or syntax.is_deflated else "images without voxels"
        assert why_no_volume(read_study(folder)[3]) == expected


def test_objects_other_than_images_are_ignored_beside_images(study):
    """Philips adds an object of raw data to a series of enhanced MR."""
    folder, _ = study
    path = next((folder / "4").iterdir())
    raw = pydicom.dcmread(path)
    for keyword in ("PixelData", "Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(raw, keyword)
    raw.SOPClassUID = raw.file_meta.MediaStorageSOPClassUID = RawDataStorage
    raw.SOPInstanceUID = raw.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    before = read_study(folder)[3]
    raw.save_as(folder / "4/raw.dcm", enforce_file_format=True)
    assert read_study(folder)[3] == before
    assert why_no_volume(before) == ""
    for path in (folder / "4").glob("*"):
        if path.name != "raw.dcm":
            path.unlink()
    assert why_no_volume(read_study(folder)[3]) == "not MR"


@pytest.mark.parametrize(
    ("syntax", "stated", "is_lossy"),
    [
        *[(ExplicitVRLittleEndian, None, False), (ExplicitVRLittleEndian, "01", True), (RLELossless, None, False)],
        *[(JPEGLSNearLossless, None, True), (JPEGBaseline8Bit, "", True), (JPEG2000, "00", False)],
    ],
)
def test_lossy_compression_is_recognised(study, syntax, stated, is_lossy):
    """By the header or the transfer syntax of any image; JPEG 2000 can be lossless, if the header says so."""
    folder, identity = study
    path = next((folder / "4").iterdir())
    images = {path: pydicom.dcmread(path)}
    image = write_enhanced(folder / "6", VOXELS, np.eye(4), identity, 6, "T1")
    images[folder / "6/006.dcm"] = image
    for path, image in images.items():
        image.file_meta.TransferSyntaxUID = syntax
        if stated is not None:
            image.LossyImageCompression = stated
        image.PixelData = encapsulate([b"12"]) if syntax.is_encapsulated else image.PixelData
        image["PixelData"].is_undefined_length = syntax.is_encapsulated
        image.save_as(path, enforce_file_format=True)
    single, multiple = read_study(folder)[3], read_study(folder)[5]
    assert [entry.is_lossy for entry in (single, multiple, read_study(folder)[1])] == [is_lossy, is_lossy, False]


def test_a_deflated_file_is_refused_before_it_fills_the_memory(study, monkeypatch):
    folder, _ = study
    path = next((folder / "4").iterdir())
    image = pydicom.dcmread(path)
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    image.add_new(0x00420011, "OB", bytes(2**25))  # 32 kB of the file
    image.save_as(path, enforce_file_format=True, implicit_vr=False, little_endian=True)
    assert len(read_study(folder)) == 5
    monkeypatch.setattr("deploy.dicom.study.LARGEST", 2**25)
    assert refusal(read_study, folder).startswith(
        "--input: contains a deflated DICOM file that inflates to more than 32 MiB"
    )


@pytest.mark.parametrize("values", [{"PixelData": bytes(32)}, {"PatientID": "SENTINEL-ID-4712"}])
def test_two_different_files_with_one_uid_are_refused(study, values):
    """For example a scan before and after skull stripping by a tool that keeps UIDs, or another patient."""
    folder, _ = study
    shutil.copy(next((folder / "3").iterdir()), folder / "copy.dcm")
    change(folder / "copy.dcm", **values)
    assert refusal(read_study, folder).startswith("--input: two different files have the same SOPInstanceUID")


def test_several_patients_or_studies_are_refused(study, tmp_path):
    folder, identity = study
    write_modality(folder / "6", VOXELS, np.eye(4), identity.other_patient(), 6, "T1")
    assert refusal(read_study, folder) == ONE_PATIENT
    for values in (
        {"PatientName": "OTHER^SENTINEL"},
        {"PatientBirthDate": "19010204"},
        {"PatientSex": "F"},
    ):  # with one ID
        shutil.rmtree(folder / "6")
        write_modality(folder / "6", VOXELS, np.eye(4), identity, 6, "T1", **values)
        assert refusal(read_study, folder) == ONE_PATIENT
    shutil.rmtree(folder / "6")
    write_modality(
        folder / "6", VOXELS, np.eye(4), identity, 6, "T1", PatientName="Sentinel^NameOf^^", PatientBirthDate=""
    )
    read_study(folder)
    shutil.rmtree(folder / "6")
    write_modality(folder / "6", VOXELS, np.eye(4), Study(), 6, "T1")
    assert refusal(read_study, folder) == "--input: contains 2 studies; expected one study"
    for number, name in enumerate((NAME, "OTHER^SENTINEL")):
        write_modality(tmp_path / f"no id/{number}", VOXELS, np.eye(4), Study("1.2", "1.3", name, ""), number, "T1")
    assert refusal(read_study, tmp_path / "no id") == ONE_PATIENT


def test_a_folder_without_dicom_and_a_missing_folder_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text(NAME)
    assert refusal(read_study, tmp_path) == "--input: contains no DICOM files; expected the files of a study"
    message = refusal(read_study, tmp_path / IDENTIFIER)
    assert message == "--input: no such folder; expected a folder with DICOM files"


@pytest.mark.parametrize(("name", "content"), [("IM0001", b""), ("a.DCM", b"SENTINEL"), ("1.2.34", bytes(200))])
def test_files_of_an_interrupted_export_are_reported(study, name, content):
    """If such a file were ignored, a series could lack its last slice unnoticed."""
    (study[0] / name).write_bytes(content)
    assert refusal(read_study, study[0]).startswith("--input: contains a DICOM file that is empty or damaged")


def test_a_damaged_header_is_reported_without_its_content(study):
    file = next((study[0] / "3").iterdir())
    file.write_bytes(file.read_bytes()[:200])  # within the file meta information
    assert refusal(read_study, study[0]).startswith(
        "--input: contains a DICOM file without StudyInstanceUID; it is damaged"
    )


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("SeriesNumber", b"SENTINEL"),
        ("EchoTime", b"3\\5 "),
        ("ImagePositionPatient", b"1\\2 "),
        ("SeriesInstanceUID", b"1.2/../SENTINEL\n<b> "),
        ("FrameOfReferenceUID", b"none"),
        ("ImagePositionPatient", b"nan\\0\\0 "),
        ("PixelSpacing", b"1e300\\1 "),
        ("RescaleSlope", b"inf "),
        ("ImagesInAcquisition", b"all "),
    ],
)
def test_invalid_values_are_reported_without_their_content(study, keyword, value):
    file = next((study[0] / "3").iterdir())
    image = pydicom.dcmread(file)
    tag = Tag(tag_for_keyword(keyword))
    image[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
    image.save_as(file)
    assert re.fullmatch(
        rf"--input: contains an image \(UID \.\.\.\S+\) with an invalid {keyword}", refusal(read_study, study[0])
    )
