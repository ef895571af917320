"""Reading the record of an evaluation: round trips, and records that are wrong."""

import itertools
import json
import math

import pytest

from common.inference.reading import read
from common.inference.results import summarise
from common.metrics import Scores, protocol
from tests.common.inference.scores import ATLAS, BRATS, CASES, lesion
from tests.scripts.evaluate.evaluations import write_evaluation

# Faults: a text in cases.json (None: all of it) and what replaces it (None: the file is not there)


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
