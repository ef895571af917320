"""DICOMweb with Orthanc's plugin."""

import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client import DICOMwebClient
from pydicom.uid import RLELossless

from deploy import dicomweb
from deploy.job import DICOM_FILES
from tests.common.dicom.checks import refusal
from tests.common.dicom.dicom_study import Study, write_series
from tests.deploy.orthanc import USER, WITH_ORTHANC, running_orthanc

pytestmark = WITH_ORTHANC


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as pacs:
        yield pacs


@pytest.fixture
def sent(server, tmp_path, monkeypatch):
    """A study in the server, with a compressed series and one that is not MR; the files of its MR series."""
    monkeypatch.setattr(dicomweb, "exit_cleanly_on_signals", lambda: None)
    (tmp_path / "password").write_text(server.password)
    monkeypatch.setenv("DICOMWEB_URL", f"http://127.0.0.1:{server.http}/dicom-web/")
    monkeypatch.setenv("DICOMWEB_USER", USER)
    monkeypatch.setenv("DICOMWEB_PASSWORD_FILE", str(tmp_path / "password"))
    study = Study()
    for number, modality in ((2, "MR"), (3, "MR"), (4, "CT")):
        write_series(tmp_path / f"sent/{number}", np.ones((4, 4, 3)), np.eye(4), study, number, Modality=modality)
    for path in (tmp_path / "sent/3").iterdir():
        image = pydicom.dcmread(path)
        image.compress(RLELossless, generate_instance_uid=False)
        image.save_as(path)
    for path in (tmp_path / "sent").rglob("*.dcm"):
        address = f"http://127.0.0.1:{server.http}/instances"
        requests.post(address, path.read_bytes(), auth=(USER, server.password), timeout=60).raise_for_status()
    return study.study, [path for path in (tmp_path / "sent").rglob("*.dcm") if path.parent.name != "4"]


def by_uid(paths):
    images = [pydicom.dcmread(path) for path in paths]
    return {image.SOPInstanceUID: (image.file_meta.TransferSyntaxUID, image) for image in images}


def test_the_mr_images_of_a_study_arrive_as_they_are_stored(sent, tmp_path, capsys):
    study, files = sent
    dicomweb.fetch(study, str(tmp_path / "study"))
    assert by_uid((tmp_path / "study").iterdir()) == by_uid(files)
    assert capsys.readouterr().out == "wrote 6 images\n"


def test_results_are_stored_once(sent, server, tmp_path, capsys):
    study, files = sent
    for name in DICOM_FILES:
        image = pydicom.dcmread(files[0])
        image.Modality, image.SOPInstanceUID = "OT", pydicom.uid.generate_uid()
        image.SeriesInstanceUID, image.file_meta.MediaStorageSOPInstanceUID = (
            pydicom.uid.generate_uid(),
            image.SOPInstanceUID,
        )
        image.save_as(tmp_path / name)
    assert refusal(dicomweb.store, str(tmp_path)).startswith("--input: lacks result.json; expected")
    (tmp_path / "result.json").touch()
    for _ in range(2):
        dicomweb.store(str(tmp_path))
        assert capsys.readouterr().out == f"stored {len(DICOM_FILES)} results\n"
    series = [attributes["00080060"]["Value"][0] for attributes in server.query(f"studies/{study}/series")]
    assert sorted(series) == ["CT", "MR", "MR", *["OT"] * len(DICOM_FILES)]


def test_nothing_is_left_of_a_study_that_arrives_in_part(sent, tmp_path, monkeypatch):
    study, _ = sent
    output, whole = str(tmp_path / "out/study"), DICOMwebClient.iter_series
    monkeypatch.setattr(DICOMwebClient, "iter_series", lambda *arguments: list(whole(*arguments))[1:])
    message = refusal(dicomweb.fetch, study, output)
    assert message.startswith("DICOMWEB_URL: the server did not send all images of a series; 1 of ")
    assert list((tmp_path / "out").iterdir()) == []


def test_bad_requests_are_refused_in_one_line(sent, tmp_path, monkeypatch):
    study, _ = sent
    output = str(tmp_path / "study")
    assert refusal(dicomweb.fetch, "1.2.3", output).startswith("--study: no MR images")
    assert refusal(dicomweb.fetch, "new", output) == "--study: expected a StudyInstanceUID"
    assert refusal(dicomweb.fetch, study, str(tmp_path)) == "--output: exists; expected a new folder"
    monkeypatch.setenv("DICOMWEB_USER", "nobody")
    expected = "DICOMWEB_URL: the server does not answer as expected (HTTPError, status 401)"
    assert refusal(dicomweb.fetch, study, output) == expected
