"""Reading the files of an evaluation: round trips, and files that are wrong."""

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

# Faults: a file, a text in it (None: all of it) and what replaces it (None: the file is not there)

LESION = "b,lesion,1,reference,0.1,1,1,0.75,2.0,1,2,3"
DICE = "b,lesion,dice,0.25,1"
FAULTS = [
    ("metrics.csv", f"{DICE}\n", "b,lesion,dice,0.25\n", "line 2: 4 columns; expected .*case, region"),
    ("metrics.csv", "case,region", "region,case", "unexpected header row; expected an evaluation by"),
    ("metrics.csv", DICE, "b,WT,dice,0.25,1", "line 2: 'b,WT,dice,0.25,1'; expected 'b,lesion,dice'"),
    ("metrics.csv", "dice,0.25", "dice,nan", "line 2: dice: 'nan'; expected a number"),
    ("metrics.csv", f"{DICE}\n", "", "line 2: 'b,lesion,lesion_f1,1.0,1'; expected 'b,lesion,dice'"),
    ("metrics.csv", "dice,0.25", "dice,inf", "line 2: dice: 'inf'; expected a number"),
    ("metrics.csv", "dice,0.25", "dice,1.25", "line 2: dice: '1.25'; expected a number from 0 to 1"),
    ("metrics.csv", "dice,0.25", "dice,0_1", "line 2: dice: '0_1'; expected a number"),
    ("metrics.csv", "dice,0.25", "dice,0.75", "metrics.csv: mean dice of lesion .*; summary.json says "),
    ("metrics.csv", "dice,0.25", "dcie,0.25", "line 2: 'b,lesion,dcie,0.25,1'; expected 'b,lesion,dice'"),
    ("metrics.csv", "a,lesion,dice", "b,lesion,dice", "line 6: 'b,lesion,dice,1.0,1'; expected 'a,lesion,dice'"),
    ("metrics.csv", None, None, "No such file or directory; expected an evaluation by"),
    ("metrics.csv", "12.0,voxels", "12.0,ml", "line 5: .*; expected 'b,lesion,volume_difference,12.0,voxels'"),
    ("lesions.csv", "8.0,1,0", "8.0,2,0", "line 4: .*; expected 'a,lesion,1,reference,8.0,0'"),
    ("lesions.csv", "a,lesion,1", "c,lesion,1", "line 4: 'c,.*'; expected 'no row'"),
    ("summary.json", '"connectivity": 6', '"connectivity": 26', "connectivity 26; expected 6, the setting of atlas"),
    ("summary.json", '"protocol": "atlas"', '"protocol": "other"', "protocol=other: expected one of"),
    ("summary.json", None, b"[", "not JSON"),
    ("summary.json", '"mean": 0.625', '"mean": null', "mean dice of lesion 0.625; summary.json says None"),
    ("lesions.csv", LESION, LESION.replace("b,", "x,", 1), "line 2: 'x,lesion,.*'; expected 'b,lesion,1'"),
    ("lesions.csv", LESION, LESION.replace("0.1", "much"), "line 2: 'much'; expected a number"),
    ("lesions.csv", LESION, LESION.replace("0.1", "-0.1"), "line 2: '-0.1'; expected a number from 0$"),
    ("lesions.csv", LESION, LESION.replace("0.75", "7.5"), "line 2: dice: '7.5'; expected a number from 0 to 1"),
    ("lesions.csv", LESION, LESION.replace("2.0", "inf"), "line 2: 'inf'; expected a number"),
    ("lesions.csv", LESION, LESION.replace(",3", ",\u0663"), r"line 2: '.u0663'; expected a number"),
    ("lesions.csv", LESION, LESION.replace("reference", "lost"), "line 2: .*,lost,.*; expected 'b,lesion,1,false'"),
    ("lesions.csv", LESION, LESION.replace(",1,", ",7,", 1), "line 2: 'b,lesion,7,.*'; expected 'b,lesion,1'"),
    ("summary.json", '"cases": 2', '"cases": 3', "2 cases; expected 3, as in summary.json"),
    ("cases.json", '"p/b.nii"', '"p/../../b.nii"', r'prediction = "p/\.\./\.\./b\.nii": .* does not match'),
    ("cases.json", '"prediction"', '"part": "a\\nb", "prediction"', r"part = .* does not match"),
    ("cases.json", '"prediction"', '"modalities": {"T1": "../a"}, "prediction"', r"T1 = .* does not match"),
    ("cases.json", "0.0,", "-1,", r"volumes_mm3\.lesion\[0\] = -1: -1 is less than"),
    ("cases.json", "0.0,", "NaN,", r"cases\.json: not JSON \(nan: "),
    ("cases.json", '"atlas"', '"brats2021"', "volumes_mm3 of b: expected a volume for each of WT"),
    ("cases.json", '"b": {', '"../b": {', r"'\.\./b' does not match"),
    ("cases.json", '"prediction": "p/b.nii"', '"prediction": 7', r"cases\.b\.prediction = 7"),
    ("cases.json", '"lesion": [', '"WT": [', "volumes_mm3 of b: expected a volume for each of lesion"),
    ("cases.json", None, b"[]", "is not of type 'object'"),
]


