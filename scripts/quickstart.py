"""Run the complete workflow at a small scale on the embedded cohort: `make quickstart`.

Runs the study `quickstart`, two branches of three training stages, with the commands that users run; writes
`summary.json` and `report.html`.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import cli
from common.data.regions import display_order
from common.errors import check_number, show
from common.files import check_writable_folder, expand_home, move_aside, reporting_path_errors, write_json
from scripts.experiments.engine import launcher, open_study, run_jobs, select
from scripts.experiments.jobs import Places
from scripts.experiments.study import read

ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore"}  # waiting threads yield their cores
# Jobs and how many run at once: the cohort of the first picture, then the others; stage 1 on all cores; then two
# branches on half of the cores each, because the threads of a single process wait for each other
STEPS = ((("brats",), 1), (("look", "ukb", "atlas"), 3), (("ukb_ssl_pretrain",), 1), (("*",), 2))
MIN_DICE = {"brats_finetune": 0.75, "atlas_finetune": 0.65}  # mean over held-out subjects, of every region
MAX_LOSS_RATIO = 0.95  # last to first loss, on held-out crops (fine-tuning: training crops)


def quickstart(*, output: str = "runs/quickstart", spacing: float = 2.0, seed: int = 0) -> None:
    """Run all stages small on the embedded cohort, evaluate them and write OUTPUT/report.html.

    Args:
        output: folder for all files; an existing one is renamed, not overwritten.
        spacing: voxel size of the cohort in mm, 1 to 4.
        seed: of the cohort and its splits.

    The exit status is 1 if a Dice or a loss misses its threshold; the duration does not matter.
    """
    start = time.time()
    check_number("spacing", spacing, float, 1, 4)
    check_number("seed", seed, int, 0, 2**32 - 1)
    folder = expand_home(output, f"--output={output}").resolve()
    check_writable_folder(folder, f"--output={output}")
    with reporting_path_errors(f"--output={output}"):
        move_aside(folder)
        folder.mkdir(parents=True)
    os.environ.update(ENVIRONMENT)
    _, study = read("quickstart")
    for options in study["cohorts"].values():
        options |= {"spacing": spacing, "seed": seed}
    for entry in study["datalists"].values():
        entry["options"] |= {"seed": seed}
    places = Places(folder)
    for patterns, at_once in STEPS:
        opened = open_study(study, places)
        jobs, wanted = opened.jobs, [name for pattern in patterns for name in select(opened, pattern)]
        show("", *(f"$ {jobs[name].command}" for name in wanted))
        ended = run_jobs(opened, wanted, launcher(places, at_once), at_once)
        if any(state.name != "done" for state in ended.values()):
            raise SystemExit(1)
        if "look" in wanted:
            show(f"Look at {jobs['look'].target} while the networks train")
    first_picture = jobs["look"].target.stat().st_mtime - start
    times = {"seconds": round(time.time() - start, 1), "seconds_to_first_picture": round(first_picture, 1)}
    summary = times | summarise(folder / "runs")
    write_json(folder / "summary.json", summary)
    from scripts.report.__main__ import report  # late import: `--help` stays fast

    report(str(folder))
    show(*conclusion(summary, folder / "runs").splitlines())
    if missed := shortfalls(summary):
        show(*(f"missed threshold: {line}" for line in missed), error=True)
        raise SystemExit(1)


def summarise(runs: Path) -> dict[str, Any]:
    """Summarise the records of all stages, the content of `summary.json`.

    Losses are [first, last] on held-out crops (fine-tuning: on training crops); `scores` are mean held-out Dice,
    `present` over subjects that have the region.
    """
    bundles = [name for name, entry in read("quickstart")[1]["runs"].items() if "bundle" in entry]
    trainings = {name: _json(runs / name / "eval" / "run.json") for name in bundles}
    evaluations = {name: _json(runs / name / "eval" / "evaluation" / "run.json")["scores"] for name in MIN_DICE}
    summaries = {name: _json(runs / name / "eval" / "evaluation" / "summary.json") for name in MIN_DICE}
    return {
        "stages": {name: _summarise_training(record) for name, record in trainings.items()},
        "scores": {name: _by_region(scores["mean"]) for name, scores in evaluations.items()},
        "present": {
            name: {
                region: {"mean": mean, "n": scores["n_present"][region]}
                for region, mean in _by_region(scores["mean_present"]).items()
            }
            for name, scores in evaluations.items()
        },
        "metrics": {
            name: {
                region: {metric: figures["mean"] for metric, figures in metrics.items()}
                for region, metrics in summary["regions"].items()
            }
            for name, summary in summaries.items()
        },
    }


def _by_region(means: Mapping[str, Any]) -> dict[str, Any]:
    return {region: means[region] for region in display_order(means)}


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _summarise_training(record: Mapping[str, Any]) -> dict[str, Any]:
    held_out = record["validation"]["metrics"]
    curves = held_out if "total" in held_out else record["train"]["loss"]
    return {
        "seconds": record["seconds"],
        "peak_memory_gib": record["peak_memory_gib"],
        "loss": {term: [values[0], values[-1]] for term, values in curves.items()},
        "weights": {kind: record["weights"][kind] for kind in ("matched", "changed", "missing", "unexpected")},
    }


def shortfalls(summary: Mapping[str, Any]) -> list[str]:
    """Missed thresholds, one line each."""
    lines = [
        f"{bundle}: mean Dice of {region} is {score:.3f}, expected at least {MIN_DICE[bundle]:.2f}"
        for bundle, scores in summary["scores"].items()
        for region, score in scores.items()
        if not score >= MIN_DICE[bundle]
    ]
    for bundle, stage in summary["stages"].items():
        first, last = map(sum, zip(*_learnable(stage["loss"]).values(), strict=True))
        if not last < MAX_LOSS_RATIO * first:
            terms = " + ".join(_learnable(stage["loss"]))
            lines.append(
                f"{bundle}: {terms} went from {first:.3f} to {last:.3f}, expected below {MAX_LOSS_RATIO} of the first"
            )
    return lines


def _learnable(loss: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """The loss terms that a training of this length must lower.

    The contrastive term is left out: it is measured against two negatives, on crops of four held-out subjects.
    """
    return {term: loss[term] for term in loss if term not in ("total", "contrastive")} or {"total": loss["total"]}


def conclusion(summary: Mapping[str, Any], runs: Path) -> str:
    """The final text of the quick start; `summary` also needs its `seconds`."""
    lines = [
        f"\nquick start: {summary['seconds'] / 60:.1f} min; mean Dice on held-out subjects of the embedded cohort,"
    ]
    lines.append("all subjects (only those that have the region, and their number):")
    for bundle, scores in summary["scores"].items():
        present = {region: _present(**found) for region, found in summary["present"][bundle].items()}
        shown = "  ".join(f"{region} {score:.3f} ({present[region]})" for region, score in scores.items())
        lines.append(f"  {bundle:<16} {shown}")
    lines.append("This proves that the software works; it proves nothing about patients.")
    pages = [runs / bundle / "eval" / "evaluation" / "evaluation.html" for bundle in summary["scores"]]
    lines += [f"Look at {page}" for page in (runs.parent / "report.html", *pages)]
    return "\n".join(lines)


def _present(mean: float | None, n: int) -> str:
    return f"{mean:.3f}, {n}" if n else "none"


if __name__ == "__main__":
    cli.run(quickstart, "quickstart")
