"""Invalid answers, from a server in place of Orthanc."""

import base64
import io
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
import requests

from deploy import archive, service
from deploy.archive import Archive
from deploy.mark import HOLD, Mark
from deploy.worker import studies_to_segment
from tests.common.dicom.checks import refusal

ID = "0123abcd-0123abcd-0123abcd-0123abcd-0123abcd"
STUDY = f'[{{"ID": "{ID}", "IsStable": true, "MainDicomTags": {{}}, "Metadata": {{"4711": "mark"}}}}]'


@pytest.fixture
def orthanc(monkeypatch):
    """A client, and the answers of its server by path: None is sent fast and without end, "" slowly."""
    answers = {"/studies": f'["{ID}"]', "/tools/bulk-content": STUDY, f"/studies/{ID}/series": "[]"}
    answers |= {"/modalities": "/studies"}  # a redirect

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = answers[self.path]
            self.send_response(302 if answer in answers else 200)
            self.send_header("Location", answer if answer in answers else "")
            self.end_headers()
            try:
                self.wfile.write((answer or "[").encode())
                while answer in (None, ""):
                    self.wfile.write(b"[" * 2**20 if answer is None else b"[")
                    time.sleep(0 if answer is None else 0.1)
            except OSError:  # the client has left
                self.close_connection = True

        do_POST = do_GET  # noqa: N815 (http.server's name)

        def log_message(self, *_):
            pass

    monkeypatch.setattr(archive, "LARGEST", 2**22)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Archive(f"http://127.0.0.1:{server.server_port}", "user", "password", retries=0), answers
        server.shutdown()
        thread.join()


def test_invalid_answers_are_refused_in_one_line(orthanc):
    client, answers = orthanc
    (study,) = client.studies()
    assert (study.id, study.stable, study.updated, study.scanned, study.mark) == (ID, True, "", "", "mark")
    assert list(studies_to_segment(client, "", {})) == [], "a study without images and time of update"
    for path, answer in (
        ("/tools/bulk-content", STUDY.replace("true", "1")),
        ("/tools/bulk-content", STUDY.replace("{}", "5")),
        ("/tools/bulk-content", STUDY.replace('"mark"', "{}")),
        ("/studies", '["../../x"]'),
        ("/studies", "[1, 2, 3]"),
        ("/studies", "5"),
    ):
        answers[path] = answer
        request = "POST tools" if "tools" in path else "GET studies"
        assert refusal(client.studies).startswith(f"Orthanc answers {request} with a ")
    for answer, expected in (
        ("[" * 100_000, "invalid JSON"),
        ("<html>", "invalid JSON"),
        (None, "more than 4194304"),
    ):
        answers["/studies"] = answer
        assert refusal(client.studies).startswith(f"Orthanc answers GET studies with {expected}")
    answers["/studies"], client.limit = "", 1
    assert refusal(client.studies) == "Orthanc does not answer GET studies within 1 s"


def test_a_tls_failure_names_the_variable_for_certificates(orthanc):
    """The server speaks no TLS."""
    client = Archive(orthanc[0]._url.replace("http", "https"), "user", "password", retries=0)
    assert "; set REQUESTS_CA_BUNDLE to a file with the certificate of Orthanc" in refusal(client.studies)


def test_redirects_are_refused_since_they_could_take_the_password_elsewhere(orthanc):
    assert refusal(orthanc[0].modalities) == "Orthanc answers GET modalities with status 302"


@pytest.mark.parametrize("spoil", [lambda whole: whole.replace(b"second", b"zecond"), lambda _: b"PK", bytes])
def test_damaged_results_are_not_written_in_part(tmp_path, monkeypatch, spoil):
    monkeypatch.setattr(archive, "LARGEST", 10 if spoil is bytes else 100)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as results:
        results.writestr("segmentation.dcm", "first")
        results.writestr("summary.dcm", "second")
    held = SimpleNamespace(id=ID, mark=Mark("s1", "", HOLD).text())
    kept = SimpleNamespace(studies=lambda: [held], kept=lambda _: spoil(content.getvalue()))
    monkeypatch.setattr(service, "_open", lambda **_: kept)
    assert refusal(service.inspect, "s1", str(tmp_path)).startswith(
        "--study=s1: its results in Orthanc are lost or damaged;"
    )
    assert list(tmp_path.iterdir()) == []


def test_credentials_are_sent_in_utf8_and_certificates_always_verified(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "")
    client = Archive("http://orthanc..local", "αβ", "pass€wort", retries=0)
    sent = client._session.prepare_request(requests.Request("GET", "http://orthanc"))
    assert base64.b64decode(sent.headers["Authorization"].removeprefix("Basic ")).decode() == "αβ:pass€wort"
    assert client._session.verify is True
    assert refusal(client.studies).startswith("Orthanc does not answer at ORTHANC_URL (")
    for name, value in {"URL": "https://orthanc", "USER": "user", "PASSWORD_FILE": str(tmp_path / "password")}.items():
        monkeypatch.setenv(f"ORTHANC_{name}", value)
    (tmp_path / "password").write_text("pass€wort\n", "utf-8")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/none.pem")
    assert refusal(service._open).startswith("REQUESTS_CA_BUNDLE=/none.pem: No such file")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "password"))
    assert refusal(service._open).startswith(f"REQUESTS_CA_BUNDLE={tmp_path / 'password'}: no certificates; expected")
