"""Figures of hand-made scores: against the standard library, enumerated resamples, and files written by hand."""

import itertools
import json
import math
import statistics

import numpy as np
import pytest

from common import results
from common.metrics import Lesion, Scores, protocol
from common.preflight import InputError

BRATS = protocol("brats", "MET")
ATLAS = protocol("atlas")


def lesion(is_reference=True, volume=8.0, is_scored=True, is_found=True, dice=0.5, hd95=1.5, centre=(1, 2, 3)):
    return Lesion(is_reference, volume, centre, is_scored, is_found, dice, hd95)


def atlas_scores(dice, *lesions):
    values = {"dice": dice, "lesion_f1": 1.0, "lesion_count_difference": 0.0, "volume_difference": 12.0}
    return {"lesion": Scores(values, lesions)}


CASES = {
    "b": atlas_scores(
        np.float64(0.25), lesion(volume=np.float64(0.1), dice=np.float64(0.75), hd95=np.float64(2)), lesion(False)
    ),
    "a": atlas_scores(1.0, lesion(is_found=False, hd95=math.inf, centre=(0, 0, 9))),
}


def test_metrics_and_lesions_are_written_figure_by_figure(tmp_path):
    results.write(tmp_path / "new", CASES, ATLAS)
    assert (tmp_path / "new/metrics.csv").read_text() == (
        "case,region,metric,value,unit\n"
        "b,lesion,dice,0.25,1\n"
        "b,lesion,lesion_f1,1.0,1\n"
        "b,lesion,lesion_count_difference,0.0,lesions\n"
        "b,lesion,volume_difference,12.0,voxels\n"
        "a,lesion,dice,1.0,1\n"
        "a,lesion,lesion_f1,1.0,1\n"
        "a,lesion,lesion_count_difference,0.0,lesions\n"
        "a,lesion,volume_difference,12.0,voxels\n"
    )
    assert (tmp_path / "new/lesions.csv").read_text() == (
        "case,region,lesion,kind,volume_mm3,scored,found,dice,hd95_mm,x,y,z\n"
        "b,lesion,1,reference,0.1,1,1,0.75,2.0,1,2,3\n"
        "b,lesion,2,false,8.0,1,1,0.5,1.5,1,2,3\n"
        "a,lesion,1,reference,8.0,1,0,0.5,,0,0,9\n"
    )


def test_the_summary_says_protocol_settings_and_who_is_missing(tmp_path):
    summary = results.write(tmp_path, CASES, ATLAS, missing=["a"])
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert (summary["protocol"], summary["connectivity"], summary["cases"]) == ("atlas", 6, 2)
    assert summary["missing"] == ["a"]
    assert list(summary["regions"]) == ["lesion"]
    assert summary["regions"]["lesion"]["volume_difference"]["unit"] == "voxels"
    assert summary["regions"]["lesion"]["dice"]["mean"] == 0.625


def test_lesions_are_counted_by_what_became_of_them():
    lesions = [
        *[lesion()] * 3,
        *[lesion(is_found=False)] * 2,
        *[lesion(is_scored=False)] * 4,  # found, but too small to count
        *[lesion(is_scored=False, is_found=False)] * 6,
        *[lesion(is_reference=False, is_found=False)] * 8,
    ]
    cases = {"a": atlas_scores(0.0, *lesions[:7]), "b": atlas_scores(0.0, *lesions[7:])}
    assert results.summarise(cases, ATLAS)["lesions"] == {
        "lesion": {"reference": 15, "scored": 5, "found": 3, "false": 8}
    }


def test_regions_are_in_the_order_of_the_field():
    values = dict.fromkeys(BRATS.units, 1.0)
    cases = {"a": {region: Scores(values) for region in ("ET", "WT", "TC")}}
    assert list(results.summarise(cases, BRATS)["regions"]) == ["WT", "TC", "ET"]


def test_statistics_are_those_of_the_standard_library():
    values = [0.1, 0.4, 0.35, 0.8, 0.0]
    found = results.statistics(values)
    assert found["mean"] == pytest.approx(statistics.mean(values))
    assert found["sd"] == pytest.approx(statistics.stdev(values))
    assert found["median"] == statistics.median(values)
    assert found["n"] == 5


def test_a_single_case_has_neither_deviation_nor_interval():
    assert results.statistics([0.5]) == {"mean": 0.5, "sd": None, "median": 0.5, "ci95": None, "n": 1}


@pytest.mark.parametrize("values", [[0, 1, 5], [0.2, 0.9, 0.4, 0.45], [3, 3, 3], [0, 0, 0, 0, 10]])
def test_an_interval_holds_what_all_resamples_hold(values):
    """The 2.5 and 97.5 % points of the means of all n^n resamples, up to what 9999 drawn ones may miss them by."""
    means = np.sort([np.mean(drawn) for drawn in itertools.product(values, repeat=len(values))])
    low, high = results.mean_interval(values)
    slack = 0.006  # four standard errors of a share of 2.5 % among 9999

    def quantile(share):
        return np.quantile(means, share, method="inverted_cdf")

    assert quantile(0.025 - slack) - 1e-12 <= low <= quantile(0.025 + slack) + 1e-12
    assert quantile(0.975 - slack) - 1e-12 <= high <= quantile(0.975 + slack) + 1e-12