@pytest.mark.parametrize(("file", "old", "new", "message"), FAULTS)
def test_files_that_no_evaluation_wrote_are_named(file, old, new, message, tmp_path):
    """SECURITY.md: "a case is named like a file"
    SECURITY.md: "checked against a schema or their columns"
    """
    write_evaluation(tmp_path, CASES, ATLAS)
    path = tmp_path / file
    if old is not None:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))
    elif new is not None:
        path.write_bytes(new)
    else:
        path.unlink()
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path)
    assert str(tmp_path) in one_line(error)


@pytest.mark.parametrize("file", ["metrics.csv", "lesions.csv", "cases.json", "summary.json"])
def test_a_pipe_is_refused_before_it_could_hang_its_reader(tmp_path, file):
    write_evaluation(tmp_path, CASES, ATLAS)
    (tmp_path / file).unlink()
    os.mkfifo(tmp_path / file)
    with pytest.raises(InputError) as error:
        read(tmp_path)
    assert f"{tmp_path / file}: not a regular file; expected " in one_line(error)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path):
    write_evaluation(tmp_path, CASES, ATLAS)
    with (tmp_path / "metrics.csv").open("ab") as file:
        file.truncate(2**36)  # a sparse file
    with pytest.raises(InputError, match=r"metrics\.csv: field larger than field limit"):
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
    found = read(tmp_path)
    assert found.missing == ["b"]
    for (region, metric), values in found.values.items():
        assert values.tolist() == [scores[case][region].values[metric] for case in ("a", "b", "c")]
    assert found.name == "<theirs>\n"
    assert found.convention == ("brats2023" if rules.name == "brats" else "atlas")
    assert (found.protocol.name, found.protocol.settings) == (rules.name, rules.settings)
    assert list(found.scores) == [files.name for files in found.files] == ["a", "b", "c"]
    assert found.scores == scores
    for measured in found.scores.values():
        assert list(measured) == (["WT", "TC", "ET"] if rules.name == "brats" else ["lesion"])
    assert [files.prediction for files in found.files] == [tmp_path / "p/a.nii", None, tmp_path / "p/c.nii"]
    assert str(found.files[0].reference).endswith("/r/a.nii")
    assert summarise(found) == json.loads((tmp_path / "summary.json").read_text())


def test_an_evaluation_that_was_moved_keeps_its_predictions(tmp_path):
    write_evaluation(tmp_path / "old", CASES, ATLAS)
    (tmp_path / "old").rename(tmp_path / "new")
    assert read(tmp_path / "new").files[0].prediction == tmp_path / "new/p/a.nii"
