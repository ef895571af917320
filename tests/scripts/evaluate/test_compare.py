"""Paired statistics against enumerations, closed forms and ranks worked out by hand."""

import csv
import itertools
import json
import math

import numpy as np
import pytest

from common.errors import InputError
from common.inference import results
from common.metrics.lesions import Lesion
from common.metrics.protocols import Scores, protocol
from scripts.evaluate import __main__ as evaluate
from scripts.evaluate.compare import (
    adjusted,
    compare,
    cumulative_ranks,
    lines,
    permuted,
    read_all,
    signed_rank,
)
from tests.scripts.evaluate.evaluations import write_evaluation
from tests.support import one_line

BRATS, ATLAS = protocol("brats", tolerance=1.0), protocol("atlas")


def write(folder, values, rules=ATLAS, lesions=1):
    """An evaluation: values by case of the first region's first metric; the other figures are 0.5."""
    others = ("TC", "ET") if rules.name == "brats" else ()
    first = "WT" if others else "lesion"
    listed = (Lesion(True, 1.0, (0, 0, 0), True, True, 1.0, 0.0),) * lesions
    usual, metric = dict.fromkeys(rules.units, 0.5), next(iter(rules.units))
    cases = {
        case: {first: Scores(usual | {metric: value}, listed)} | dict.fromkeys(others, Scores(usual, listed))
        for case, value in values.items()
    }
    return write_evaluation(folder, cases, rules)


# Tests and corrections


@pytest.mark.parametrize(
    "differences", [[1.0, 2, 3], [1, -2, 3, 4, 5], [0.5, 0.5, -0.25, 0.75], [1, 1, 1, 1, -1, 2, 2]]
)
def test_signed_rank_counts_all_signs(differences):
    """The share of all sign assignments whose rank sum is as far from its mean, times the ranks of tied sizes."""
    sizes = np.abs(differences)
    ranks = np.array([(sizes < size).sum() + ((sizes == size).sum() + 1) / 2 for size in sizes])
    observed = abs(ranks[np.array(differences) > 0].sum() - ranks.sum() / 2)
    assignments = itertools.product([0, 1], repeat=len(ranks))
    extreme = [abs(np.dot(signs, ranks) - ranks.sum() / 2) >= observed - 1e-9 for signs in assignments]
    assert signed_rank(np.array(differences)) == pytest.approx(np.mean(extreme))


def test_signed_rank_leaves_zeros_out():
    differences = np.array([1.0, -2, 3, 4, 5])
    assert signed_rank(np.concatenate([differences, np.zeros(100)])) == signed_rank(differences)
    assert signed_rank(np.zeros(5)) == 1


@pytest.mark.parametrize("differences", [[1.0, 2, -0.5], [0.5] * 5, [1, -1, 2, 0, 0.5, 3, 0, -4], [1, -1], [-3, -1, 1]])
def test_permuted_counts_all_exchanges(differences):
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=len(differences))]
    assert permuted(np.array(differences)) == pytest.approx(np.mean(np.array(sums) >= abs(sum(differences))))
    for undecided in ([0.0, 0, 0], [2.0], [0, 3.0, 0]):
        assert permuted(np.array(undecided)) == 1


def test_permuted_draws_if_there_are_too_many_exchanges():
    differences = np.array([1.0, -0.5, 1.5, 2, -1] * 5)
    p = permuted(differences)
    assert p == permuted(differences)
    assert p == permuted(np.concatenate([differences, np.zeros(1000)]))
    counts = {0.0: 1}  # of all 2^25 sums
    for size in differences:
        following = {}
        for total, count in counts.items():
            for sign in (-1, 1):
                following[total + sign * size] = following.get(total + sign * size, 0) + count
        counts = following
    exact = sum(count for total, count in counts.items() if abs(total) >= differences.sum()) / 2**25
    assert p == pytest.approx(exact, abs=5 * math.sqrt(exact / 100_000))