def test_an_interval_is_that_of_its_seed():
    values = np.random.default_rng(0).normal(size=30)
    assert results.mean_interval(values) == results.mean_interval(list(values))
    assert results.mean_interval(values) != results.mean_interval(values, seed=1)


@pytest.mark.parametrize("rules", [ATLAS, BRATS, protocol("isles", tolerance=2.5), protocol("dice")])
def test_what_is_written_is_read(rules, tmp_path):
    regions = ("WT", "TC", "ET") if rules.name == "brats" else ("lesion",)
    count = itertools.count(1)
    cases = {
        case: {
            region: Scores({metric: 1 / next(count) for metric in rules.units}, (lesion(), lesion(is_scored=False)))
            for region in regions
        }
        for case in ("b", "a")
    }
    results.write(tmp_path, cases, rules)
    found = results.read(tmp_path)
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
        ("metrics.csv", "dice,0.25", "dcie,0.25", "line 2: dcie of lesion in 1; expected what atlas measures"),
        ("metrics.csv", "12.0,voxels", "12.0,ml", "line 5: volume_difference of lesion in ml; expected what atlas"),
        ("metrics.csv", "dice,0.25", "dice,nan", "line 2: value nan; expected a finite number"),
        ("metrics.csv", "dice,0.25", "dice,inf", "line 2: value inf; expected a finite number"),
        ("metrics.csv", "dice,0.25", "dice,", "line 2: value ; expected a finite number"),
        ("metrics.csv", "dice,0.25", "dice,1.25", "line 2: value 1.25; expected a finite number from 0 to 1$"),
        ("metrics.csv", "dice,0.25", "dice,-0.25", "line 2: value -0.25; expected a finite number from 0 to 1$"),
        ("metrics.csv", "12.0,voxels", "-12.0,voxels", "line 5: value -12.0; expected a finite number from 0 on$"),
        ("summary.json", '"missing": []', '"missing": ["x"]', "x is missing; expected a case of metrics.csv"),
        (
            "metrics.csv",
            "a,lesion,dice",
            "b,lesion,dice",
            "line 6: dice of lesion for the case b again; expected it once",
        ),
        ("metrics.csv", "a,lesion,dice,1.0,1\n", "", "no dice of lesion for the case a; expected one"),
        ("summary.json", '"cases": 2', '"cases": 3', "2 cases in metrics.csv; expected 3, as in summary.json"),
        ("summary.json", '"cases": 2', '"cases": "2"', "expected a summary of scripts.evaluate"),
        ("summary.json", '"protocol": "atlas"', '"protocol": "altas"', "--protocol=altas: expected one of"),
        ("summary.json", '"protocol": "atlas"', '"protocols": "atlas"', "no protocol; expected a summary of scripts"),
        ("summary.json", '"connectivity": 6', '"connectivity": 26', "connectivity 26; expected what this version of"),
        ("summary.json", '"lesions": {\n  "lesion"', '"lesions": {\n  "leison"', "regions leison; expected what this"),
        ("summary.json", "{", "[", "not JSON"),
    ],
)
def test_what_no_evaluation_wrote_is_named(file, old, new, message, tmp_path):
    results.write(tmp_path, CASES, ATLAS)
    edit(tmp_path / file, old, new)
    with pytest.raises(InputError, match=message) as error:
        results.read(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metrics.csv", None, "No such file or directory; expected the file of an evaluation"),
        ("summary.json", None, "No such file or directory; expected a JSON file"),
        ("metrics.csv", b"case\xff", "expected the columns case, region"),
        ("metrics.csv", b"", "another first line"),
        ("summary.json", b"[]", "another content; expected a summary of scripts.evaluate"),
        ("summary.json", b"7", "expected a summary of scripts.evaluate"),
        ("summary.json", b'{"protocol": [], "lesions": {}}', "expected a summary of scripts.evaluate"),
        (
            "summary.json",
            b'{"protocol": "atlas", "connectivity": 6, "lesions": {}, "cases": 1, "missing": []}',
            "regions none; expected",
        ),
        ("summary.json", b"[" * 100_000, "nested too deeply"),
    ],
)
def test_files_that_cannot_be_read_are_named(file, content, message, tmp_path):
    results.write(tmp_path, CASES, ATLAS)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        results.read(tmp_path)
    assert file in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        InputError, match=r"nowhere: no such folder; expected one that python -m scripts.evaluate wrote"
    ):
        results.read(tmp_path / "nowhere")


def test_results_that_are_not_complete_cannot_be_read(tmp_path, monkeypatch):
    results.write(tmp_path, CASES, ATLAS)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(results, "_lesions", interrupted)
    with pytest.raises(KeyboardInterrupt):
        results.write(tmp_path, CASES, ATLAS)
    with pytest.raises(InputError, match=r"summary.json: No such file"):
        results.read(tmp_path)


def test_who_is_missing_is_read(tmp_path):
    results.write(tmp_path, CASES, ATLAS, missing=["a"])
    assert results.read(tmp_path).missing == ("a",)
