import json
import re

import matplotlib.image
import pytest

from common.errors import InputError
from common.files import write_json
from scripts import consort
from scripts.datalists.scan import Visit
from tests.support import one_line


def _step(step, text, people, visits, *excluded):
    reasons = [{"reason": reason, "people": count} for reason, count in excluded]
    return {"step": step, "text": text, "people": people, "visits": visits, "excluded": reasons}


SHORT = ("fewer than 100 slices in T1 and FLAIR", 1969)
FLOW = {  # the paper's, with reasons and splits made up
    "name": "ukb",
    "layout": "UK Biobank",
    "steps": [
        _step("participants", "participants with a scan", 44172, 48500),
        _step("modalities", "with T1 and FLAIR", 43369, 47000, ("without FLAIR", 700), ("without T1", 103)),
        _step("slices", "with 100 slices or more in each", 41400, 41400, SHORT) | {"min_slices": 100},
    ],
    "splits": {"training": {"people": 39330, "visits": 39330}, "validation": {"people": 2070, "visits": 2070}},
}


def _visit(subject):
    return Visit(subject, subject[0], ("t1.nii.gz",), None, ())


def test_a_person_is_excluded_with_the_last_visit_for_the_reason_of_the_first():
    visits = [_visit(subject) for subject in ("a1", "a2", "b1", "b2", "c1", "d1")]
    reasons = {"a1": "short", "b1": "short", "b2": "broken", "d1": "broken"}
    kept, step = consort.step("slices", "with slices", visits, reasons)
    assert [visit.subject for visit in kept] == ["a2", "c1"]
    assert step == _step("slices", "with slices", 2, 2, ("broken", 1), ("short", 1))


def test_who_is_in_two_splits_is_shared_by_the_later_one():
    splits = {"training": ["a1", "b1"], "testing": ["c1"], "unlabelled": ["a2", "a3", "c2", "d1"], "empty": []}
    counted = consort.count_splits({split: list(map(_visit, members)) for split, members in splits.items()})
    assert counted == {
        "training": {"people": 2, "visits": 2},
        "testing": {"people": 1, "visits": 1},
        "unlabelled": {"people": 3, "visits": 4, "shared": 2},
        "empty": {"people": 0, "visits": 0},
    }


@pytest.fixture
def flow(tmp_path):
    path = tmp_path / "flow.json"
    write_json(path, FLOW)
    return path


def _texts(svg):
    return [text.strip() for text in re.findall(r"<text[^>]*>([^<]+)</text>", svg.read_text())]


def test_the_chart_says_every_number(flow, tmp_path):
    consort.draw(flow, tmp_path / "flow.svg")
    assert sorted(_texts(tmp_path / "flow.svg")) == sorted(
        [
            *("participants with a scan", "n = 44,172 (48,500 visits)"),
            *("excluded: n = 803", "without FLAIR: 700", "without T1: 103"),
            *("with T1 and FLAIR", "n = 43,369 (47,000 visits)"),
            *("excluded: n = 1,969", "fewer than 100 slices in T1 and FLAIR: 1,969"),
            *("with 100 slices or more in each", "n = 41,400"),
            *("training", "n = 39,330", "validation", "n = 2,070"),
        ]
    )


def test_the_same_flow_gives_the_same_picture(flow, tmp_path):
    for name in ("a", "b"):
        consort.draw(flow, tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (matplotlib.image.imread(tmp_path / "a.png")[..., :3] < 1).any()


@pytest.mark.parametrize(
    ("content", "output", "message"),
    [
        (json.dumps(FLOW), "flow.pdf", "--output=.*flow.pdf: expected a file that ends in .svg or .png"),
        ('{"name": "ukb"}', "flow.svg", "is a required property; expected a file of --consort"),
        (json.dumps(FLOW | {"splits": {"training": {"people": -1, "visits": 0}}}), "flow.svg", r"\$.splits.training"),
    ],
)
def test_bad_input_is_named(tmp_path, content, output, message):
    (tmp_path / "flow.json").write_text(content)
    with pytest.raises(InputError, match=message) as error:
        consort.draw(tmp_path / "flow.json", tmp_path / output)
    assert one_line(error)
    assert [path.name for path in tmp_path.iterdir()] == ["flow.json"]
