"""The paper's tables and figures beside a study's scores: `python -m studies.tables OUTPUT`.

OUTPUT/study.json, written by studies/Snakefile, lists the study's runs and tables. The scores come from the metrics.csv
files that exist, so an unfinished study has tables, too.
"""

import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import bootstrap, t, ttest_1samp

from common.files import read_json
from common.inference.evaluation import FEWEST, RESAMPLES
from common.metrics.protocols import PRESENT, protocol
from scripts.evaluate.several import DIGITS, holm
from scripts.yaml_files import read_yaml

Runs = Sequence[pd.DataFrame]  # scores [cases, regions] of each run, NaN for regions that do not count
PAPER = {int(number): table for number, table in read_yaml(Path(__file__).with_name("paper.yaml")).items()}
COLUMNS = (
    *("row", "column", "metric", "unit", "quoted", "paper", "ours", "difference", "ci_low", "ci_high", "sd"),
    *("runs_done", "runs_planned", "baseline", "common_cases", "trainings", "baseline_trainings"),
    *("gain", "gain_low", "gain_high", "p", "p_holm"),
)
SHOWN = ["row", "metric", "paper", "ours", "ci_low", "ci_high", "sd", "runs_done", "runs_planned"]
SHOWN += ["baseline", "gain", "gain_low", "gain_high", "p_holm"]


def read_scores(evaluation: Path, metric: str) -> pd.DataFrame | None:
    """Read the scores [cases, regions] of metrics.csv, None without it; `dice_present` is NaN for absent regions."""
    file = evaluation / "metrics.csv"
    if not file.is_file():
        return None
    table = pd.read_csv(file, dtype={"case": str, "region": str}, keep_default_na=False, na_values={"value": [""]})
    measured = "dice" if metric == PRESENT else metric
    scores = table[table["metric"] == measured].pivot(index="case", columns="region", values="value").astype(float)
    if scores.empty:
        raise ValueError(f"{file}: no {measured}")
    if metric == PRESENT:
        for case, entry in read_json(evaluation / "cases.json")["cases"].items():
            for region in scores.columns:
                if entry["regions"][region]["volumes_mm3"][1] == 0:
                    scores.loc[case, region] = math.nan
    return scores


def means(runs: Runs) -> pd.Series:
    """Return the score of each run: the mean over the cases in which a region counts, then over the regions.

    A row of a table has their mean, as the paper averages folds and subsets, and their sample standard deviation.
    """
    return pd.Series([scores.mean().mean() for scores in runs])


def interval(runs: Runs) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean of `means`: cases are resampled, runs are not.

    Runs on the same test cases (seeds, subsets) are averaged case by case before resampling. Different test sets
    (folds) are resampled separately, as if independent even if they overlap, and weighted by their numbers of runs.
    The bounds are NaN with fewer than `FEWEST` cases, or a single case in a test set.
    """
    sets = _by_test_set(runs, {case for scores in runs for case in scores.index})
    values = [np.mean(group, axis=0) for group in sets.values()]
    weights = [len(group) / len(runs) for group in sets.values()]
    if min(map(len, sets)) < 2 or sum(map(len, sets)) < FEWEST:
        return math.nan, math.nan

    def mean(*drawn: NDArray[np.int64], axis: int = -1) -> Any:
        """Return the mean of each resample; `drawn` holds case indices [resamples, cases] for each test set."""
        parts = zip(weights, values, drawn, strict=True)
        return sum(weight * _score(of_set[:, at.astype(int)]) for weight, of_set, at in parts)

    indices = [np.arange(len(cases)) for cases in sets]
    result = bootstrap(indices, mean, n_resamples=RESAMPLES, method="percentile", batch=100, vectorized=True, rng=0)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


class Contrast(NamedTuple):
    """The comparison of two rows: common cases, runs of each row, gain with its 95 % interval, two-sided p-value."""

    common_cases: int = 0
    trainings: int = 0
    baseline_trainings: int = 0
    gain: float = math.nan
    gain_low: float = math.nan
    gain_high: float = math.nan
    p: float = math.nan


def contrast(ours: Runs, others: Runs) -> Contrast:
    """Compare two rows on the cases that both have; unknown numbers are NaN.

    With several test sets (folds), Student's t tests the mean of the sets' gains. With a single test set, Student's t
    has (runs of both rows - 2) degrees of freedom, and a bootstrap gives the standard error: the standard deviation of
    resampled gains. A sample draws all n cases with replacement, and from each row one run fewer than it has, so that
    the variance of the mean is unbiased (McCarthy and Snowden 1985, The bootstrap and finite population sampling). If
    a row has only one run, there is no test, because the effect of the seed is unknown.
    """
    cases_of = [{case for scores in runs for case in scores.dropna(how="all").index} for runs in (ours, others)]
    first, second = (_by_test_set(runs, cases_of[0] & cases_of[1]) for runs in (ours, others))
    sets = sorted(first.keys() & second.keys())
    if not sets:
        return Contrast()
    gains = [float(_score(first[cases].mean(axis=0)) - _score(second[cases].mean(axis=0))) for cases in sets]
    count, count_of_others = (sum(len(arm[cases]) for cases in sets) for arm in (first, second))
    result = Contrast(len({case for cases in sets for case in cases}), count, count_of_others, float(np.mean(gains)))
    if len(sets) > 1:
        if np.ptp(gains) < 10.0**-DIGITS:  # equal gains give no error estimate
            return result
        test = ttest_1samp(gains, 0)
        low, high = test.confidence_interval(0.95)
        return result._replace(gain_low=float(low), gain_high=float(high), p=float(test.pvalue))
    if min(count, count_of_others) < 2 or result.common_cases < FEWEST:
        return result
    error = float(np.std(_resampled_gains(first[sets[0]], second[sets[0]], np.random.default_rng(0)), ddof=1))
    if error < 10.0**-DIGITS:
        return result
    freedom = count + count_of_others - 2
    margin, p = float(t.ppf(0.975, freedom)) * error, float(2 * t.sf(abs(result.gain) / error, freedom))
    return result._replace(gain_low=result.gain - margin, gain_high=result.gain + margin, p=p)


def _by_test_set(runs: Runs, allowed: set[str]) -> dict[tuple[str, ...], NDArray[np.float64]]:
    """Return the runs' scores [runs, regions, cases] by test set, restricted to the allowed cases."""
    sets: dict[tuple[str, ...], list[NDArray[np.float64]]] = {}
    for scores in runs:
        if cases := tuple(sorted(allowed.intersection(scores.index))):
            sets.setdefault(cases, []).append(scores.loc[list(cases)].to_numpy().T)
    return {cases: np.stack(group) for cases, group in sets.items()}


