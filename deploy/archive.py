"""Orthanc as the service uses it: studies, a mark on each, results kept beside it. Every request may be repeated."""

import io
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

MARK, KEPT = 4711, 4712  # numbers of the mark (metadata) and of the kept results (attachment); users' begin at 1024
CONNECT, READ = 10, 300  # seconds to wait for a connection, and for the next bytes
RETRIES = 6  # of a request that gets no answer; with the waits between them, a minute


class ArchiveError(Exception):
    """Orthanc does not answer, or not as expected. The message holds no address, since addresses name studies."""


@dataclass(frozen=True)
class StoredStudy:
    """A study in Orthanc.

    Attributes:
        id: Orthanc's own, which it derives from the identity of the patient: never to be logged.
        stable: whether nothing has arrived for as long as Orthanc's StableAge.
        updated: when the last instance arrived, as text that sorts by time.
    """

    id: str
    stable: bool
    updated: str


class Archive:
    """A client of Orthanc's REST interface.

    Args:
        url: of Orthanc, such as http://orthanc:8042.
        user: registered user of Orthanc.
        password: of the user.
        retries: how often a request without an answer is repeated, with growing waits.
    """

    def __init__(self, url: str, user: str, password: str, retries: int = RETRIES) -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, and no credentials of a .netrc, for patients' data
        self._session.verify = os.environ.get("REQUESTS_CA_BUNDLE", True)
        self._session.auth = (user, password)
        waits = Retry(total=retries, backoff_factor=1, allowed_methods=None)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=waits))

    def last_change(self) -> int:
        """The number of the last change in Orthanc; it also shows that Orthanc and its index answer."""
        return int(self._json("GET", "changes?last")["Last"])

    def modalities(self) -> list[str]:
        """The names of the DICOM nodes in Orthanc's configuration."""
        return list(self._json("GET", "modalities"))

    def studies(self) -> list[StoredStudy]:
        """All studies; the one to which nothing has been added for the longest time comes first."""
        found = self._json("GET", "studies?expand")
        studies = [StoredStudy(each["ID"], bool(each["IsStable"]), each.get("LastUpdate", "")) for each in found]
        return sorted(studies, key=lambda study: (study.updated, study.id))

    def images(self, study: str) -> list[str]:
        """Orthanc's ids of the images of all MR series of a study, sorted."""
        series = self._json("GET", f"studies/{study}/series")
        return sorted(
            image
            for each in series
            if each.get("MainDicomTags", {}).get("Modality") == "MR"
            for image in each["Instances"]
        )

    def mark(self, study: str) -> str | None:
        """The text of a study's mark, if it has one."""
        answer = self._request("GET", f"studies/{study}/metadata/{MARK}", may_be_missing=True)
        return answer.text if answer.ok else None

    def set_mark(self, study: str, text: str) -> None:
        """Mark a study; the mark replaces the one before, all at once."""
        self._request("PUT", f"studies/{study}/metadata/{MARK}", data=text.encode())

    def fetch(self, images: Iterable[str], folder: Path) -> None:
        """Write images as DICOM files into a new folder, under consecutive numbers."""
        folder.mkdir()
        for number, image in enumerate(images):
            (folder / f"{number:06d}.dcm").write_bytes(self._request("GET", f"instances/{image}/file").content)

    def keep(self, study: str, results: bytes) -> None:
        """Keep a zip archive of results beside a study, all at once."""
        self._request("PUT", f"studies/{study}/attachments/{KEPT}", data=results)

    def kept(self, study: str) -> bytes:
        """The zip archive of results that is kept beside a study."""
        return self._request("GET", f"studies/{study}/attachments/{KEPT}/data").content

    def drop(self, study: str) -> None:
        """Remove the results that are kept beside a study, if there are any."""
        self._request("DELETE", f"studies/{study}/attachments/{KEPT}", may_be_missing=True)

    def store(self, results: bytes) -> list[str]:
        """Store the DICOM files of a zip archive; those that are there already stay as they are.

        Returns:
            Orthanc's ids of the instances.

        Raises:
            ArchiveError: Orthanc does not have them all.
        """
        expected = len(zipfile.ZipFile(io.BytesIO(results)).namelist())
        answers = self._json("POST", "instances", data=results)
        stored = [one["ID"] for one in answers if one.get("Status") in ("Success", "AlreadyStored")]
        if len(stored) != expected:
            raise ArchiveError(f"Orthanc has stored {len(stored)} of {expected} results")
        return stored

    def send(self, modality: str, instances: list[str]) -> None:
        """Let Orthanc send instances to a DICOM node by C-STORE, and wait until it has them all."""
        content = {"Resources": instances, "Synchronous": True, "Permissive": False}
        self._request("POST", f"modalities/{modality}/store", json=content)

    def _json(self, method: str, path: str, **options: Any) -> Any:
        answer = self._request(method, path, **options)
        try:
            return answer.json()
        except ValueError:
            raise ArchiveError("Orthanc's answer is not JSON") from None

    def _request(self, method: str, path: str, may_be_missing: bool = False, **options: Any) -> requests.Response:
        try:
            answer = self._session.request(method, f"{self._url}/{path}", timeout=(CONNECT, READ), **options)
        except requests.RequestException as error:
            raise ArchiveError(f"Orthanc does not answer ({type(error).__name__})") from None
        if not (answer.ok or (may_be_missing and answer.status_code == requests.codes.not_found)):
            raise ArchiveError(f"Orthanc answers {method} {path.partition('/')[0]} with status {answer.status_code}")
        return answer
