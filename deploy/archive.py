"""The service's Orthanc client: studies, their marks (mark.py) and results. Every request can safely be repeated."""

import io
import re
import signal
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from common.errors import InputError
from common.files import parse_json
from deploy.job import MANUFACTURER, RESULT_FILES
from deploy.login import hint_of, session_of

MARK, KEPT = 4711, 4712  # user-defined numbers of the mark (Orthanc metadata) and the results (attachment)
CONNECT, READ = 10, 300  # timeouts for connecting and for reading, seconds
RETRIES = 6  # attempts after an unanswered request; about a minute with the waits
LARGEST = 2**30  # maximum bytes of an answer
# Shapes of answers, see `_fits`
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")  # Orthanc's id of a resource, a SHA-1
STUDY = {
    **{"ID": ID, "IsStable": bool, "LastUpdate": str | None},
    **{"MainDicomTags": {"StudyDate": str | None}, "Metadata": {str(MARK): str | None}},
}
SERIES = {"MainDicomTags": dict, "Instances": [ID]}
STORED = {"ID": str | None, "Status": str | None}


class ArchiveError(InputError):
    """Orthanc gave no answer or an unexpected answer. The message contains no URL, because URLs name studies."""


class RefusedError(ArchiveError):
    """Orthanc answers with an error status or unexpected content."""


@dataclass(frozen=True)
class StoredStudy:
    """A study in Orthanc: whether it is complete (`stable`), its dates, and the service's mark.

    Orthanc derives `id` from the patient's identity, so it must never be logged. `updated` is a time as sortable text.
    """

    id: str
    stable: bool
    updated: str
    scanned: str  # YYYYMMDD; the day of `updated` for a study without a date
    mark: str | None  # text of the mark; None without a mark


