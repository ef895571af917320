"""Tables of a study: figures against NumPy and SciPy."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from common.metrics import Scores, protocol
from studies.tables import contrast, main, means, read_scores, table
from tests.scripts.evaluate.evaluations import write_evaluation

ROWS = {"BSF-T (62M)": "ours", "One-Stage (62M)": "middle", "SwinUNETR (62M)": "first"}
TABLE = {"table": 8, "columns": "fold", "baseline": ["SwinUNETR (62M)", "Mine"]}
TABLE["rows"] = {row: {"run": run} for row, run in ROWS.items()} | {"Mine": {"run": "second", "new": True}}
LEVELS = {"ours": 0.9, "middle": 0.86, "first": 0.8, "second": 0.85}
FOLDS, CASES = range(5), 6


def study_of(systems, tables=(TABLE,), axis="fold", values=FOLDS):
    runs = {f"{name}/{axis}{n}": {"entry": name, "values": {axis: n}} for name in systems for n in values}
    return {"title": "A study", "tables": list(tables), "figures": [], "runs": runs}


def evaluate(output, run, dice, present=True):
    """Write the evaluation of a run with these Dice of each case in WT, TC and ET; other values are 0."""
    card = protocol("brats")
    scores = {case: {} for case in dice}
    for case, values in dice.items():
        for region, value in zip(("WT", "TC", "ET"), values, strict=True):
            figures = dict.fromkeys(card.units, 0.0) | {"dice": value}
            scores[case][region] = Scores(figures, volumes=(1.0, float(present or value not in (0, 1))))
    write_evaluation(output / "runs" / run / "eval/evaluation", scores, card)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """The table of four systems on five folds, and the scores [case, region] by system and fold."""
    output, generator, scores = tmp_path_factory.mktemp("scored"), np.random.default_rng(3), {}
    for system, level in LEVELS.items():
        for fold in FOLDS:
            values = scores[system, fold] = np.clip(level + 0.04 * generator.standard_normal((CASES, 3)), 0, 1)
            evaluate(output, f"{system}/fold{fold}", {f"case{fold}{n}": row for n, row in enumerate(values)})
    return table(TABLE, study_of(LEVELS), output).set_index(["row", "column"]), scores


def frame(rows):
    return pd.DataFrame.from_dict(rows, orient="index")


def test_a_row_is_the_mean_of_its_folds_beside_the_papers(scored):
    lines, scores = scored
    average, folds = lines.loc["BSF-T (62M)", "average"], [scores["ours", fold].mean() for fold in FOLDS]
    assert average["ours"] == pytest.approx(np.mean(folds), abs=1e-12)
    assert average["sd"] == pytest.approx(np.std(folds, ddof=1), abs=1e-12)
    assert (average["paper"], average["runs_done"], average["runs_planned"]) == (0.9110, 5, 5)
    cells = lines.loc["BSF-T (62M)"].drop("average")
    assert [*cells["ours"]] == pytest.approx(folds, abs=1e-12)
    assert [*cells["paper"].items()][:2] == [("Fold 1", 0.9027), ("Fold 2", 0.9181)]
    assert lines.loc["Mine"]["paper"].isna().all(), "which the paper lacks"
    assert lines.loc["BSF-S (64M)"]["ours"].isna().all(), "which the study lacks"


def test_rows_are_tested_against_the_best_baseline_over_the_folds_with_holm_over_the_table(scored):
    lines, scores = scored
    p = []
    for row, system in {"BSF-T (62M)": "ours", "One-Stage (62M)": "middle"}.items():
        gains = [scores[system, fold].mean() - scores["second", fold].mean() for fold in FOLDS]
        average, expected = lines.loc[row, "average"], stats.ttest_1samp(gains, 0)
        assert [*average[["baseline", "common_cases", "trainings", "baseline_trainings"]]] == ["Mine", 5 * CASES, 5, 5]
        bounds = [*average[["gain", "gain_low", "gain_high"]]]
        assert bounds == pytest.approx([np.mean(gains), *expected.confidence_interval(0.95)], abs=1e-9)
        assert average["p"] == pytest.approx(expected.pvalue, rel=1e-9)
        p.append((expected.pvalue, average["p_holm"]))
    (small, adjusted), (large, last) = sorted(p)
    assert (adjusted, last) == pytest.approx((min(1, 2 * small), min(1, max(2 * small, large))))
    assert lines["p"].count() == 2


def test_seeds_on_one_test_set_are_tested_over_trainings_and_cases():
    """The error against its formula; what separates the arms differs between trainings and between cases."""
    draw = np.random.default_rng(3)
    cases, shifts = 40, {"ours": [0.10, 0.04, 0.07], "others": [0.02, -0.02]}
    level, harder = draw.uniform(0.4, 0.9, size=cases), 0.05 * draw.standard_normal(cases)  # for the first arm
    values = {
        arm: [level + shift + (harder if arm == "ours" else 0) for shift in of_arm] for arm, of_arm in shifts.items()
    }
    runs = {arm: [frame({f"c{n}": [value] for n, value in enumerate(run)}) for run in of] for arm, of in values.items()}
    result = contrast(runs["ours"], runs["others"])
    error = math.sqrt(
        np.var(shifts["ours"], ddof=1) / 3 + np.var(shifts["others"], ddof=1) / 2 + np.var(harder) / cases
    )
    gain = np.mean(values["ours"]) - np.mean(values["others"])
    margin = stats.t.ppf(0.975, 3) * error
    assert result[:3] == (cases, 3, 2)
    assert result.gain == pytest.approx(gain)
    assert result[4:6] == pytest.approx((gain - margin, gain + margin), abs=0.03 * margin)
    assert result.p == pytest.approx(2 * stats.t.sf(gain / error, 3), rel=0.05)


def test_only_common_cases_are_compared():
    first = [frame({"a": [0.9], "b": [0.8]}), frame({"b": [0.6], "c": [0.5]})]
    second = [frame({"b": [0.5], "c": [0.1], "d": [0.0]})]
    result = contrast(first, second)
    assert result[:3] == (2, 1, 1)
    assert result.gain == pytest.approx(((0.6 - 0.5) + (0.5 - 0.1)) / 2)


def test_cases_without_the_region_can_be_left_out(tmp_path):
    """ET, the last region, is in no case of the second run, and in one of the first."""
    first = {"a": (0.9, 0.8, 0.4), "b": (0.7, 0.6, 1.0)}
    second = {"c": (0.5, 0.7, 1.0), "d": (0.9, 0.9, 0.0)}
    for run, dice in ("first", first), ("second", second):
        evaluate(tmp_path, run, dice, present=False)
    runs = [read_scores(tmp_path / "runs" / run / "eval/evaluation", "dice_present") for run in ("first", "second")]
    expected = [((0.9 + 0.7) / 2 + (0.8 + 0.6) / 2 + 0.4) / 3, ((0.5 + 0.9) / 2 + (0.7 + 0.9) / 2) / 2]
    assert [*means(runs)] == pytest.approx(expected)
    zeros = [run * 0 for run in runs]
    assert contrast(runs, zeros).gain == pytest.approx(np.mean(expected))


def test_an_unfinished_study_has_tables_and_figures(tmp_path):
    rows = {"BSF 5%": {"run": "bsf", "baseline": "SwinU 5%"}, "SwinU 5%": {"run": "swin_unetr"}}
    tables = [{"table": 2}, {"table": 9, "columns": "subset", "note": "A note", "rows": rows}]
    study = study_of(("bsf", "swin_unetr"), tables, "subset", [0, 1])
    study["figures"] = [{"figure": 4, "rows": {"BSF": {"run": "bsf"}}}]
    for run in ("bsf/subset0", "swin_unetr/subset0", "swin_unetr/subset1"):
        evaluate(tmp_path, run, {"a": [0.8, 0.7, 0.6], "b": [0.9, 0.8, 0.7 + 0.1 * run.startswith("bsf")]})
    record = {
        "train": {"iteration": [1, 2], "loss": {"total": [3.0, 1.0]}},
        "validation": {"iteration": [2], "metrics": {"total": [1.5]}},
    }
    (tmp_path / "runs/bsf/subset0/eval/run.json").write_text(json.dumps(record))
    (tmp_path / "study.json").write_text(json.dumps(study))
    main(tmp_path)
    lines = pd.read_csv(tmp_path / "tables/table-9.csv").set_index(["row", "column"])
    assert [*lines.loc["BSF 5%", "average"][["paper", "runs_done", "runs_planned"]]] == [0.7870, 1, 2]
    assert math.isnan(lines.loc["BSF 5%", "Repeat 2"]["ours"])
    runs = pd.read_csv(tmp_path / "tables/runs.csv")
    assert [*runs["run"][:1]] == ["bsf/subset0"]
    sizes = pd.read_csv(tmp_path / "tables/table-2.csv").set_index(["row", "setting"])
    assert (sizes["paper"] == sizes["ours"])[:, "parameters"].all()
    figures = [tmp_path / f"tables/{name}.svg" for name in ("figure-4", "figure-5-table-9")]
    assert all("<svg" in figure.read_text() for figure in figures)
