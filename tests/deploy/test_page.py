"""The page of the service, without Orthanc: marks and results are given."""

import io
import threading

import numpy as np
import pydicom
import pytest
import requests
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from common.errors import InputError
from deploy.mark import HOLD, Mark
from deploy.page import Page

PIXELS = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
BAD = "<script>alert(1)</script>"


def summary():
    """Return the bytes of a stored summary."""
    image = pydicom.Dataset()
    image.PatientID, image.StudyDate, image.PatientName = f"SENTINEL{BAD}", "20260102", "SENTINEL^NAME"
    image.Rows, image.Columns, image.SamplesPerPixel, image.PlanarConfiguration = 3, 4, 3, 0
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
    image.PhotometricInterpretation, image.PixelData = "RGB", PIXELS.tobytes()
    image.SOPClassUID, image.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content = io.BytesIO()
    image.save_as(content, enforce_file_format=True)
    return content.getvalue()


@pytest.fixture
def page():
    """The page's server, with a failed and a held study."""
    marks = [Mark("s1", "", attempts=1, reason=BAD), Mark("s2", "", HOLD, reason="weak"), Mark("s3", "")]
    calls = []

    def results(study):
        if study == "s1":
            raise InputError("--study=s1: no held results")
        if study == "s3":
            raise ValueError("SENTINEL")
        return {"summary.dcm": summary()}

    def release(study):
        calls.append(study)
        return "studies to deliver: 1"

    with Page(0, lambda: marks, results, {"release": release}) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.calls = calls
        yield server
        server.shutdown()


def test_the_list_escapes_reasons_and_only_the_page_of_a_held_study_names_the_patient(page):
    """SECURITY.md: "and names a patient only on the page of a held study"."""
    answer = requests.get(page.address, timeout=10)
    assert (answer.status_code, "SENTINEL" in answer.text, BAD in answer.text) == (200, False, False)
    assert "1 queued, 0 running, 1 failed, 0 given up, 1 held, 0 done" in answer.text
    assert ('value="release"' in answer.text, '<a href="s2">look</a>' in answer.text) == (False, True)
    assert answer.headers["Cache-Control"] == "no-store"
    held = requests.get(f"{page.address}s2", timeout=10).text
    assert ("SENTINEL&lt;script" in held, BAD in held, 'value="release"' in held) == (True, False, True)
    picture = requests.get(f"{page.address}s2.png", timeout=10).content
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(picture))), PIXELS)


def test_a_request_from_elsewhere_is_refused(page):
    """SECURITY.md: "The service's page listens on this machine only, at an address with a random part. It changes
    nothing for a request from elsewhere,"
    """
    assert page.server_address[0] == "127.0.0.1"
    here = page.address.split("/")[2]
    form, origin = {"action": "release", "study": "s2"}, {"Origin": f"http://{here}"}

    def post(address=page.address, **headers):
        return requests.post(address, form, headers=headers, timeout=10, allow_redirects=False).status_code

    assert requests.get(f"http://{here}/", timeout=10).status_code == 404
    assert requests.get(page.address.replace(page.token, "0" * 22), timeout=10).status_code == 404
    assert requests.get(page.address, headers={"Host": "evil.example"}, timeout=10).status_code == 404
    assert [post(), post(Origin="null"), post(Origin="http://evil.example"), post(f"http://{here}/", **origin)] == [
        404
    ] * 4
    assert post(Host="evil.example", Origin="http://evil.example") == 404
    assert page.calls == []
    assert (post(**origin), page.calls) == (303, ["s2"])
    assert "studies to deliver: 1" in requests.get(page.address, timeout=10).text
    form["study"] = "s1"  # failed, not held
    assert (post(**origin), page.calls) == (303, ["s2"])
    assert "study s1: failed; nothing was changed" in requests.get(page.address, timeout=10).text


def test_errors_are_one_line_and_do_not_name_a_patient(page, capsys):
    answer = requests.get(f"{page.address}s1", timeout=10)
    assert (answer.status_code, answer.text) == (503, "--study=s1: no held results\n")
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{page.address}s3", timeout=10)
    assert capsys.readouterr().err == "error: ValueError (message withheld)\n"
