"""A custom tracker in a training, a resumed training and an evaluation."""

import json

import pytest
from ignite.engine import Engine

from common.training.trackers import Tracker, Tracking, separate, untracked
from tests.common.toy import METADATA, Training


class Diary(Tracker):
    def __init__(self):
        self.lines = []

    def begin(self, name, settings, resumed=False):
        self.lines.append(("begin", name, dict(settings), resumed))

    def log(self, section, values, iteration):
        self.lines.append((section, values, iteration))

    def end(self, files):
        self.lines.append(("end", [path.name for path in files if path.exists()]))

    def of(self, section):
        return [line[1:] for line in self.lines if line[0] == section]


def test_a_tracker_gets_what_the_record_gets(tmp_path):
    diary, again = Diary(), Diary()
    run = Training(tmp_path, 2, [0.25, float("nan")], trackers=[diary])
    assert diary.of("begin") == [(f"toy {tmp_path}", METADATA, False)]
    assert [at for _, at in diary.of("train")] == [1, 2, 3, 4, 5, 6]
    assert [values["total"] for values, _ in diary.of("train")] == pytest.approx(run.losses, abs=1e-6)
    assert [values["learning_rate"] for values, _ in diary.of("train")][:4] == pytest.approx([0.1, 0.07, 0.07, 0.049])
    assert diary.of("validation") == [({"score": 0.25}, 3), ({}, 6)]
    assert diary.of("end") == [(["run.json"],)]
    assert json.loads((tmp_path / "run.json").read_text())["finished"], "before trackers take it"
    Training(tmp_path, 3, [0.5], resume=True, trackers=[again])
    assert again.of("begin") == [(f"toy {tmp_path}", METADATA, True)]
    assert [at for _, at in again.of("train")] == [7, 8, 9]


def test_a_tracker_of_an_evaluation_gets_its_metrics_and_files(tmp_path):
    diary, handler = Diary(), object()
    assert separate([handler, diary]) == ([diary], [handler])
    assert untracked([handler, diary]) == [handler]
    engine = Engine(lambda *_: None)
    engine.state.metrics = {"dice": 0.5, "by_case": [1]}
    (tmp_path / "summary.json").touch()
    Tracking([diary], "ours", [tmp_path / "summary.json", tmp_path / "absent.csv"]).attach(engine)
    engine.run([0])
    assert diary.lines == [("begin", "ours", {}, False), ("evaluation", {"dice": 0.5}, 0), ("end", ["summary.json"])]
