"""Reading the files of an evaluation: round trips, and every way in which a file can be wrong."""

import itertools
import json
import math
import os

import pytest

from common.errors import InputError
from common.inference.reading import read, read_details
from common.inference.results import summarise
from common.metrics.protocols import Scores, protocol
from tests.common.inference.scores import ATLAS, BRATS, CASES, lesion
from tests.scripts.evaluate.evaluations import write_evaluation
from tests.support import one_line

# Faults: a file, a text in it (None: all of it) and what replaces it (None: the file is not there)

LESION = "b,lesion,1,reference,0.1,1,1,0.75,2.0,1,2,3"
DICE = "b,lesion,dice,0.25,1"
OF_METRICS = [
    (f"{DICE}\n", "b,lesion,dice,0.25\n", "line 2: 4 columns; expected .*case, region"),
    (DICE, "b,WT,dice,0.25,1", "line 2: dice of WT in 1; expected what atlas"),
    (DICE, "../b,lesion,dice,0.25,1", r"case \.\./b; expected a file name"),
    ("dice,0.25", "dcie,0.25", "line 2: dcie of lesion in 1; expected what atlas measures"),
    ("dice,0.25", "dice,nan", "line 2: value nan; expected a finite number"),
    ("a,lesion,dice", "b,lesion,dice", "line 6: dice of lesion for the case b again; expected it once"),
    ("a,lesion,dice,1.0,1\n", "", "no dice of lesion for the case a; expected one"),
    (None, None, "No such file or directory; expected a table by"),
]
OF_SUMMARY = [
    ('"missing": []', '"missing": ["x"]', "x is missing; expected a case of metrics.csv"),
    ('"cases": 2', '"cases": 3', "3 cases; expected 2, as in metrics.csv"),
    ('"connectivity": 6', '"connectivity": 26', "connectivity 26; expected 6, as atlas has"),
    ('"protocol": "atlas"', '"protocol": "other"', "protocol=other: expected one of"),
    ('"lesions": {', '"lesion": {', "'lesions' is a required property"),
    (None, None, "No such file or directory; expected a summary by"),
    (None, b"[" * 100_000, "nested too deeply"),
]
OF_LESIONS = [
    (LESION, LESION.replace("b,", "x,", 1), "line 2: region lesion of case 'x'; expected a case of"),
    (LESION, LESION.replace("2.0", "inf"), "line 2: hd95_mm inf; expected a finite number"),
    (LESION, LESION.replace(",3", ",\u0663"), "line 2: z \u0663; expected a whole number"),
    (LESION, LESION.replace("reference", "lost"), "line 2: kind lost; expected reference or false"),
    (LESION, LESION.replace(",1,", ",7,", 1), "line 2: lesion 7; expected 1, the next of this region"),
]
OF_CASES = [
    ('"atlas"', '"brats2021"', "label_convention brats2021; expected one with the regions lesion"),
    ('"b": {', '"c": {', "2 cases; expected the 2 cases of metrics.csv"),
    ('"image": null', r'"image": "a\u0000"', r"cases\.b\.image = .* does not match"),
    ('"p/b.nii"', '"p/../../b.nii"', r'cases\.b\.prediction = "p/\.\./\.\./b\.nii": .* does not match'),
    ('"p/b.nii"', "null", "prediction of b: null if, and only if"),
    ("0.0,", "-1,", r"volumes_mm3\.lesion\[0\] = -1: -1 is less than"),
    ("0.0,", "NaN,", "volumes_mm3 of b: expected those of lesion"),
    ('"image": null', r'"part": "a\nb", "image": null', r"cases\.b\.part = .* does not match"),
    (
        '"image": null',
        '"modalities": {"T1": "../a"}, "image": null',
        r"cases\.b\.modalities\.T1 = .* does not match",
    ),
    (None, b"[]", "is not of type 'object'"),
]
FAULTS = [
    *((read, "metrics.csv", *fault) for fault in OF_METRICS),
    *((read, "summary.json", *fault) for fault in OF_SUMMARY),
    *((read_details, "lesions.csv", *fault) for fault in OF_LESIONS),
    *((read_details, "cases.json", *fault) for fault in OF_CASES),
]


@pytest.mark.parametrize(("reader", "file", "old", "new", "message"), FAULTS)
def test_files_that_no_evaluation_wrote_are_named(reader, file, old, new, message, tmp_path):
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
        reader(tmp_path)
    assert str(tmp_path) in one_line(error)


@pytest.mark.parametrize("file", ["metrics.csv", "lesions.csv", "cases.json", "summary.json"])
def test_a_pipe_is_refused_before_it_could_hang_its_reader(tmp_path, file):
    write_evaluation(tmp_path, CASES, ATLAS)
    (tmp_path / file).unlink()
    os.mkfifo(tmp_path / file)
    with pytest.raises(InputError) as error:
        read_details(tmp_path)
    assert f"{tmp_path / file}: not a regular file; expected " in one_line(error)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path):
    write_evaluation(tmp_path, CASES, ATLAS)
    with (tmp_path / "metrics.csv").open("ab") as file:
        file.truncate(2**36)  # a sparse file
    with pytest.raises(InputError, match=r"metrics\.csv: field larger than field limit"):
        read(tmp_path)


# Details


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
    assert read(tmp_path).missing == ("b",)
    found = read_details(tmp_path)
    assert found.name == "<theirs>\n"
    assert found.convention == ("brats2023" if rules.name == "brats" else "atlas")
    assert (found.protocol.name, found.protocol.settings) == (rules.name, rules.settings)
    assert list(found.scores) == [files.name for files in found.files] == ["a", "b", "c"]
    assert found.scores == scores
    for measured in found.scores.values():
        assert list(measured) == (["WT", "TC", "ET"] if rules.name == "brats" else ["lesion"])
    assert [files.prediction for files in found.files] == [tmp_path / "p/a.nii", None, tmp_path / "p/c.nii"]
    assert str(found.files[0].reference) == "/r/a.nii"
    assert summarise(found) == json.loads((tmp_path / "summary.json").read_text())


def test_an_evaluation_without_a_later_figure_is_read_and_a_value_may_be_negative(tmp_path):
    values = {"a": 0.5, "b": -0.25}
    scores = {name: {"r": Scores({"dice": value, "nsd": 1.0})} for name, value in values.items()}
    write_evaluation(tmp_path, scores, protocol("dice", tolerance=1.0))
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("".join(line for line in metrics.open() if ",nsd," not in line))
    found = read(tmp_path)
    assert found.protocol.units == {"dice": "1"}
    assert {name: list(figures) for name, figures in found.values.items()} == {("r", "dice"): [0.5, -0.25]}


def test_an_evaluation_that_was_moved_keeps_its_predictions(tmp_path):
    write_evaluation(tmp_path / "old", CASES, ATLAS)
    (tmp_path / "old").rename(tmp_path / "new")
    assert read_details(tmp_path / "new").files[0].prediction == tmp_path / "new/p/a.nii"
