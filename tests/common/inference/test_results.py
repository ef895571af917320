"""Files of hand-made scores: against the standard library, and text written by hand."""

import json
import statistics
from pathlib import Path

import numpy as np
import pytest

from common.inference import results
from common.metrics import Scores
from tests.common.inference.scores import ATLAS, BRATS, CASES


def write(folder, scores, rules, missing=()):
    files = [
        results.CaseFiles(case, None if case in missing else folder / f"p/{case}.nii", Path(f"/r/{case}.nii.gz"))
        for case in scores
    ]
    return results.write(folder, results.Details("ours", "atlas", rules, files, scores))


def test_every_metric_and_lesion_is_written(tmp_path):
    write(tmp_path / "new", CASES, ATLAS)
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


def test_the_summary_has_protocol_settings_and_missing_cases(tmp_path):
    summary = write(tmp_path, CASES, ATLAS, missing=["a"])
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert (summary["protocol"], summary["connectivity"], summary["cases"]) == ("atlas", 6, 2)
    assert summary["missing"] == ["a"]
    assert list(summary["regions"]) == ["lesion"]
    assert summary["regions"]["lesion"]["volume_difference"]["unit"] == "voxels"
    assert summary["regions"]["lesion"]["dice"]["mean"] == 0.625


def test_cases_have_their_files_and_volumes(tmp_path):
    scores = {"b": {"lesion": Scores(dict.fromkeys(ATLAS.units, 0.5), volumes=(np.float64(0.1), 2.0))}}
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    inside = tmp_path / "out/../out/p/b.nii.gz"
    files = [results.CaseFiles("b", inside, tmp_path / "link/b.nii.gz", (("T1", Path("i/b_\udcff.nii")),))]
    results.write(tmp_path / "out", results.Details("ours \udcff", "atlas", ATLAS, files, scores))
    assert json.loads((tmp_path / "out/cases.json").read_text()) == {
        "name": "ours \udcff",
        "label_convention": "atlas",
        "protocol": "atlas",
        "settings": {"connectivity": 6},
        "cases": {
            "b": {
                "prediction": "p/b.nii.gz",
                "reference": str(tmp_path / "data/b.nii.gz"),
                "regions": {
                    "lesion": {"values": dict.fromkeys(ATLAS.units, 0.5), "volumes_mm3": [0.1, 2.0], "lesions": []}
                },
                "modalities": {"T1": str(Path.cwd() / "i/b_\udcff.nii")},
            }
        },
    }


@pytest.mark.parametrize("rules", [ATLAS, BRATS])
def test_dice_has_a_mean_over_all_cases_and_one_over_those_with_the_region(rules, tmp_path):
    dices, volumes = [0.5, 1.0, 0.0, 0.75], [(5.0, 8.0), (0.0, 0.0), (1.0, 0.0), (9.0, 0.5)]
    cases = {
        name: {"lesion": Scores(dict.fromkeys(rules.units, 0.0) | {"dice": figure}, (), pair)}
        for name, figure, pair in zip("abcd", dices, volumes, strict=True)
    }
    figures = write(tmp_path, cases, rules)["regions"]["lesion"]
    assert set(figures) == {*rules.units, "dice_present"}
    assert list(figures)[list(figures).index("dice") + 1] == "dice_present"
    assert (figures["dice"]["mean"], figures["dice"]["n"]) == (statistics.mean(dices), 4)
    present = figures["dice_present"]
    assert (present["mean"], present["median"], present["n"], present["unit"]) == (0.625, 0.625, 2, "1")
    assert present["sd"] == pytest.approx(statistics.stdev([0.5, 0.75]))
