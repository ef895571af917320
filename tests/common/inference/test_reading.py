"""Reading the record of an evaluation: round trips, and records that are wrong."""

import itertools
import json
import math
import os

import pytest

from common.errors import InputError
from common.inference.reading import read
from common.inference.results import summarise
from common.metrics import Scores, protocol
from tests.common.inference.scores import ATLAS, BRATS, CASES, lesion
from tests.scripts.evaluate.evaluations import write_evaluation
from tests.support import one_line

# Faults: a text in cases.json (None: all of it) and what replaces it (None: the file is not there)

FAULTS = [
    ('"dice": 0.25', '"dice": NaN', r"not JSON \(nan: "),
    ('"dice": 0.25', '"dice": 1.25', r"values\.dice = 1\.25: 1\.25 is greater than"),
    ('"dice": 0.25', '"dice": "0.25"', r"values\.dice = \"0\.25\""),
    ('"dice": 0.25', '"dcie": 0.25', r"values\.dcie: no such key; did you mean dice\?"),
    ('"volume": 0.1', '"volume": -0.1', r"lesions\[0\]\.volume = -0\.1"),
    ('"dice": 0.75', '"dice": 7.5', r"lesions\[0\]\.dice = 7\.5"),
    ('"is_found": true', '"is_found": 1', r"lesions\[0\]\.is_found = 1"),
    ('"is_found": true', '"is_lost": true', r"lesions\[0\]\.is_lost: no such key; expected one of is_reference, "),
    ('"connectivity": 6', '"connectivity": 26', r"'connectivity': 26.*; expected .*'connectivity': 6.*, of atlas"),
    ('"protocol": "atlas"', '"protocol": "other"', "protocol=other: expected one of"),
    ('"protocol": "atlas",', "", "'protocol' is a required property; expected an evaluation by"),
    ('"p/b.nii"', '"p/../../b.nii"', r'prediction = "p/\.\./\.\./b\.nii": .* does not match'),
    ('"prediction"', '"part": "a\\nb", "prediction"', r"part = .* does not match"),
    ('"prediction"', '"modalities": {"T1": "../a"}, "prediction"', r"T1 = .* does not match"),
    ('"volumes_mm3": [\n      0.0', '"volumes_mm3": [\n      -1', r"volumes_mm3\[0\] = -1: -1 is less than"),
    ('"atlas"', '"brats2021"', r"regions\.lesion: no such key; expected one of WT, "),
    ('"b": {', '"../b": {', r"'\.\./b' does not match"),
    ('"prediction": "p/b.nii"', '"prediction": 7', r"b\.prediction = 7"),
    ('"lesion": {', '"WT": {', r"regions\.WT: no such key; expected one of lesion"),
    (None, "[]", "is not of type 'object'"),
    (None, "[", "not JSON"),
    (None, None, "No such file or directory; expected an evaluation by"),
]


@pytest.mark.parametrize(("old", "new", "message"), FAULTS)
def test_a_record_that_no_evaluation_wrote_is_named(old, new, message, tmp_path):
    """SECURITY.md: "a case is named like a file"
    SECURITY.md: "checked against a schema or their columns"
    """
    write_evaluation(tmp_path, CASES, ATLAS)
    path = tmp_path / "cases.json"
    if old is not None:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))
    elif new is not None:
        path.write_text(new)
    else:
        path.unlink()
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path)
    assert str(path) in one_line(error)


def test_a_pipe_is_refused_before_it_could_hang_its_reader(tmp_path):
    write_evaluation(tmp_path, CASES, ATLAS)
    (tmp_path / "cases.json").unlink()
    os.mkfifo(tmp_path / "cases.json")
    with pytest.raises(InputError, match=r"cases\.json: not a regular file; expected "):
        read(tmp_path)


@pytest.mark.parametrize("rules", [ATLAS, BRATS, protocol("dice")])
def test_details_are_those_that_were_written(rules, tmp_path):
    regions = ("ET", "TC", "WT") if rules.name == "brats" else ("lesion",)
    count = itertools.count(1)
    lesions = (lesion(volume=1 / 3, hd95=math.inf), lesion(False, is_found=False, dice=0.0, centre=(0, 10, 200)))
    scores = {
        case: {
            region: Scores({metric: 1 / next(count) for metric in rules.units}, lesions, (1 / next(count), 0.0))
            for region in regions
        }
        for case in ("b", "a", "c")
    }
    write_evaluation(tmp_path, scores, rules, missing=["b"], name="<theirs>\n")
    details = read(tmp_path)
    assert details.missing == ["b"]
    for (region, metric), values in details.values.items():
        assert values.tolist() == [scores[case][region].values[metric] for case in ("a", "b", "c")]
    assert details.name == "<theirs>\n"
    assert details.convention == ("brats2023" if rules.name == "brats" else "atlas")
    assert (details.protocol.name, details.protocol.settings) == (rules.name, rules.settings)
    assert list(details.scores) == [files.name for files in details.files] == ["a", "b", "c"]
    assert details.scores == scores
    for measured in details.scores.values():
        assert list(measured) == (["WT", "TC", "ET"] if rules.name == "brats" else ["lesion"])
    assert [files.prediction for files in details.files] == [tmp_path / "p/a.nii", None, tmp_path / "p/c.nii"]
    assert str(details.files[0].reference).endswith("/r/a.nii")
    assert summarise(details) == json.loads((tmp_path / "summary.json").read_text())


def test_an_evaluation_that_was_moved_keeps_its_predictions(tmp_path):
    write_evaluation(tmp_path / "old", CASES, ATLAS)
    (tmp_path / "old").rename(tmp_path / "new")
    assert read(tmp_path / "new").files[0].prediction == tmp_path / "new/p/a.nii"
