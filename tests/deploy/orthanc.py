"""Start Orthanc with the plug-in, and two DICOM nodes that receive results."""

import contextlib
import json
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

from tests.support import ROOT

TOOLS = ("Orthanc", "storescp", "setpriv")  # Debian: orthanc orthanc-python dcmtk
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancPython.so")
NODES = {"pacs": "PACS", "review": "REVIEW"}
TIMEOUT = 600.0  # seconds; deploy.app takes a minute of two idle cores

WITH_ORTHANC = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PLUGIN.is_file() or not all(map(shutil.which, TOOLS)), reason="Debian: orthanc orthanc-python dcmtk"
    ),
]


@dataclass
class Orthanc:
    """A running Orthanc, and the folders of its nodes."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes]"

    def request(self, path: str, method: str = "GET", **options: Any) -> Any:
        """Return the JSON of an answer."""
        answer = requests.request(method, f"http://127.0.0.1:{self.port}/{path}", timeout=TIMEOUT, **options)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def send(self, folder: Path) -> str:
        """Store the DICOM files below a folder; return Orthanc's id of their study."""
        for file in folder.rglob("*.dcm"):
            study = self.request("instances", "POST", data=file.read_bytes())["ParentStudy"]
        return str(study)

    def outcome(self, study: str) -> str:
        """Return the plug-in's mark of a study, once it is there."""
        return str(wait_for(lambda: self.mark(study)))

    def mark(self, study: str) -> str:
        """Return the plug-in's mark of a study, or ""."""
        return str(self.request(f"studies/{study}/metadata?expand").get("4711", ""))

    def received(self, node: str, count: int) -> list[Path]:
        """Return the files that a node has received, once there are `count`."""
        return list(wait_for(lambda: len(files := [*(self.folder / node).iterdir()]) == count and files))


def wait_for(value: Any) -> Any:
    """Return what a function returns, once it is true."""
    end = time.monotonic() + TIMEOUT
    while not (result := value()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return result


@contextlib.contextmanager
def running_orthanc(folder: Path, command: list[str]) -> Iterator[Orthanc]:
    """Run Orthanc on free ports of this machine with `command` for the segmentation; stop it after the block."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        http, *ports = [free.getsockname()[1] for free in sockets]
    config = {
        **{"StorageDirectory": "data", "IndexDirectory": "data", "StableAge": 1, "DicomServerEnabled": False},
        **{"HttpPort": http, "HttpBindAddresses": ["127.0.0.1"], "AuthenticationEnabled": False},
        "Plugins": [str(PLUGIN)],
        "PythonScript": str(ROOT / "deploy/orthanc_plugin.py"),
        "BrainSegFounder": {"Command": command, "SendTo": "pacs", "Review": "review"},
        "DicomModalities": {
            name: [title, "127.0.0.1", port] for (name, title), port in zip(NODES.items(), ports, strict=True)
        },
    }
    folder.mkdir(exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(config))
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("a"))
        for (name, title), port in zip(NODES.items(), ports, strict=True):
            (folder / name).mkdir(exist_ok=True)
            node = ["storescp", "--output-directory", folder / name, "--aetitle", title, str(port)]
            stack.callback(_stop, subprocess.Popen(node))
        process = subprocess.Popen(["Orthanc", "orthanc.json"], cwd=folder, stdout=log, stderr=log)
        stack.callback(_stop, process)
        orthanc = Orthanc(folder, http, process)

        def answers() -> bool:
            with contextlib.suppress(requests.ConnectionError):
                return bool(orthanc.request("system"))
            return False

        wait_for(answers)
        yield orthanc


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(TIMEOUT)