class Archive:
    """A client of Orthanc's REST interface; requests without an answer are repeated with growing waits."""

    limit = 600  # seconds for a request with its retries

    def __init__(self, url: str, user: str, password: str, retries: int = RETRIES) -> None:
        self._url = url.rstrip("/")
        self._session = session_of(user, password)
        waits = Retry(total=retries, backoff_factor=1, allowed_methods=None)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=waits))

    def last_change(self) -> int:
        """Return the number of the last change in Orthanc; the query also tests that Orthanc and its index respond."""
        return int(self._json("GET", "changes?last", {"Last": int})["Last"])

    def modalities(self) -> list[str]:
        """Return the names of the DICOM nodes in Orthanc's configuration."""
        return list(self._json("GET", "modalities", [str]))

    def studies(self) -> list[StoredStudy]:
        """Return all studies, the least recently updated first."""
        content = {"Resources": self._json("GET", "studies", [ID]), "Level": "Study", "Metadata": True}
        studies = []
        for item in self._json("POST", "tools/bulk-content", [STUDY], json=content):
            updated = item.get("LastUpdate") or ""
            scanned = (item["MainDicomTags"].get("StudyDate") or "").replace(".", "")  # ACR-NEMA: 2026.11.20
            mark = item["Metadata"].get(str(MARK))
            studies.append(StoredStudy(item["ID"], item["IsStable"], updated, scanned or updated[:8], mark))
        return sorted(studies, key=lambda study: (study.updated, study.id))

    def images(self, study: str) -> list[str]:
        """Return Orthanc's ids of all MR images of a study, sorted."""
        return self._instances(study, "Modality", "MR")

    def results(self, study: str) -> list[str]:
        """Return Orthanc's ids of all results of this application in a study, sorted."""
        return self._instances(study, "Manufacturer", MANUFACTURER)

    def _instances(self, study: str, keyword: str, value: str) -> list[str]:
        series = self._json("GET", f"studies/{study}/series", [SERIES])
        chosen = [item for item in series if item["MainDicomTags"].get(keyword) == value]
        return sorted(instance for item in chosen for instance in item["Instances"])

    def has(self, study: str) -> bool:
        """Return whether Orthanc still has a study."""
        return self._request("GET", f"studies/{study}", may_be_missing=True) is not None

    def mark(self, study: str) -> str | None:
        """Return the text of a study's mark; None without a mark."""
        answer = self._request("GET", f"studies/{study}/metadata/{MARK}", may_be_missing=True)
        return None if answer is None else answer.decode(errors="replace")

    def set_mark(self, study: str, text: str) -> None:
        """Mark a study, replacing an earlier mark atomically."""
        self._request("PUT", f"studies/{study}/metadata/{MARK}", data=text.encode())

    def fetch(self, images: Iterable[str], folder: Path) -> None:
        """Download images as consecutively numbered DICOM files into a new folder."""
        folder.mkdir()
        for number, image in enumerate(images):
            (folder / f"{number:06d}.dcm").write_bytes(self._request("GET", f"instances/{image}/file") or b"")

    def keep(self, study: str, results: bytes) -> None:
        """Attach a zip archive of results to a study in Orthanc, atomically."""
        self._request("PUT", f"studies/{study}/attachments/{KEPT}", data=results)

    def kept(self, study: str) -> bytes | None:
        """Return the zip archive of results attached to a study; None if missing or damaged."""
        answer = self._request("GET", f"studies/{study}/attachments/{KEPT}/data", may_be_missing=True)
        return answer if answer and results_in(answer) else None

    def drop(self, study: str) -> None:
        """Remove the results attached to a study, if any."""
        self._request("DELETE", f"studies/{study}/attachments/{KEPT}", may_be_missing=True)

    def delete(self, instances: Iterable[str]) -> None:
        """Delete instances, if they still exist."""
        for instance in instances:
            self._request("DELETE", f"instances/{instance}", may_be_missing=True)

    def store(self, results: bytes) -> list[str]:
        """Store the DICOM files of a zip archive in Orthanc and return the Orthanc ids of the files.

        Files that Orthanc already has stay unchanged. Raise an ArchiveError if a file is not stored.
        """
        with zipfile.ZipFile(io.BytesIO(results)) as content:
            expected = len(content.namelist())
        answers = self._json("POST", "instances", [STORED], data=results)
        stored = [item["ID"] for item in answers if item.get("Status") in ("Success", "AlreadyStored")]
        if len(stored) != expected:
            raise ArchiveError(f"Orthanc has stored {len(stored)} of {expected} results")
        return stored

    def send(self, modality: str, instances: list[str]) -> None:
        """Send instances to a DICOM node by C-STORE; return when the node has received all of them."""
        content = {"Resources": instances, "Synchronous": True, "Permissive": False}
        try:
            self._request("POST", f"modalities/{modality}/store", json=content)
        except RefusedError:
            problem = "it answers, but does not accept the results"
            try:
                self._request("POST", f"modalities/{modality}/echo", json={})
            except RefusedError:
                problem = "it is down or refuses connections (no answer to C-ECHO)"
            raise ArchiveError(f"DICOM node {modality}: {problem}") from None

    def _json(self, method: str, path: str, shape: Any, **options: Any) -> Any:
        """Return the JSON content of an answer; raise a RefusedError if it does not match `shape` (see `_fits`)."""
        answer = self._request(method, path, **options) or b""
        try:
            content = parse_json(answer)
        except ValueError:
            raise RefusedError(f"Orthanc answers {_route(method, path)} with invalid JSON") from None
        if not _fits(content, shape):
            what = type(content).__name__
            raise RefusedError(f"Orthanc answers {_route(method, path)} with a {what} of unexpected content")
        return content

    def _request(self, method: str, path: str, may_be_missing: bool = False, **options: Any) -> bytes | None:
        """Return the content of an answer; None for a missing resource, if `may_be_missing`."""
        options |= {"timeout": (CONNECT, READ), "stream": True, "allow_redirects": False}
        content = bytearray()

        def expire(*_: object) -> None:
            raise ArchiveError(f"Orthanc does not answer {_route(method, path)} within {self.limit} s")

        signal.signal(signal.SIGALRM, expire)  # READ limits only the wait for the next byte
        signal.alarm(self.limit)
        try:
            with self._session.request(method, f"{self._url}/{path}", **options) as answer:
                if may_be_missing and answer.status_code == requests.codes.not_found:
                    return None
                if answer.status_code // 100 != 2:  # a redirect could send images and password elsewhere
                    is_login = answer.status_code == requests.codes.unauthorized
                    hint = "; see ORTHANC_USER and ORTHANC_PASSWORD_FILE" if is_login else ""
                    raise RefusedError(f"Orthanc answers {_route(method, path)} with status {answer.status_code}{hint}")
                for part in answer.iter_content(2**20):
                    content += part
                    if len(content) > LARGEST:
                        raise RefusedError(f"Orthanc answers {_route(method, path)} with more than {LARGEST} bytes")
        except (requests.RequestException, HTTPError, UnicodeError) as error:  # the last two: invalid host
            what = f"{type(error).__name__}){hint_of(error, 'Orthanc')}"
            raise ArchiveError(f"Orthanc does not answer at ORTHANC_URL ({what}") from None
        finally:
            signal.alarm(0)
        return bytes(content)


def results_in(packed: bytes) -> dict[str, bytes]:
    """Return the results in a zip archive by file name; empty if the archive is damaged or too large."""
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST:
                raise zipfile.BadZipFile
            return {name: archive.read(name) for name in archive.namelist() if name in RESULT_FILES}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        return {}


def _route(method: str, path: str) -> str:
    """Describe a request without the ids in its path."""
    return f"{method} {path.partition('/')[0]}"


def _fits(content: Any, shape: Any) -> bool:
    """Whether JSON content matches a shape: a type, a pattern for text, [shape of every item] or {key: shape}."""
    if isinstance(shape, dict):
        return isinstance(content, dict) and all(_fits(content.get(key), inner) for key, inner in shape.items())
    if isinstance(shape, list):
        return isinstance(content, list) and all(_fits(item, shape[0]) for item in content)
    if isinstance(shape, re.Pattern):
        return isinstance(content, str) and shape.fullmatch(content) is not None
    return isinstance(content, shape)
