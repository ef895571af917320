"""Tables of scores: figures against NumPy and SciPy, reasons of empty cells."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from common.inference.reading import read
from common.metrics import Scores, protocol
from scripts.experiments.engine import OpenStudy, State
from scripts.experiments.jobs import Places
from scripts.experiments.rows import contrast, estimate, interval, scores_of, spread
from scripts.experiments.tables import table_of
from tests.scripts.evaluate.evaluations import write_evaluation
from tests.scripts.experiments.evaluated import FOLDS, evaluate, expand, states, study_of

TABLE = {
    "table": 8,
    "columns": "fold",
    "rows": {
        "BSF-T (62M)": {"run": "ours"},
        "One-Stage (62M)": {"run": "middle"},
        "SwinUNETR (62M)": {"run": "first"},
        "Mine": {"run": "second", "new": True},
    },
    "baseline": ["SwinUNETR (62M)", "Mine"],
}
LEVELS = {"ours": 0.9, "middle": 0.86, "first": 0.8, "second": 0.85}
CASES = 6  # of each fold
STUDY = study_of({key: {} for key in LEVELS}, [TABLE])


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """The jobs of a study of four systems on five folds, and the scores [case, region] by system and fold."""
    jobs = expand(STUDY, tmp_path_factory.mktemp("scored"))
    generator = np.random.default_rng(3)
    scores = {}
    for system, level in LEVELS.items():
        for fold in FOLDS:
            values = np.clip(level + 0.04 * generator.standard_normal((CASES, 3)), 0, 1)
            scores[system, fold] = values
            cases = {f"case{fold}{n}": row for n, row in enumerate(values)}
            evaluate(jobs[f"{system}/fold{fold}/evaluation"], cases)
    return jobs, scores


def entries(jobs, table=TABLE, study=STUDY, job_states=None):
    opened = OpenStudy(study, Places(Path()), jobs, job_states or states(jobs))
    listed = table_of(table, "table", opened).entries
    return {(entry.row, entry.metric) if table["table"] == 6 else entry.row: entry for entry in listed}


@pytest.fixture(scope="module")
def rows(scored):
    """The entries of the table by row."""
    return entries(scored[0])


def test_a_row_is_the_mean_of_its_folds_beside_the_papers(scored, rows):
    _, scores = scored
    entry = rows["BSF-T (62M)"]
    folds = [scores["ours", fold].mean() for fold in FOLDS]
    assert entry.ours == pytest.approx(np.mean(folds), abs=1e-12)
    assert entry.sd == pytest.approx(np.std(folds, ddof=1), abs=1e-12)
    assert [cell.ours for cell in entry.cells] == pytest.approx(folds, abs=1e-12)
    assert [cell.paper for cell in entry.cells] == [0.9027, 0.9181, 0.9102, 0.9103, 0.9139]
    assert [cell.label for cell in entry.cells] == [f"Fold {n}" for n in range(1, 6)]
    assert (entry.paper, entry.done, entry.planned, entry.reason) == (0.9110, 5, 5, "")
    assert entry.difference == pytest.approx(np.mean(folds) - 0.9110, abs=1e-12)
    mine = rows["Mine"]  # which the paper lacks
    assert (mine.paper, mine.difference, [cell.paper for cell in mine.cells]) == (None, None, [None] * 5)
    assert mine.ours == pytest.approx(np.mean([scores["second", fold].mean() for fold in FOLDS]))


def test_rows_are_tested_against_the_best_baseline_over_the_folds_with_holm_over_the_table(scored, rows):
    _, scores = scored
    gains = {
        row: [scores[system, fold].mean() - scores["second", fold].mean() for fold in FOLDS]
        for row, system in {"BSF-T (62M)": "ours", "One-Stage (62M)": "middle"}.items()
    }
    assert np.mean([scores["second", fold] for fold in FOLDS]) > np.mean([scores["first", fold] for fold in FOLDS])
    p = {}
    for row, of_folds in gains.items():
        measured = rows[row].contrast
        expected = stats.ttest_1samp(of_folds, 0)
        assert rows[row].baseline == "Mine"
        assert (measured.cases, measured.trainings) == (5 * CASES, (5, 5))
        assert measured.gain == pytest.approx(np.mean(of_folds), abs=1e-12)
        assert (measured.low, measured.high) == pytest.approx(expected.confidence_interval(0.95), abs=1e-9)
        p[row] = expected.pvalue
        assert measured.p == pytest.approx(p[row], rel=1e-9)
    small, large = sorted(p, key=p.__getitem__)
    assert rows[small].p_holm == pytest.approx(min(1, 2 * p[small]))
    assert rows[large].p_holm == pytest.approx(min(1, max(2 * p[small], p[large])))
    assert all(math.isnan(rows[row].contrast.p) for row in ("Mine", "SwinUNETR (62M)"))


def test_seeds_on_one_test_set_are_tested_over_trainings_and_cases():
    """The error against its formula; what separates the arms differs between trainings and between cases."""
    draw = np.random.default_rng(3)
    cases, shifts = 40, {"ours": [0.10, 0.04, 0.07], "others": [0.02, -0.02]}
    level = draw.uniform(0.4, 0.9, size=cases)
    harder = 0.05 * draw.standard_normal(cases)  # for the first arm
    values = {
        arm: [level + shift + (harder if arm == "ours" else 0) for shift in of_arm] for arm, of_arm in shifts.items()
    }
    runs = {
        arm: [{f"c{n}": [value] for n, value in enumerate(run)} for run in of_arm] for arm, of_arm in values.items()
    }
    result = contrast(runs["ours"], runs["others"])
    error = math.sqrt(
        np.var(shifts["ours"], ddof=1) / 3 + np.var(shifts["others"], ddof=1) / 2 + np.var(harder) / cases
    )
    gain = np.mean(values["ours"]) - np.mean(values["others"])
    margin = stats.t.ppf(0.975, 3) * error
    assert (result.cases, result.trainings) == (cases, (3, 2))
    assert result.gain == pytest.approx(gain)
    assert (result.low, result.high) == pytest.approx((gain - margin, gain + margin), abs=0.03 * margin)
    assert result.p == pytest.approx(2 * stats.t.sf(gain / error, 3), rel=0.05)
    assert stats.wilcoxon(np.mean(values["ours"], 0) - np.mean(values["others"], 0)).pvalue < 1e-6 < result.p


def test_one_training_an_arm_is_not_tested():
    ours, others = ([{f"c{n}": [level + n / 100] for n in range(9)}] for level in (0.8, 0.5))
    result = contrast(ours, others)
    assert (result.cases, result.trainings) == (9, (1, 1))
    assert result.gain == pytest.approx(0.3)
    assert all(math.isnan(value) for value in (result.low, result.high, result.p))
    assert math.isnan(contrast(ours * 2, others).p), "the other arm has one"


def test_the_interval_of_subsets_averages_a_case_before_it_is_drawn():
    generator = np.random.default_rng(5)
    values = 0.8 + 0.1 * generator.standard_normal((3, 20))  # [runs, cases]
    runs = [{f"c{n}": [value] for n, value in enumerate(row)} for row in values]
    low, high = interval(runs)
    of_case = values.mean(axis=0)
    expected = stats.bootstrap((of_case,), np.mean, n_resamples=9999, method="percentile", rng=0).confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=2e-3)
    assert estimate(runs) == pytest.approx(values.mean())
    assert spread(runs) == pytest.approx(values.mean(axis=1).std(ddof=1))


def test_test_sets_weigh_by_their_runs():
    """Two runs on one test set, which is sure, and one run on another."""
    sure = {f"a{n}": [0.5] for n in range(8)}
    runs = [sure, sure, {"c": [0.0], "d": [1.0]}]
    assert estimate(runs) == pytest.approx(0.5)
    assert interval(runs) == pytest.approx((1 / 3, 2 / 3))
    assert all(math.isnan(bound) for bound in interval([{f"a{n}": [0.5] for n in range(9)}])), "nine cases"
    assert math.isnan(spread([sure])), "one run"


def test_only_common_cases_are_compared():
    first = [{"a": [0.9], "b": [0.8]}, {"b": [0.6], "c": [0.5]}]
    second = [{"b": [0.5], "c": [0.1], "d": [0.0]}]
    result = contrast(first, second)
    assert (result.cases, result.trainings) == (2, (1, 1))
    assert result.gain == pytest.approx(((0.6 - 0.5) + (0.5 - 0.1)) / 2)
    assert contrast(first, [{"z": [1.0]}])[:2] == (0, (0, 0))


def test_cases_without_the_region_can_be_left_out(tmp_path):
    """Two folds; ET, the last region, is in no case of the second, and in one of the first."""
    present = {"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0}
    values = {"a": (0.9, 0.8, 0.4), "b": (0.7, 0.6, 1.0), "c": (0.5, 0.7, 1.0), "d": (0.9, 0.9, 0.0)}
    table = TABLE | {"rows": {"BSF-T (62M)": {"run": "ours"}}, "metric": "dice_present", "baseline": "BSF-T (62M)"}
    study = study_of({"ours": {}}, [table], values=[0, 1])
    jobs = expand(study, tmp_path)
    measured = protocol("brats")
    for fold, cases in enumerate(("ab", "cd")):
        scores = {}
        for case in cases:
            volumes = dict(zip(("WT", "TC", "ET"), (1.0, 1.0, present[case]), strict=True))
            scores[case] = {
                region: Scores(dict.fromkeys(measured.units, 0.0) | {"dice": dice}, volumes=(1.0, volumes[region]))
                for region, dice in zip(("WT", "TC", "ET"), values[case], strict=True)
            }
        write_evaluation(jobs[f"ours/fold{fold}/evaluation"].results, scores, measured)
    entry = entries(jobs, table, study)["BSF-T (62M)"]
    first = ((0.9 + 0.7) / 2 + (0.8 + 0.6) / 2 + 0.4) / 3
    second = ((0.5 + 0.9) / 2 + (0.7 + 0.9) / 2) / 2
    assert [cell.ours for cell in entry.cells[:2]] == pytest.approx([first, second])
    assert entry.ours == pytest.approx((first + second) / 2)
    assert entry.metric == "dice_present"
    ours = [scores_of(read(jobs[f"ours/fold{fold}/evaluation"].results), "dice_present") for fold in (0, 1)]
    zeros = [dict.fromkeys(scores, np.zeros(3)) for scores in ours]
    assert contrast(ours, zeros).gain == pytest.approx((first + second) / 2)


def test_fewer_is_better_for_lesion_counts(tmp_path):
    others = {name: {"run": run, "fold": 0, "new": True} for name, run in {"Low": "low", "High": "high"}.items()}
    rows = {"BrainSegFounder": {"run": "ours", "fold": 0}} | others
    table = {"table": 6, "rows": rows, "baseline": ["Low", "High"]}
    study = study_of({key: {} for key in ("ours", "low", "high")}, [table])
    jobs = expand(study, tmp_path)
    measured = protocol("atlas")
    for system, count in {"ours": 1.0, "low": 2.0, "high": 5.0}.items():
        values = dict.fromkeys(measured.units, 0.5) | {"lesion_count_difference": count, "volume_difference": 100.0}
        scores = {case: {"lesion": Scores(values, volumes=(1.0, 1.0))} for case in "abcdefgh"}
        write_evaluation(jobs[f"{system}/fold0/evaluation"].results, scores, measured)
    rows = entries(jobs, table, study)
    entry = rows["BrainSegFounder", "lesion_count_difference"]
    assert (entry.baseline, entry.ours, entry.paper, entry.unit) == ("Low", 1.0, 3.421, "lesions")
    assert entry.contrast.gain == -1.0
    assert rows["HeRN", "volume_difference"].reason == "quoted from the paper (leaderboard)"


def test_an_empty_cell_says_why(scored):
    jobs, scores = scored
    job_states = states(
        jobs,
        ours_fold0_evaluation=State("missing"),
        ours_fold1_evaluation=State("failed", "it broke"),
        ours_fold2=State("failed", "no memory"),
        ours_fold2_evaluation=State("missing"),
        ours_fold3_evaluation=State("stale", "its commands changed"),
    )
    rows = entries(jobs, job_states=job_states)
    entry = rows["BSF-T (62M)"]
    assert [cell.reason for cell in entry.cells] == [
        "missing",
        "failed: it broke",
        "missing: ours/fold2 failed: no memory",
        "stale: its commands changed",
        "",
    ]
    assert [cell.ours is None for cell in entry.cells] == [True, True, True, False, False]
    assert [cell.is_stale for cell in entry.cells] == [False, False, False, True, False]
    assert (entry.done, entry.planned, entry.is_stale) == (2, 5, True)
    assert entry.ours == pytest.approx(np.mean([scores["ours", fold].mean() for fold in (3, 4)]))
    assert entry.contrast.cases == 2 * CASES  # only the folds that are there
    other = rows["BSF-S (64M)"]
    assert {other.reason, *(cell.reason for cell in other.cells)} == {"not in this study"}
