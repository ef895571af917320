"""`wandb.yaml` with Weights & Biases offline: what its run holds, and what must not be in it."""

import json
import struct
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from common.errors import chain_of
from common.training import WandB
from tests.bundles.workflows import workflow
from tests.support import ROOT, TINY

BLOCK, HEADER = 32768, 7  # bytes: of LevelDB's log format, after a header of the file that is as long as that of a part


def records(folder: Path) -> list[Record]:
    """What the only offline run below a folder would upload."""
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    content, place, whole, found = file.read_bytes(), HEADER, b"", []
    while place + HEADER <= len(content):
        _, length, kind = struct.unpack_from("<IHB", content, place)
        whole += content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if BLOCK - place % BLOCK < HEADER:  # too small for another part
            place += BLOCK - place % BLOCK
        if kind in (1, 4):  # a whole record, or the last part of one
            found.append(Record.FromString(whole))
            whole = b""
    return found


def points(found: list[Record], section: str) -> list[dict[str, float]]:
    """The rows of the run's history that have values of a section, with their step."""
    rows = []
    for record in found:
        if record.HasField("history"):
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            values = {name.removeprefix(f"{section}/"): value for name, value in items.items() if f"{section}/" in name}
            rows += [values | {"step": record.history.step.num}] * bool(values)
    return rows


def as_points(section: dict, kind: str) -> list[dict[str, float]]:
    """A section of run.json as `points` gives it."""
    names = section[kind]
    return [
        dict(zip(names, values, strict=True)) | {"step": step}
        for step, *values in zip(section["iteration"], *names.values(), strict=True)
    ]


@pytest.mark.slow
def test_a_run_holds_settings_losses_and_metrics_and_nothing_private(run_bundle, cohorts, tmp_path, monkeypatch):
    bundle = "atlas_stage2"
    monkeypatch.setenv("WANDB_MODE", "offline")
    ended = run_bundle(bundle, *TINY, "--iterations=2", processes=2, overlays=["wandb"])
    assert ended.returncode == 0, ended.stdout + ended.stderr
    kept = json.loads((tmp_path / bundle / "run.json").read_text())
    found = records(tmp_path / bundle)
    (run,) = [record.run for record in found if record.HasField("run")]
    assert (run.project, run.display_name) == ("brainsegfounder", f"{bundle} {kept['started']}")
    settings = {item.key: json.loads(item.value_json) for item in run.config.update if item.key != "_wandb"}
    assert settings == {name: value for name, value in kept["config"].items() if name != "datalist"}
    losses, metrics = points(found, "train"), points(found, "validation")
    assert [point.pop("learning_rate") for point in losses] == [settings["learning_rate"], 0], "a cosine"
    assert losses == as_points(kept["train"], "loss")
    assert metrics == [pytest.approx(point, abs=1e-6) for point in as_points(kept["validation"], "metrics")]
    assert [record.exit.exit_code for record in found if record.HasField("exit")] == [0]

    subjects = [case["subject"] for case in json.loads((cohorts / "atlas.json").read_text())["training"]]
    private = [str(cohorts), str(tmp_path), str(ROOT), "atlas.json", "--iterations", "dataset_dir", *subjects]
    (folder,) = (tmp_path / bundle / "wandb").glob("offline-run-*")
    uploaded = [*folder.glob("*.wandb"), *(path for path in (folder / "files").rglob("*") if path.is_file())]
    assert [word for word in private for file in uploaded if word.encode() in file.read_bytes()] == []
    assert (run.host, run.entity, run.git.remote_url) == ("unnamed", "", "")


def test_a_run_that_is_not_closed_has_failed_and_leaves_reports_in_one_line(tmp_path, monkeypatch):
    actions = []
    end_with = SimpleNamespace(register=lambda action, **options: actions.append(partial(action, **options)))
    monkeypatch.setattr("common.training.tracking.atexit", end_with)
    hook = sys.excepthook
    sink = WandB(mode="offline", settings={"silent": True})
    content = {"bundle": "b", "started": "2026-01-01", "config": {"seed": 0}}
    sink.begin(SimpleNamespace(content=content, folder=tmp_path, points=lambda: [("train", 1, {"total": 2.0})]), None)
    assert sys.excepthook is hook
    (end,) = actions
    end()
    limit = time.monotonic() + 600  # W&B's own process writes the record, maybe a moment later
    while not (ended := [record.exit for record in records(tmp_path) if record.HasField("exit")]):
        assert time.monotonic() < limit
        time.sleep(0.1)
    assert [record.exit_code for record in ended] == [1]
    assert points(records(tmp_path), "train") == [{"total": 2.0, "step": 1}], "those of the runs that it continues"
    end()  # as after the end


def test_a_missing_package_ends_a_run_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RuntimeError) as error:
        workflow("atlas_stage2", "train", tmp_path / "nothing", tmp_path / "eval", ("wandb",))
    assert str(list(chain_of(error.value))[-1]) == (
        "wandb.yaml: no module wandb; expected it in this environment: pip install wandb"
    )
    assert not (tmp_path / "eval").exists()