def _resampled_gains(mine: NDArray[np.float64], other: NDArray[np.float64], draw: np.random.Generator) -> list[float]:
    """Return the gains of `RESAMPLES` bootstrap samples of the scores [runs, regions, cases] of two rows."""
    gains = []
    for _ in range(RESAMPLES):
        cases = draw.integers(mine.shape[-1], size=mine.shape[-1])
        ours, others = (
            _score(arm[draw.integers(len(arm), size=len(arm) - 1)][..., cases].mean(axis=0)) for arm in (mine, other)
        )
        gains.append(float(ours - others))
    return gains


def _score(values: NDArray[np.float64]) -> Any:
    """Return the mean over the cases (last axis), then over the regions (first axis), without NaN."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # a region without a case that counts
        return np.nanmean(np.nanmean(values, axis=-1), axis=0)


def runs_of(row: Mapping[str, Any], study: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the axis values of the runs that a row averages, by name: those of its entry, with its axis values."""
    fixed = {axis: value for axis, value in row.items() if axis not in ("run", "baseline", "new")}
    runs = study["runs"].items()
    return {
        name: of["values"] for name, of in runs if of["entry"] == row["run"] and fixed.items() <= of["values"].items()
    }


def table(spec: Mapping[str, Any], study: Mapping[str, Any], output: Path) -> pd.DataFrame:
    """Return a table of the paper with the study's scores: for each metric and row an average, then the columns."""
    paper, rows, axis = PAPER[spec["table"]], spec["rows"], spec.get("columns", "")
    lines: list[dict[str, Any]] = []
    for name in paper["metrics"]:
        unit = protocol(paper["protocol"]).units[name]
        measured = spec.get("metric", name) if name == "dice" else name
        scores = {
            row: {run: read_scores(output / "runs" / run / "eval/evaluation", measured) for run in runs_of(of, study)}
            for row, of in rows.items()
        }
        done = {row: [run for run in runs.values() if run is not None] for row, runs in scores.items()}
        for row in dict.fromkeys([*paper["systems"], *rows]):
            printed, runs = paper["systems"].get(row, {}), runs_of(rows[row], study) if row in rows else {}
            columns = dict(zip(paper["labels"], printed[name], strict=True)) if "average" in printed else {}
            head = {"row": row, "metric": measured, "unit": unit, "quoted": printed.get("quoted")}
            average = {"column": "average", "paper": printed.get("average" if columns else name)}
            average |= {"runs_done": len(done.get(row, ())), "runs_planned": len(runs)}
            if done.get(row):
                low, high = interval(done[row])
                average |= {"ours": means(done[row]).mean(), "sd": means(done[row]).std()}
                average |= {"ci_low": low, "ci_high": high} | _compared(row, spec, done, unit == "1")
            lines.append(head | average)
            # The n-th value of the axis `columns` belongs to the paper's n-th column
            axis_values = dict.fromkeys(values[axis] for values in runs.values() if axis)
            label_of = dict(zip(axis_values, columns, strict=False))
            for run, values in runs.items():
                label, found = label_of.get(values.get(axis), run), scores[row][run]
                ours = math.nan if found is None else means([found])[0]
                lines.append(head | {"column": label, "paper": columns.get(label), "ours": ours})
            unmatched = [label for label in columns if label not in label_of.values()]
            lines += [head | {"column": label, "paper": columns[label]} for label in unmatched]
    result = pd.DataFrame(lines, columns=COLUMNS)
    result["difference"] = result["ours"].astype(float) - result["paper"].astype(float)
    tested = result["p"].notna()
    result.loc[tested, "p_holm"] = holm(result.loc[tested, "p"].to_list())
    counts = ["runs_done", "runs_planned", "common_cases", "trainings", "baseline_trainings"]
    return result.astype(dict.fromkeys(counts, "Int64"))