def test_holm_adjusts_and_rejects_step_by_step():
    # by hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04, which may not fall below the one before
    assert adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjusted([0.5, 0.6]) == [1, 1]
    # at each level: the smallest p-values one by one, each against level / (number left), until one fails
    generator = np.random.default_rng(0)
    for _ in range(50):
        p_values = generator.uniform(0, 0.1, 8) ** 2
        corrected = np.array(adjusted(p_values))
        for level in (0.001, 0.01, 0.05):
            rejected = set()
            for step, place in enumerate(np.argsort(p_values)):
                if p_values[place] > level / (8 - step):
                    break
                rejected.add(place)
            assert set(np.flatnonzero(corrected <= level)) == rejected


# Ranks


def test_ranks_are_those_worked_out_by_hand():
    keys = [(region, metric) for region in ("WT", "TC", "ET") for metric in BRATS.units]
    systems = [{key: np.array([0.5, 0.5]) for key in keys} for _ in range(3)]
    for system, dice, distance in zip(
        systems, ([0.9, 0.2], [0.8, 0.4], [0.8, 0.6]), ([5, 1], [1, 1], [9, 1]), strict=True
    ):
        system["WT", "lesionwise_dice"] = np.array(dice)
        system["TC", "lesionwise_hd95"] = np.array(distance, float)
        system["ET", "dice"] = np.array(dice)[::-1]  # does not rank
    points, count = cumulative_ranks(systems, BRATS)
    assert count == 6
    # four of six are ties of all three (rank 2); of case 2, HD95 too. Dice: 1, 2.5, 2.5 and 3, 2, 1; HD95: 2, 1, 3
    assert points.tolist() == [[8 + 1 + 2, 8 + 3 + 2], [8 + 2.5 + 1, 8 + 2 + 2], [8 + 2.5 + 3, 8 + 1 + 2]]


def test_a_comparison_of_three_systems(tmp_path):
    ours = {"a": 0.9, "b": 0.7, "c": 0.5, "d": 0.1}
    theirs = {"a": 0.8, "b": 0.5, "c": 0.5, "d": 0.15}
    third = {"a": 0.1, "b": 0.1, "c": 0.1, "d": 0.0}
    folders = [write(tmp_path / name, values) for name, values in (("x", ours), ("y", theirs), ("z", third))]
    comparison = compare(read_all(folders))
    assert [(test.first, test.second) for test in comparison.tests[::5]] == [("x", "y"), ("x", "z"), ("y", "z")]
    assert len(comparison.tests) == 15, "three pairs; four metrics and the cumulative rank of each"
    dice = comparison.tests[0]
    assert (dice.region, dice.metric, dice.unit, dice.test) == ("lesion", "dice", "1", "wilcoxon")
    assert dice.difference == pytest.approx((0.1 + 0.2 + 0 - 0.05) / 4)
    assert (dice.wins, dice.ties, dice.losses) == (2, 1, 1)
    assert dice.p == pytest.approx(4 / 8), "ranks 2, 3, -1: of the eight sums of ranks, 0, 1, 5 and 6 are as far from 3"
    assert (dice.low, dice.high) == results.mean_interval([0.1, 0.2, 0.0, -0.05])
    rank = comparison.tests[4]
    assert (rank.region, rank.metric, rank.test) == ("all", "cumulative_rank", "permutation")
    assert rank.difference == pytest.approx((-1 - 1 + 0 + 1) / 4 / 4), "ranks of one of four metrics, four cases"
    assert (rank.wins, rank.ties, rank.losses) == (2, 1, 1)
    assert rank.p == 1
    assert [test.p_holm for test in comparison.tests] == pytest.approx(adjusted([test.p for test in comparison.tests]))
    # dice: x 1, 1, 1.5, 2; y 2, 2, 1.5, 1; z 3 in each; the other three metrics tie at 2
    scores = {name: (3 * 2 + mean) / 4 for name, mean in (("x", 5.5 / 4), ("y", 6.5 / 4), ("z", 3))}
    assert [(place.place, place.system) for place in comparison.ranking] == [(1, "x"), (2, "y"), (3, "z")]
    assert {place.system: place.score for place in comparison.ranking} == pytest.approx(scores)


