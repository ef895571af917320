"""Comparisons and their tests, against enumerations and figures worked out by hand."""

import itertools

import numpy as np
import pytest

from common.metrics import Scores, protocol
from scripts.evaluate.several import compare, holm, read_all, signed_rank
from tests.scripts.evaluate.evaluations import write_evaluation
from tests.support import refused

ATLAS = protocol("atlas")


def write(folder, dices, volume=8.0):
    """An evaluation by atlas: Dice by case; the other figures are 0.5."""
    usual, volumes = dict.fromkeys(ATLAS.units, 0.5), (0.0, volume)
    scores = {case: {"lesion": Scores(usual | {"dice": dice}, (), volumes)} for case, dice in dices.items()}
    return write_evaluation(folder, scores, ATLAS)


def compared(*folders):
    return compare(*read_all(folders, [folder[-1] for folder in folders]))


def test_a_comparison_of_three_systems(tmp_path):
    ours = {"a": 0.9, "b": 0.7, "c": 0.5, "d": 0.1}
    theirs = {"a": 0.8, "b": 0.5, "c": 0.5, "d": 0.15}
    third = {"a": 0.1, "b": 0.1, "c": 0.1, "d": 0.0}
    folders = [write(tmp_path / name, values) for name, values in (("x", ours), ("y", theirs), ("z", third))]
    tests = compared(*folders)
    assert [(test["first"], test["second"]) for test in tests[::4]] == [("x", "y"), ("x", "z"), ("y", "z")]
    assert len(tests) == 12, "three pairs; four metrics"
    dice = tests[0]
    assert (dice["region"], dice["metric"], dice["unit"]) == ("lesion", "dice", "1")
    assert dice["difference"] == pytest.approx((0.1 + 0.2 + 0 - 0.05) / 4)
    assert (dice["wins"], dice["ties"], dice["losses"]) == (2, 1, 1)
    assert dice["p"] == pytest.approx(4 / 8), (
        "ranks 2, 3, -1: of the eight sums of ranks, 0, 1, 5 and 6 are as far from 3"
    )
    assert np.isnan([dice["low"], dice["high"]]).all(), "four cases"
    assert [test["p_holm"] for test in tests] == pytest.approx(holm([test["p"] for test in tests]))
    with refused(text="the reference of a, lesion, has 8 mm3 in one of x and w"):
        compared(folders[0], write(tmp_path / "w", ours, volume=9.0))


def test_a_lower_distance_wins_and_equal_figures_tie_but_for_rounding(tmp_path):
    rules = protocol("brats")
    regions = ("WT", "TC", "ET")
    for name, distance, share in (("x", 3.0, 0.1 + 0.2), ("y", 4.0, 0.3)):
        values = {**dict.fromkeys(rules.units, 0.5), "lesionwise_hd95": distance, "hd95": distance, "dice": share}
        write_evaluation(tmp_path / name, {c: {r: Scores(values) for r in regions} for c in ("a", "b")}, rules)
    tests = compared(str(tmp_path / "x"), str(tmp_path / "y"))
    counts = [
        (test["difference"], test["wins"], test["ties"], test["losses"]) for test in tests if test["region"] == "TC"
    ]
    dice, distance = (0, 0, 2, 0), (-1, 2, 0, 0)
    assert counts == [dice, distance, dice, distance]


@pytest.mark.parametrize("differences", [[1, -2, 0, 3, 4, 5], [0.5, 0.5, -0.25, 0.75], [1, 1, 1, 1, -1, 2, 2], [0, 0]])
def test_signed_rank_counts_all_signs(differences):
    """The share of all sign assignments whose rank sum is as far from its mean, times the ranks of tied sizes."""
    nonzero = np.array([difference for difference in differences if difference])
    sizes = np.abs(nonzero)
    ranks = np.array([(sizes < size).sum() + ((sizes == size).sum() + 1) / 2 for size in sizes])
    observed = abs(ranks[nonzero > 0].sum() - ranks.sum() / 2)
    assignments = itertools.product([0, 1], repeat=len(ranks))
    extreme = [abs(np.dot(signs, ranks) - ranks.sum() / 2) >= observed - 1e-9 for signs in assignments]
    assert signed_rank(np.array(differences)) == pytest.approx(np.mean(extreme))


def test_holm_adjusts_and_rejects_step_by_step():
    # by hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04, which may not fall below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
