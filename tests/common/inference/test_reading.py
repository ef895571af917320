"""Reading the files of an evaluation: round trips, and every way in which a file can be wrong."""

import itertools
import json
import math

import numpy as np
import pytest

from common.errors import InputError
from common.inference.reading import read, read_details
from common.metrics.protocols import Lesion, Scores, protocol
from tests.scripts.evaluate.evaluations import write_evaluation

BRATS = protocol("brats", "MET")
ATLAS = protocol("atlas")


def lesion(is_reference=True, volume=8.0, is_scored=True, is_found=True, dice=0.5, hd95=1.5, centre=(1, 2, 3)):
    return Lesion(is_reference, volume, centre, is_scored, is_found, dice, hd95)


def atlas_scores(dice, *lesions, volumes=(0.0, 0.0)):
    values = {"dice": dice, "lesion_f1": 1.0, "lesion_count_difference": 0.0, "volume_difference": 12.0}
    return {"lesion": Scores(values, lesions, volumes)}


CASES = {
    "b": atlas_scores(
        np.float64(0.25), lesion(volume=np.float64(0.1), dice=np.float64(0.75), hd95=np.float64(2)), lesion(False)
    ),
    "a": atlas_scores(1.0, lesion(is_found=False, hd95=math.inf, centre=(0, 0, 9)), volumes=(1 / 3, 2.5)),
}


