"""Start Orthanc, the tests' PACS; send images to it, and query it."""

import contextlib
import json
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

TOOLS = ("Orthanc", "storescu", "storescp")  # Debian: orthanc orthanc-dicomweb dcmtk
PLUGINS = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc", "/usr/local/share/orthanc/plugins")
DICOMWEB = "libOrthancDicomWeb.so"
OURS, THEIRS = "SEGMENTER", "ORTHANC"  # application entity titles
USER, READER = "segmentation", "reader"  # of HTTP, with one password
TIMEOUT = 60.0  # seconds for a start, a stop or a request; a start and a stop take about one


def missing_tools() -> list[str]:
    """Return the required programs that are not installed."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return missing if _plugin() else [*missing, DICOMWEB]


def _plugin() -> Path | None:
    return next((path for folder in PLUGINS if (path := Path(folder, DICOMWEB)).is_file()), None)


@dataclass(frozen=True)
class Pacs:
    """A running PACS on this machine: its ports of HTTP and DICOM, and the password of `USER` and `READER`."""

    http: int
    dicom: int
    password: str

    def send(self, folder: Path) -> None:
        """Send every DICOM file below a folder by C-STORE."""
        options = ["--scan-directories", "--recurse", "--aetitle", OURS, "--call", THEIRS]
        subprocess.run(["storescu", *options, "127.0.0.1", str(self.dicom), folder], check=True, capture_output=True)

    def query(self, path: str) -> list[dict[str, Any]]:
        """Return the matches of a QIDO-RS query, such as `studies/UID/series`, as DICOM JSON."""
        answer = requests.get(
            f"http://127.0.0.1:{self.http}/dicom-web/{path}",
            headers={"Accept": "application/dicom+json"},
            auth=(USER, self.password),
            timeout=TIMEOUT,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else []


@contextlib.contextmanager
def running_orthanc(folder: Path, **settings: Any) -> Iterator[Pacs]:
    """Run Orthanc on free ports of this machine, and stop it at the end of the block.

    HTTP listens on loopback and requires a random password. Orthanc cannot bind DICOM to loopback, but accepts it
    from this machine only. `settings` are added to its config.
    """
    http, dicom = _free_ports(2)
    pacs = Pacs(http, dicom, secrets.token_urlsafe(24))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(_config(folder, pacs) | settings))
    with (folder / "orthanc.log").open("w") as log:
        process = subprocess.Popen(["Orthanc", "orthanc.json"], cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(pacs, process)
            yield pacs
        finally:
            process.terminate()
            process.wait(TIMEOUT)


def _config(folder: Path, pacs: Pacs) -> dict[str, Any]:
    return {
        "StorageDirectory": str(folder / "data"),
        "IndexDirectory": str(folder / "data"),
        "Plugins": [str(_plugin())],
        "DicomWeb": {"Enable": True},
        "HttpPort": pacs.http,
        "HttpBindAddresses": ["127.0.0.1"],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: pacs.password, READER: pacs.password},
        "DicomAet": THEIRS,
        "DicomPort": pacs.dicom,
        "DicomModalities": {"ours": {"AET": OURS, "Host": "127.0.0.1", "Port": 104}},
        "DicomCheckModalityHost": True,
        **{f"DicomAlwaysAllow{service}": False for service in ("Echo", "Store", "Find", "Get", "Move")},
    }


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


def _wait_for(pacs: Pacs, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end and process.poll() is None:
        try:
            pacs.query("studies")
        except requests.RequestException:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"Orthanc did not answer within {TIMEOUT:.0f} s; see orthanc.log in its folder")


WITH_ORTHANC = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(missing_tools()), reason=f"{missing_tools()} missing (Debian: orthanc orthanc-dicomweb dcmtk)"
    ),
]
