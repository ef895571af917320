"""The plug-in in a real Orthanc, with a stand-in for deploy.app and two DICOM nodes that receive results."""

import json
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import requests

from tests.deploy.dicom.dicom_study import Study, write_series
from tests.support import ROOT, wait_until

TOOLS = ("Orthanc", "storescp", "setpriv")  # Debian: orthanc orthanc-python dcmtk
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancPython.so")
NODES = {"pacs": "PACS", "review": "REVIEW"}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PLUGIN.is_file() or not all(map(shutil.which, TOOLS)), reason="Debian: orthanc orthanc-python dcmtk"
    ),
]


@pytest.fixture
def orthanc(tmp_path):
    """Orthanc, which can be stopped and started, and its nodes; `request` returns the JSON of a path."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        http, *ports = [free.getsockname()[1] for free in sockets]
    command = [sys.executable, str(ROOT / "tests/deploy/stand_in_segmenter.py"), str(tmp_path / "runs")]
    nodes = [(name, title, port) for (name, title), port in zip(NODES.items(), ports, strict=True)]
    config = {
        **{"StorageDirectory": "data", "IndexDirectory": "data", "StableAge": 1, "DicomServerEnabled": False},
        **{"HttpPort": http, "HttpBindAddresses": ["127.0.0.1"], "AuthenticationEnabled": False},
        **{"Plugins": [str(PLUGIN)], "PythonScript": str(ROOT / "deploy/orthanc_plugin.py")},
        "BrainSegFounder": {"Command": command, "SendTo": "pacs", "Review": "review"},
        "DicomModalities": {name: [title, "127.0.0.1", port] for name, title, port in nodes},
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(config))

    def request(path, method="GET", **options):
        answer = requests.request(method, f"http://127.0.0.1:{http}/{path}", timeout=60, **options)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def answers():
        try:
            return request("system")
        except requests.ConnectionError:
            return None

    def listens(port):
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    def start(*words):
        process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(process.wait, 60)
        stack.callback(process.terminate)
        return process

    def start_node(name, title, port):
        (tmp_path / name).mkdir()
        start("storescp", "--output-directory", name, "--aetitle", title, str(port))
        wait_until(lambda: listens(port))

    def start_orthanc():
        process = start("Orthanc", "orthanc.json")
        wait_until(answers)
        return process

    with ExitStack() as stack:
        for node in nodes:
            start_node(*node)
        yield SimpleNamespace(request=request, process=start_orthanc(), start=start_orthanc)


def test_results_are_stored_and_sent_and_held_ones_go_to_the_review_node(orthanc, tmp_path):
    request_orthanc = orthanc.request

    def send(description, study, number=2):
        """Send a series of three images; return Orthanc's name of the study."""
        values = {"SeriesDescription": description}
        write_series(tmp_path / f"{description}{number}", np.ones((4, 4, 3)), np.eye(4), study, number, **values)
        for file in (tmp_path / f"{description}{number}").iterdir():
            name = request_orthanc("instances", "POST", data=file.read_bytes())["ParentStudy"]
        return name

    def outcome(study):
        return wait_until(lambda: request_orthanc(f"studies/{study}/metadata?expand").get("4711"), seconds=600)

    def received(node, count):
        wait_until(lambda: len([*(tmp_path / node).iterdir()]) == count)

    identity = Study()
    study = send("t1", identity)
    assert outcome(study) == "3 done"
    received("pacs", 3)
    kinds = [series["MainDicomTags"]["Modality"] for series in request_orthanc(f"studies/{study}/series")]
    assert sorted(kinds) == ["MR", "OT", "OT", "OT"]
    assert outcome(send("doubtful", Study())) == "3 held: T1ce: its name states contrast agent, its header does not"
    received("review", 3)
    received("pacs", 3)
    failed = send("refused", Study())
    assert outcome(failed) == "3 failed: error: a slice is missing"
    send("t1", identity, number=3)  # more images of the first study
    wait_until(lambda: outcome(study).startswith("6 done"), seconds=600)
    assert (tmp_path / "runs").read_text().splitlines() == ["t1 3", "doubtful 3", "refused 3", "t1 6"]
    request_orthanc(f"studies/{failed}/metadata/4711", "DELETE")  # tries again
    assert outcome(failed).startswith("3 failed")
    assert len((tmp_path / "runs").read_text().splitlines()) == 5

    received("pacs", 6)
    slow = send("slow", Study())
    wait_until(lambda: "slow" in (tmp_path / "runs").read_text(), seconds=600)
    orthanc.process.kill()
    orthanc.process.wait()
    orthanc.start()
    assert outcome(slow) == "3 done"
    last = ["refused 3", "slow 3", "slow 3"]
    assert (tmp_path / "runs").read_text().splitlines()[4:] == last, "what has a result is not segmented again"