@pytest.mark.parametrize("rules", [ATLAS, BRATS, protocol("isles", tolerance=2.5), protocol("dice")])
def test_scores_are_read_as_written(rules, tmp_path):
    regions = ("WT", "TC", "ET") if rules.name == "brats" else ("lesion",)
    count = itertools.count(1)
    cases = {
        case: {
            region: Scores({metric: 1 / next(count) for metric in rules.units}, (lesion(), lesion(is_scored=False)))
            for region in regions
        }
        for case in ("b", "a")
    }
    write_evaluation(tmp_path, cases, rules)
    found = read(tmp_path)
    assert (found.protocol.name, found.protocol.settings) == (rules.name, rules.settings)
    assert found.cases == ("a", "b")
    assert found.lesions == dict.fromkeys(regions, (4, 2))
    assert list(found.values) == [(region, metric) for region in regions for metric in rules.units]
    for (region, metric), values in found.values.items():
        assert values.tolist() == [cases[case][region].values[metric] for case in ("a", "b")]


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("metrics.csv", "case,region", "subject,region", r"another first line; expected the columns case, region, met"),
        ("metrics.csv", "b,lesion,dice,0.25,1\n", "b,lesion,dice,0.25\n", "line 2: 4 columns; expected case, region"),
        ("metrics.csv", "b,lesion,dice,0.25,1", "b,WT,dice,0.25,1", "line 2: dice of WT in 1; expected what atlas"),
        ("metrics.csv", "b,lesion,dice,0.25,1", "../b,lesion,dice,0.25,1", r'case "\.\./b"; expected a file name'),
        ("metrics.csv", "dice,0.25", "dcie,0.25", "line 2: dcie of lesion in 1; expected what atlas measures"),
        ("metrics.csv", "12.0,voxels", "12.0,ml", "line 5: volume_difference of lesion in ml; expected what atlas"),
        ("metrics.csv", "dice,0.25", "dice,nan", "line 2: value nan; expected a finite number"),
        ("metrics.csv", "dice,0.25", "dice,inf", "line 2: value inf; expected a finite number"),
        ("metrics.csv", "dice,0.25", "dice,", "line 2: value ; expected a finite number"),
        ("metrics.csv", "dice,0.25", "dice,1.25", "line 2: value 1.25; expected a finite number from 0 to 1$"),
        ("metrics.csv", "dice,0.25", "dice,-0.25", "line 2: value -0.25; expected a finite number from 0 to 1$"),
        ("metrics.csv", "12.0,voxels", "-12.0,voxels", "line 5: value -12.0; expected a finite number of at least 0$"),
        ("summary.json", '"missing": []', '"missing": ["x"]', "x is missing; expected a case of metrics.csv"),
        (
            "metrics.csv",
            "a,lesion,dice",
            "b,lesion,dice",
            "line 6: dice of lesion for the case b again; expected it once",
        ),
        ("metrics.csv", "a,lesion,dice,1.0,1\n", "", "no dice of lesion for the case a; expected one"),
        ("summary.json", '"cases": 2', '"cases": 3', "2 cases in metrics.csv; expected 3, as in summary.json"),
        ("summary.json", '"cases": 2', '"cases": "2"', "expected a summary by scripts.evaluate"),
        ("summary.json", '"protocol": "atlas"', '"protocol": "altas"', "protocol=altas: expected one of"),
        ("summary.json", '"protocol": "atlas"', '"protocols": "atlas"', "no protocol; expected a summary by scripts"),
        ("summary.json", '"connectivity": 6', '"connectivity": 26', "connectivity 26; expected what this version of"),
        (
            "summary.json",
            '"lesions": {\n  "lesion"',
            '"lesions": {\n  "leison"',
            "dice of lesion in 1; expected what atlas measures",
        ),
        ("summary.json", "{", "[", "not JSON"),
    ],
)
def test_contents_that_no_evaluation_wrote_are_named(file, old, new, message, tmp_path):
    write_evaluation(tmp_path, CASES, ATLAS)
    edit(tmp_path / file, old, new)
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metrics.csv", None, "No such file or directory; expected the file of an evaluation"),
        ("summary.json", None, "No such file or directory; expected a JSON file"),
        ("metrics.csv", b"case\xff", "expected the columns case, region"),
        ("metrics.csv", b"", "another first line"),
        ("summary.json", b"[]", "other content; expected a summary by scripts.evaluate"),
        ("summary.json", b"7", "expected a summary by scripts.evaluate"),
        ("summary.json", b'{"protocol": [], "lesions": {}}', "expected a summary by scripts.evaluate"),
        (
            "summary.json",
            b'{"protocol": "atlas", "connectivity": 6, "lesions": {}, "cases": 1, "missing": []}',
            "regions none; expected",
        ),
        ("summary.json", b"[" * 100_000, "nested too deeply"),
    ],
)
def test_files_that_cannot_be_read_are_named(file, content, message, tmp_path):
    write_evaluation(tmp_path, CASES, ATLAS)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path)
    assert file in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(
        InputError, match=r"nowhere: no such folder; expected one that scripts.evaluate or evaluate.yaml wrote"
    ):
        read(tmp_path / "nowhere")


def test_missing_cases_are_read(tmp_path):
    write_evaluation(tmp_path, CASES, ATLAS, missing=["a"])
    assert read(tmp_path).missing == ("a",)


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
    assert found.summary == json.loads((tmp_path / "summary.json").read_text())


def test_a_single_case_has_details(tmp_path):
    write_evaluation(tmp_path, {"a": CASES["a"]}, ATLAS)
    assert read_details(tmp_path).scores == {"a": CASES["a"]}


def test_an_older_summary_gets_its_second_mean_of_dice(tmp_path):
    masks = {"a": (4.0, 2.0), "b": (0.0, 0.0), "c": (1.0, 3.0)}
    dices = {"a": 0.5, "b": 1.0, "c": 0.25}
    scores = {
        name: {"lesion": Scores(dict.fromkeys(ATLAS.units, 0.0) | {"dice": dices[name]}, (), pair)}
        for name, pair in masks.items()
    }
    write_evaluation(tmp_path, scores, ATLAS)
    summary = json.loads((tmp_path / "summary.json").read_text())
    written = summary["regions"]["lesion"].pop("dice_present")
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    found = read_details(tmp_path).summary["regions"]["lesion"]["dice_present"]
    assert (found["mean"], found["n"]) == (0.375, 2)
    assert found == written


