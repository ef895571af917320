import os
import shutil

import numpy as np
import pydicom
import pytest
from pydicom.uid import MediaStorageDirectoryStorage

from deploy.dicom.study import read_study
from tests.deploy.dicom.dicom_study import NAME, VOXELS, Study, change, refusal, write_brats, write_modality

ONE_PATIENT = "--input: contains images of 2 patients; expected one patient"


@pytest.fixture
def study(tmp_path):
    """Folder and identity of a study: a localiser and the four series of BraTS, numbered 2 to 5."""
    identity = Study()
    write_brats(tmp_path / "study", None, identity)
    return tmp_path / "study", identity


def test_other_files_copies_and_links_to_files_add_nothing(study, capsys):
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
    (folder / "loop").symlink_to(folder / "loop")
    assert refusal(read_study, folder).startswith("--input: contains a link that is broken or leads to a folder")


@pytest.mark.parametrize("values", [{"PixelData": bytes(32)}, {"PatientID": "SENTINEL-ID-4712"}])
def test_two_different_files_with_one_uid_are_refused(study, values):
    """For example a scan before and after skull stripping by a tool that keeps UIDs, or another patient."""
    folder, _ = study
    shutil.copy(next((folder / "3").iterdir()), folder / "copy.dcm")
    change(folder / "copy.dcm", **values)
    assert refusal(read_study, folder).startswith("--input: two different files have the same SOPInstanceUID")


def test_several_patients_or_studies_are_refused(study, tmp_path):
    folder, identity = study

    def add(study, **values):
        shutil.rmtree(folder / "6", ignore_errors=True)
        write_modality(folder / "6", VOXELS, np.eye(4), study, 6, "T1", **values)

    others = {"PatientID": "SENTINEL-ID-4712", "PatientName": "OTHER^SENTINEL", "PatientBirthDate": "19010204"}
    for keyword, value in (others | {"PatientSex": "F"}).items():
        add(identity, **{keyword: value})
        assert refusal(read_study, folder) == ONE_PATIENT
    add(identity, PatientName="Sentinel^NameOf^^", PatientBirthDate="")
    read_study(folder)
    add(Study())
    assert refusal(read_study, folder) == "--input: contains 2 studies; expected the DICOM files of one study"
    for number, name in enumerate((NAME, "OTHER^SENTINEL")):
        write_modality(tmp_path / f"no id/{number}", VOXELS, np.eye(4), Study("1.2", "1.3", name, ""), number, "T1")
    assert refusal(read_study, tmp_path / "no id") == ONE_PATIENT


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("IM0001", lambda _: b"", "that is empty or damaged"),
        ("a.DCM", lambda _: b"SENTINEL", "that is empty or damaged"),
        ("1.2.34", lambda _: bytes(200), "that is empty or damaged"),
        ("cut", lambda image: image[:200], "without a valid SOPInstanceUID"),  # within the file meta information
    ],
)
def test_files_of_an_interrupted_export_are_reported(study, name, content, message):
    """If such a file were ignored, a series could lack its last slice unnoticed."""
    image = next((study[0] / "3").iterdir()).read_bytes()
    (study[0] / name).write_bytes(content(image))
    assert refusal(read_study, study[0]).startswith(f"--input: contains a DICOM file {message}")