def test_a_lower_distance_wins_and_equal_figures_tie_but_for_rounding(tmp_path):
    rules = protocol("brats")
    regions = ("WT", "TC", "ET")
    for name, distance, share in (("x", 3.0, 0.1 + 0.2), ("y", 4.0, 0.3)):
        values = {**dict.fromkeys(rules.units, 0.5), "lesionwise_hd95": distance, "hd95": distance, "dice": share}
        write_evaluation(tmp_path / name, {c: {r: Scores(values) for r in regions} for c in ("a", "b")}, rules)
    comparison = compare(read_all([str(tmp_path / "x"), str(tmp_path / "y")]))
    found = {
        test.metric: (test.difference, test.wins, test.ties, test.losses)
        for test in comparison.tests
        if test.region in ("TC", "all")
    }
    assert found == {
        "lesionwise_dice": (0, 0, 2, 0),
        "lesionwise_hd95": (-1, 2, 0, 0),
        "dice": (0, 0, 2, 0),
        "hd95": (-1, 2, 0, 0),
        "cumulative_rank": (-0.5, 2, 0, 0),
    }
    assert [place.score for place in comparison.ranking] == [1.25, 1.75]


# Reading


def test_evaluations_that_cannot_be_compared_are_named(tmp_path):
    pair = {"a": 0.5, "b": 0.5}
    first = write(tmp_path / "first", pair)
    for name, values, options, message in (
        ("isles", pair, {"rules": protocol("isles")}, "protocol isles; expected atlas, as in"),
        ("cases", {"a": 0.5, "c": 0.5}, {}, f"2 cases are in one evaluation only, b in {first};"),
        ("truth", pair, {"lesions": 2}, "4 lesions of lesion in the references; expected 2, as in"),
        ("nsd", pair, {"rules": protocol("atlas", tolerance=1.0)}, "tolerance_mm 1.0; expected none"),
    ):
        with pytest.raises(InputError, match=f"^{tmp_path / name}: {message}") as error:
            read_all([first, write(tmp_path / name, values, **options)])
        assert one_line(error)


# What people get


def test_tables_show_the_results(tmp_path):
    folders = [write(tmp_path / name, values) for name, values in (("x", {"a": 1, "b": 1}), ("y", {"a": 0, "b": 0.5}))]
    shown = "\n".join(lines(compare(read_all(folders))))
    assert "2 cases by atlas; Holm's correction over 5 tests" in shown
    (dice,) = [line.split() for line in shown.splitlines() if line.startswith("lesion  dice ")]
    assert dice == ["lesion", "dice", "+0.75", "[0.5,", "1]", "0.5000", "1.0000", "2", "/", "0", "/", "0"]
    assert [line.split() for line in shown.splitlines()[-2:]] == [["1", "x", "1.375"], ["2", "y", "1.625"]]
    summary = tmp_path / "y/summary.json"
    summary.write_text(summary.read_text().replace('"missing": []', '"missing": ["a"]'))
    assert lines(compare(read_all(folders)))[1] == "y: 1 of 2 cases without prediction, counted as empty"


def test_files_hold_all_figures(tmp_path, capsys):
    folders = [write(tmp_path / name, {"a": x, "b": 0.5, "c": x}) for name, x in (("x", 0.6), ("y", 0.4), ("z", 0.4))]
    evaluate.compare(*folders, output=str(tmp_path / "out"))
    assert capsys.readouterr().out.endswith(f"\n\n{tmp_path}/out\n")
    comparison = compare(read_all(folders))
    with (tmp_path / "out/comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{name: str(value) for name, value in test._asdict().items()} for test in comparison.tests]
    content = json.loads((tmp_path / "out/comparison.json").read_text())
    assert content["tests"] == [test._asdict() for test in comparison.tests]
    ranks = content["cumulative_ranks"]
    assert ranks["x"] == {"a": 1.75, "b": 2, "c": 1.75}
    with (tmp_path / "out/ranking.csv").open(newline="") as file:
        ranking = list(csv.reader(file))
    assert [row[:2] for row in ranking] == [["place", "system"], ["1", "x"], ["2", "y"], ["2", "z"]]
    assert float(ranking[1][2]) == pytest.approx(np.mean(list(ranks["x"].values())))
    assert content["ranking"] == [place._asdict() for place in comparison.ranking]