def _compared(row: str, spec: Mapping[str, Any], done: Mapping[str, Runs], is_rising: bool) -> dict[str, Any]:
    """Return the test of a row against its best baseline with scores; empty for a baseline, or without any."""
    names = spec["rows"][row].get("baseline", spec.get("baseline", []))
    names = [names] if isinstance(names, str) else names
    estimates = {name: means(done[name]).mean() for name in names if done[name]}
    if row in names or not estimates:
        return {}
    best = (max if is_rising else min)(estimates, key=estimates.__getitem__)
    return {"baseline": best} | contrast(done[row], done[best])._asdict()


def encoders() -> pd.DataFrame:
    """Return Table 2: encoder settings by size, and parameters of encoder and proxy heads for a single channel."""
    from common.ssl.networks import SIZES, SSLHead  # late import: slow

    lines = []
    for row, system in PAPER[2]["systems"].items():
        network, size = SSLHead(in_channels=1, model_size=system["size"]), SIZES[system["size"]]
        ours = {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "heads": list(size.num_heads),
            "blocks": list(size.depths),
            "feature_size": size.feature_size,
            "bottleneck": network.rotation_head.in_features,
        }
        lines += [(row, key, system.get(key, PAPER[2]["shared"].get(key)), value) for key, value in ours.items()]
    return pd.DataFrame(lines, columns=["row", "setting", "paper", "ours"])


def draw_losses(file: Path, rows: Mapping[str, Any], study: Mapping[str, Any], output: Path) -> None:
    """Draw Figure 4: the total training and held-out losses of the rows' runs."""
    figure = Figure(figsize=(10, 3), layout="constrained")
    training, validation = figure.subplots(1, 2)
    for number, (row, definition) in enumerate(rows.items()):
        records = [output / "runs" / run / "eval/run.json" for run in runs_of(definition, study)]
        for record in (read_json(path) for path in records if path.is_file()):
            for axes, split, kind in (training, "train", "loss"), (validation, "validation", "metrics"):
                losses = np.array(record[split][kind]["total"], float)
                axes.plot(record[split]["iteration"], losses, color=f"C{number}", label=row)
                axes.set(xlabel="iteration", ylabel=f"{split} loss, sum of the terms")
    training.legend()
    figure.savefig(file)


def draw_few_shot(file: Path, lines: pd.DataFrame) -> None:
    """Draw Figure 5 from Table 9: means over subsets with one standard deviation; diamonds are the paper's means."""
    averages = lines[lines["column"] == "average"]
    names = averages["row"].str.rpartition(" ")  # such as BSF, 5%
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    for system, rows in averages.groupby(names[0], sort=False):
        level, (paper, ours, sd) = names[2][rows.index], rows[["paper", "ours", "sd"]].astype(float).to_numpy().T
        axes.errorbar(level, ours, sd, fmt="o", capsize=3, label=system)
        axes.plot(level, paper, "kD", markersize=4)
    axes.set(ylabel="Dice", xlabel="training cases")
    axes.legend()
    figure.savefig(file)


def main(output: Path) -> None:
    """Write OUTPUT/tables: a CSV file for each table, runs.csv, the figures, and tables.txt with all tables."""
    study, folder = read_json(output / "study.json"), output / "tables"
    folder.mkdir(exist_ok=True)
    text: list[str] = [study["title"]]
    frames: dict[str, pd.DataFrame] = {}
    for spec in study["tables"]:
        number = spec["table"]
        count = sum(name.startswith(f"table-{number}") for name in frames)
        name = f"table-{number}-{count + 1}" if count else f"table-{number}"
        frames[name] = lines = encoders() if number == 2 else table(spec, study, output)
        shown = lines if number == 2 else lines.loc[lines["column"] == "average", SHOWN]
        remarks = [f"in the paper: {remark}" for remark in PAPER[number]["inconsistent"]]
        text += ["", f"{name}: {PAPER[number]['title']}", *filter(None, [spec.get("note")]), _text(shown), *remarks]
        if number == 9 and spec["rows"].keys() & PAPER[9]["systems"].keys():
            draw_few_shot(folder / f"figure-5-{name}.svg", lines)
    for spec in study["figures"]:
        draw_losses(folder / "figure-4.svg", spec["rows"], study, output)
    runs = pd.DataFrame([{"run": name, **run["values"]} for name, run in study["runs"].items()])
    scores = [read_scores(output / "runs" / name / "eval/evaluation", "dice") for name in runs["run"]]
    runs["dice"] = [math.nan if of_run is None else means([of_run])[0] for of_run in scores]
    frames["runs"] = runs.sort_values("dice", ascending=False)
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    (folder / "tables.txt").write_text("\n".join([*text, "", _text(frames["runs"]), ""]), encoding="utf-8")


def _text(frame: pd.DataFrame) -> str:
    return frame.to_string(index=False, na_rep="-", float_format="{:.4f}".format)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
