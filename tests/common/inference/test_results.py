"""Files of hand-made scores: against the standard library, and text written by hand."""

import statistics
from pathlib import Path

import pytest

from common.inference import results
from common.metrics import Scores
from tests.common.inference.scores import ATLAS, BRATS


def write(folder, scores, rules, missing=()):
    files = [
        results.CaseFiles(case, None if case in missing else folder / f"p/{case}.nii", Path(f"/r/{case}.nii.gz"))
        for case in scores
    ]
    return results.write(folder, results.Details("ours", "atlas", rules, files, scores))


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
