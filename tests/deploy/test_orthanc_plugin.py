"""The plug-in with a stand-in for Orthanc's module, and a command that writes results."""

import importlib.util
import json
import sys
from types import SimpleNamespace

import pytest

from tests.support import ROOT

WRITE = """
import json, sys
from pathlib import Path
folders = dict(option.removeprefix("--").split("=", 1) for option in sys.argv[1:])
if Path(folders["input"], "b.dcm").read_bytes() == b"refused":
    sys.exit("error: a slice is missing")
Path(folders["output"]).mkdir()
Path(folders["output"], "segmentation.dcm").write_bytes(b"result")
held = ["T1ce: doubtful"] if Path(folders["input"], "b.dcm").read_bytes() == b"doubtful" else []
Path(folders["output"], "result.json").write_text(json.dumps({"held": held}))
"""


@pytest.mark.parametrize(
    ("content", "outcome", "node"),
    [
        (b"good", "2 done", "pacs"),
        (b"doubtful", "2 held: T1ce: doubtful", "review"),
        (b"refused", "2 failed: error: a slice is missing", None),
    ],
)
def test_results_go_to_a_node_and_the_outcome_into_the_metadata(tmp_path, monkeypatch, content, outcome, node):
    """A study whose outcome is known is not segmented again."""
    sent, metadata = [], {}
    series = [{"MainDicomTags": {"Modality": "MR"}, "Instances": ["a", "b"]}, {"MainDicomTags": {}, "Instances": ["c"]}]
    settings = {"Command": [sys.executable, "-c", WRITE], "SendTo": "pacs", "Review": "review"}
    stand_in = SimpleNamespace(
        GetConfiguration=lambda: json.dumps({"BrainSegFounder": settings}),
        RestApiGet=lambda path: json.dumps(series if path.endswith("/series") else metadata),
        RestApiPost=lambda path, body: sent.append((path, body)) or json.dumps({"ID": "x"}),
        RestApiPut=lambda path, body: metadata.update({path.rpartition("/")[2]: body}),
        GetDicomForInstance=lambda key: content,
        RegisterOnChangeCallback=lambda callback: None,
    )
    monkeypatch.setitem(sys.modules, "orthanc", stand_in)
    spec = importlib.util.spec_from_file_location("orthanc_plugin", ROOT / "deploy/orthanc_plugin.py")
    plugin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)
    for attempt in ("first", "second"):
        (tmp_path / attempt).mkdir()
        plugin.segment("S", tmp_path / attempt)
    assert metadata == {"4711": outcome}
    posts = [] if node is None else ["/instances", f"/modalities/{node}/store"]
    assert [path for path, _ in sent] == posts
