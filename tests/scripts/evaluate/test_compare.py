"""Comparisons against figures and ranks worked out by hand."""

import numpy as np
import pytest

from common.metrics import Scores, protocol
from scripts.evaluate.several import compare, cumulative_ranks, read_all
from scripts.paired_tests import holm
from tests.scripts.evaluate.evaluations import write_evaluation
from tests.support import refused

BRATS, ATLAS = protocol("brats"), protocol("atlas")


def write(folder, dices, volume=8.0):
    """An evaluation by atlas: Dice by case; the other figures are 0.5."""
    usual, volumes = dict.fromkeys(ATLAS.units, 0.5), (0.0, volume)
    scores = {case: {"lesion": Scores(usual | {"dice": dice}, (), volumes)} for case, dice in dices.items()}
    return write_evaluation(folder, scores, ATLAS)


def compared(*folders):
    return compare(*read_all(folders, None))


def test_ranks_are_those_worked_out_by_hand():
    keys = [(region, metric) for region in ("WT", "TC", "ET") for metric in BRATS.units]
    systems = [{key: np.array([0.5, 0.5]) for key in keys} for _ in range(3)]
    for system, dice, distance in zip(
        systems, ([0.9, 0.2], [0.8, 0.4], [0.8, 0.6]), ([5, 1], [1, 1], [9, 1]), strict=True
    ):
        system["WT", "lesionwise_dice"] = np.array(dice)
        system["TC", "lesionwise_hd95"] = np.array(distance, float)
        system["ET", "dice"] = np.array(dice)[::-1]  # does not rank
    # four of six are ties of all three (rank 2); of case 2, HD95 too. Dice: 1, 2.5, 2.5 and 3, 2, 1; HD95: 2, 1, 3
    sums = [[8 + 1 + 2, 8 + 3 + 2], [8 + 2.5 + 1, 8 + 2 + 2], [8 + 2.5 + 3, 8 + 1 + 2]]
    np.testing.assert_allclose(cumulative_ranks(systems, BRATS), np.array(sums) / 6)


def test_a_comparison_of_three_systems(tmp_path):
    ours = {"a": 0.9, "b": 0.7, "c": 0.5, "d": 0.1}
    theirs = {"a": 0.8, "b": 0.5, "c": 0.5, "d": 0.15}
    third = {"a": 0.1, "b": 0.1, "c": 0.1, "d": 0.0}
    folders = [write(tmp_path / name, values) for name, values in (("x", ours), ("y", theirs), ("z", third))]
    tests, ranking = compared(*folders)
    assert [(test.first, test.second) for test in tests[::4]] == [("x", "y"), ("x", "z"), ("y", "z")]
    assert len(tests) == 12, "three pairs; four metrics"
    dice = tests[0]
    assert (dice.region, dice.metric, dice.unit) == ("lesion", "dice", "1")
    assert dice.difference == pytest.approx((0.1 + 0.2 + 0 - 0.05) / 4)
    assert (dice.wins, dice.ties, dice.losses) == (2, 1, 1)
    assert dice.p == pytest.approx(4 / 8), "ranks 2, 3, -1: of the eight sums of ranks, 0, 1, 5 and 6 are as far from 3"
    assert np.isnan([dice.low, dice.high]).all(), "four cases"
    assert [test.p_holm for test in tests] == pytest.approx(holm([test.p for test in tests]))
    # dice: x 1, 1, 1.5, 2; y 2, 2, 1.5, 1; z 3 in each; the other three metrics tie at 2
    scores = {name: (3 * 2 + mean) / 4 for name, mean in (("x", 5.5 / 4), ("y", 6.5 / 4), ("z", 3))}
    assert [(place.place, place.system) for place in ranking] == [(1, "x"), (2, "y"), (3, "z")]
    assert {place.system: place.score for place in ranking} == pytest.approx(scores)
    with refused(text="the reference of a, lesion, has 8 mm3 in one of x and w"):
        compared(folders[0], write(tmp_path / "w", ours, volume=9.0))


def test_a_lower_distance_wins_and_equal_figures_tie_but_for_rounding(tmp_path):
    rules = protocol("brats")
    regions = ("WT", "TC", "ET")
    for name, distance, share in (("x", 3.0, 0.1 + 0.2), ("y", 4.0, 0.3)):
        values = {**dict.fromkeys(rules.units, 0.5), "lesionwise_hd95": distance, "hd95": distance, "dice": share}
        write_evaluation(tmp_path / name, {c: {r: Scores(values) for r in regions} for c in ("a", "b")}, rules)
    tests, ranking = compared(str(tmp_path / "x"), str(tmp_path / "y"))
    counts = [(test.difference, test.wins, test.ties, test.losses) for test in tests if test.region == "TC"]
    dice, distance = (0, 0, 2, 0), (-1, 2, 0, 0)
    assert counts == [dice, distance, dice, distance]
    assert [place.score for place in ranking] == [1.25, 1.75]
