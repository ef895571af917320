"""A PACS for trials: start Orthanc, and send, fetch, store and query as its clients would."""

import base64
import contextlib
import json
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from common.errors import InputError

__all__ = ["TOOLS", "Pacs", "missing_tools", "running_orthanc"]

TOOLS = ("Orthanc", "storescu", "findscu")  # Debian: orthanc orthanc-dicomweb dcmtk
PLUGINS = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc", "/usr/local/share/orthanc/plugins")
DICOMWEB = "libOrthancDicomWeb.so"
OURS, THEIRS = "SEGMENTER", "ORTHANC"  # application entity titles
USER = "trial"  # of HTTP
TIMEOUT = 60.0  # seconds for a start, a stop or a request; a start and a stop take about one


def missing_tools() -> list[str]:
    """Programs that a trial needs and that are not installed (Debian: orthanc orthanc-dicomweb dcmtk)."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return missing if _plugin() else [*missing, DICOMWEB]


def _plugin() -> Path | None:
    return next((path for folder in PLUGINS if (path := Path(folder, DICOMWEB)).is_file()), None)


@dataclass(frozen=True)
class Pacs:
    """A running PACS on this machine.

    Attributes:
        http: port of HTTP.
        dicom: port of DICOM.
        password: of the user `USER`.
    """

    http: int
    dicom: int
    password: str

    def send(self, folder: Path) -> None:
        """Send every DICOM file below a folder by C-STORE.

        Raises:
            InputError: the PACS refuses a file.
        """
        self._tool("storescu", "--scan-directories", "--recurse", "--aetitle", OURS, "--call", THEIRS, after=[folder])

    def find(self, **keys: str) -> list[Dataset]:
        """Find series by C-FIND.

        Args:
            keys: attributes to match, such as Modality="SEG"; an empty value matches all.

        Returns:
            A data set with these attributes for each series.
        """
        query = [word for key, value in keys.items() for word in ("-k", f"{key}={value}")]
        level = ["-S", "-k", "QueryRetrieveLevel=SERIES"]
        with tempfile.TemporaryDirectory() as answers:
            extract = ["--extract", "--output-directory", answers]
            self._tool("findscu", *level, *extract, "--aetitle", OURS, "--call", THEIRS, *query)
            return [pydicom.dcmread(path) for path in sorted(Path(answers).iterdir())]

    def _tool(self, tool: str, *options: str, after: Sequence[Path] = ()) -> None:
        command = [tool, *options, "127.0.0.1", str(self.dicom), *map(str, after)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise InputError(f"{tool} failed with status {result.returncode}; expected the PACS to accept the request")

    def query(self, path: str, **keys: str) -> list[dict[str, Any]]:
        """Query by QIDO-RS.

        Args:
            path: what to search, such as `studies/UID/series`.
            keys: attributes to match, such as Modality="SEG".

        Returns:
            The matches as DICOM JSON.
        """
        query = "&".join(f"{key}={value}" for key, value in keys.items())
        content = self._http(f"dicom-web/{path}?{query}", accept="application/dicom+json")
        return json.loads(content) if content else []

    def fetch(self, study: str, folder: Path) -> int:
        """Fetch the instances of a study by WADO-RS into a folder, under consecutive numbers.

        Returns:
            The number of instances.
        """
        folder.mkdir(parents=True, exist_ok=True)
        matches = self.query(f"studies/{study}/instances")
        for number, match in enumerate(matches):
            series, instance = (match[tag]["Value"][0] for tag in ("0020000E", "00080018"))
            path = f"dicom-web/studies/{study}/series/{series}/instances/{instance}"
            body = self._http(path, accept='multipart/related; type="application/dicom"', with_header=True)
            parts = message_from_bytes(body).get_payload()
            if not isinstance(parts, list) or len(parts) != 1 or not isinstance(parts[0], Message):
                raise InputError("WADO-RS: the response is not one instance; expected one")
            (folder / f"{number:05d}.dcm").write_bytes(bytes(parts[0].get_payload(decode=True)))
        return len(matches)

    def store(self, files: Sequence[Path]) -> None:
        """Store DICOM files by STOW-RS."""
        boundary = secrets.token_hex(16)
        parts = (
            f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + file.read_bytes() for file in files
        )
        body = b"\r\n".join(parts) + f"\r\n--{boundary}--\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        self._http("dicom-web/studies", accept="application/dicom+json", body=body, kind=kind)

    def _http(
        self, path: str, accept: str, body: bytes | None = None, kind: str = "", with_header: bool = False
    ) -> bytes:
        token = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
        headers = {"Accept": accept, "Authorization": f"Basic {token}"} | ({"Content-Type": kind} if kind else {})
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}/{path}", data=body, headers=headers)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=TIMEOUT) as answer:
            content: bytes = answer.read()
            return str(answer.headers).encode() + content if with_header else content


@contextlib.contextmanager
def running_orthanc(folder: Path, **settings: Any) -> Iterator[Pacs]:
    """Run Orthanc on free ports of this machine, and stop it at the end of the block.

    HTTP listens on loopback and requires a random password. Orthanc cannot bind DICOM to loopback, but accepts it
    from this machine only.

    Args:
        folder: for its data, its config and its log.
        settings: of Orthanc's config, in addition to those of a trial.

    Raises:
        InputError: a program is not installed, or Orthanc does not start.
    """
    if missing := missing_tools():
        raise InputError(f"{', '.join(missing)}: not installed; expected Debian's orthanc orthanc-dicomweb dcmtk")
    http, dicom = _free_ports(2)
    password = secrets.token_urlsafe(24)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "orthanc.json"
    config.touch(mode=0o600)
    config.write_text(json.dumps(_config(folder, http, dicom, password) | settings))
    pacs = Pacs(http, dicom, password)
    with (folder / "orthanc.log").open("w") as log:
        process = subprocess.Popen(["Orthanc", str(config)], cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(pacs, process)
            yield pacs
        finally:
            process.terminate()
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _config(folder: Path, http: int, dicom: int, password: str) -> dict[str, Any]:
    return {
        "Name": "trial",
        "StorageDirectory": str(folder / "data"),
        "IndexDirectory": str(folder / "data"),
        "Plugins": [str(_plugin())],
        "DicomWeb": {"Enable": True},
        "HttpPort": http,
        "HttpBindAddresses": ["127.0.0.1"],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: password},
        "DicomAet": THEIRS,
        "DicomPort": dicom,
        "DicomModalities": {"ours": {"AET": OURS, "Host": "127.0.0.1", "Port": 104}},
        "DicomCheckModalityHost": True,
        **{f"DicomAlwaysAllow{service}": False for service in ("Echo", "Store", "Find", "Get", "Move")},
    }


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_for(pacs: Pacs, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end and process.poll() is None:
        try:
            pacs.query("studies")
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise InputError(f"Orthanc did not answer within {TIMEOUT:.0f} s; see orthanc.log in its folder")