def test_an_evaluation_that_was_moved_keeps_its_predictions(tmp_path):
    write_evaluation(tmp_path / "old", CASES, ATLAS)
    (tmp_path / "old").rename(tmp_path / "new")
    assert read_details(tmp_path / "new").files[0].prediction == tmp_path / "new/p/a.nii"


LESION = "b,lesion,1,reference,0.1,1,1,0.75,2.0,1,2,3"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("lesions.csv", "case,region,lesion", "case,region,number", "another first line; expected the columns case, r"),
        ("lesions.csv", LESION, f"{LESION},4", "line 2: 13 columns; expected case, region, lesion, kind"),
        ("lesions.csv", LESION, LESION.replace("b,", "x,", 1), "line 2: region lesion of case 'x'; expected a case of"),
        ("lesions.csv", LESION, LESION.replace("lesion", "WT"), "line 2: region WT of case 'b'; expected a case of m"),
        ("lesions.csv", LESION, LESION.replace(",1,ref", ",2,ref"), "line 2: lesion 2; expected 1, the next of this"),
        ("lesions.csv", LESION, LESION.replace("reference", "true"), "line 2: kind true; expected reference or false"),
        ("lesions.csv", LESION, LESION.replace("0.1", "-0.1"), "line 2: volume_mm3 -0.1; expected a finite number of"),
        ("lesions.csv", LESION, LESION.replace("0.75", ""), "line 2: dice ; expected a finite number from 0 to 1"),
        ("lesions.csv", LESION, LESION.replace("2.0", "inf"), "line 2: hd95_mm inf; expected a finite number of at le"),
        ("lesions.csv", LESION, LESION.replace("0.1,1", "0.1,2"), "line 2: scored 2; expected 0 or 1"),
        ("lesions.csv", LESION, LESION.replace("1,0.75", "yes,0.75"), "line 2: found yes; expected 0 or 1"),
        ("lesions.csv", LESION, LESION.replace(",3", ",-3"), "line 2: z -3; expected the number of a voxel, counted"),
        ("lesions.csv", LESION, LESION.replace(",3", ",\u0663"), "line 2: z \u0663; expected the number of a voxel"),
        ("lesions.csv", f"{LESION}\n", "", "line 2: lesion 2; expected 1, the next of this region"),
        ("lesions.csv", "b,lesion,2,false,8.0,1,1,0.5,1.5,1,2,3\n", "", "'false': 0}, as in lesions.csv"),
        (
            "metrics.csv",
            "b,lesion",
            '"b\u2028",lesion',
            r'line 2: case "b\\u2028"; expected a file name of one line in Unicode',
        ),
        (
            "cases.json",
            '"name": "ours"',
            '"title": "ours"',
            "title.*; expected an object of name, label_convention and c",
        ),
        ("cases.json", '"ours"', "7", "name 7; expected text"),
        ("cases.json", '"atlas"', '"altas"', "label_convention=altas: expected one of"),
        ("cases.json", '"atlas"', '["atlas"]', r'label_convention \["atlas"\]; expected one with the regions lesion'),
        ("cases.json", '"atlas"', '"brats2021"', 'label_convention "brats2021"; expected one with the regions lesion'),
        ("cases.json", '"b": {', '"c": {', "2 cases; expected the 2 cases of metrics.csv"),
        ("cases.json", '"image"', '"images"', "case b: other keys; expected prediction, reference, image and volumes"),
        ("cases.json", '"image": null', '"image": 7', "case b: image 7; expected an absolute path, or one inside"),
        ("cases.json", '"image": null', '"image": ""', 'case b: image ""; expected an absolute path'),
        ("cases.json", '"image": null', r'"image": "a\u0000"', r'case b: image "a\\u0000"; expected an absolute path'),
        ("cases.json", '"p/b.nii"', '"p/../../b.nii"', 'case b: prediction "p/../../b.nii"; expected an absolute'),
        ("cases.json", '"p/b.nii"', "null", "case b: prediction null; expected a path"),
        ("cases.json", '"/r/b.nii"', "null", "case b: reference null; expected an absolute path"),
        ("cases.json", '"lesion": [', '"WT": [', "case b: other volumes_mm3; expected the regions lesion"),
        ("cases.json", "0.0,", "-1,", r"case b: volumes_mm3 of lesion \[-1, 0.0\]; expected two numbers of at least 0"),
        ("cases.json", "0.0,", "true,", r"case b: volumes_mm3 of lesion \[true, 0.0\]; expected two numbers"),
        ("cases.json", "0.0,", "NaN,", r"case b: volumes_mm3 of lesion \[NaN, 0.0\]; expected two numbers"),
        ("cases.json", "0.0,", "", r"case b: volumes_mm3 of lesion \[0.0\]; expected two numbers"),
        (
            "summary.json",
            '"missing": []',
            '"missing": ["b"]',
            'cases.json: case b: prediction "p/b.nii"; expected null',
        ),
        ("summary.json", '"mean": 0.625', '"mean": 0.626', "dice of lesion: other figures; expected those of metrics"),
        ("summary.json", '"mean": 0.625', '"mean": null', "dice of lesion: other figures; expected those of metrics"),
        ("summary.json", '"median": 0.625', '"median": 0.5', "dice of lesion: other figures"),
        ("summary.json", '"sd": 0.53', '"sd": 0.63', "dice of lesion: other figures"),
        ("summary.json", '"sd": 0.53', '"sds": 0.53', "dice of lesion: other figures"),
        ("summary.json", '"ci95": [', '"ci95": [1,', "dice of lesion: other figures"),
        ("summary.json", '"n": 2', '"n": 3', "dice of lesion: other figures"),
        ("summary.json", '"mean": 1.0', '"mean": 0.625', "dice_present of lesion: other figures"),
        ("summary.json", '"sd": null', '"sd": 0.5', "dice_present of lesion: other figures"),
        ("summary.json", '"ci95": null', '"ci95": [0, 1]', "dice_present of lesion: other figures"),
        ("summary.json", '"n": 1', '"n": 2', "dice_present of lesion: other figures"),
        ("summary.json", '"unit": "voxels"', '"unit": "ml"', "volume_difference of lesion: other figures"),
        ("summary.json", '"regions": {', '"region": {', "dice of lesion: other figures"),
        ("summary.json", '"found": 1', '"found": 2', '"found": 2.*; expected .*, as in lesions.csv'),
        ("summary.json", '"found": 1,', "", "expected .*, as in lesions.csv"),
    ],
)
def test_files_that_contradict_are_named(file, old, new, message, tmp_path):
    write_evaluation(tmp_path, CASES, ATLAS)
    edit(tmp_path / file, old, new)
    with pytest.raises(InputError, match=message) as error:
        read_details(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("lesions.csv", None, "No such file or directory; expected the file of an evaluation"),
        ("cases.json", None, "No such file or directory; expected a JSON file"),
        ("cases.json", b"[]", "list; expected an object of name, label_convention and cases"),
        ("cases.json", b"{}", "empty; expected an object of name"),
        ("cases.json", b"{", "not JSON"),
        ("cases.json", b'"\xff"', "not JSON"),
        ("cases.json", b'{"name": "", "label_convention": "atlas", "cases": []}', "list; expected the 2 cases"),
        ("cases.json", b'{"name": "", "label_convention": "atlas", "cases": {"a": 1, "b": 2}}', "case a: other keys"),
        ("cases.json", b"[" * 100_000, "nested too deeply"),
    ],
)
def test_details_that_cannot_be_read_are_named(file, content, message, tmp_path):
    write_evaluation(tmp_path, CASES, ATLAS)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_details(tmp_path)
    assert file in str(error.value)
    assert "\n" not in str(error.value)
