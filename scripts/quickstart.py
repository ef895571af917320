"""Run the complete workflow at a small scale on the embedded cohort: `make quickstart`."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import cli
from common.errors import show
from common.files import check_writable_folder, expand_home, move_aside, read_json, reporting_path_errors, write_json
from scripts.experiments.engine import open_study, run_jobs, select
from scripts.experiments.jobs import Places
from scripts.experiments.study import read

ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore"}  # waiting threads yield their cores
# Job patterns, and the number of jobs at once. Both branches run side by side on half of the cores each, because the
# threads of a single process wait for each other
STEPS = ((("brats",), 1), (("look", "ukb", "atlas"), 3), (("ukb_ssl_pretrain",), 1), (("*",), 2))
MIN_DICE = {"brats_finetune": 0.75, "atlas_finetune": 0.65}  # mean over held-out subjects, of every region
MAX_LOSS_RATIO = 0.95  # last to first loss, on held-out crops (fine-tuning: training crops)


def quickstart(*, output: str = "runs/quickstart") -> None:
    """Run the study `quickstart`, all stages on the embedded cohort; write OUTPUT/summary.json and OUTPUT/report.html.

    Args:
        output: folder for all files; an existing folder is renamed, not overwritten.

    The exit status is 1 if a job fails, or if a Dice or a loss misses its threshold.
    """
    start = time.time()
    folder = expand_home(output, f"--output={output}").resolve()
    check_writable_folder(folder, f"--output={output}")
    with reporting_path_errors(f"--output={output}"):
        move_aside(folder)
        folder.mkdir(parents=True)
    os.environ.update(ENVIRONMENT)
    _, study = read("quickstart")
    places = Places(folder)
    for patterns, at_once in STEPS:
        opened = open_study(study, places)
        jobs, wanted = opened.jobs, [name for pattern in patterns for name in select(opened, pattern)]
        show("", *(f"$ {jobs[name].command}" for name in wanted))
        ended = run_jobs(opened, wanted, at_once)
        if any(state.name != "done" for state in ended.values()):
            raise SystemExit(1)
        if "look" in wanted:
            show(f"Look at {jobs['look'].target} while the networks train")
    summary = {"seconds": round(time.time() - start, 1)} | summarise(folder / "runs")
    write_json(folder / "summary.json", summary)
    from scripts.report import report  # late import: `--help` stays fast

    report(str(folder))
    show(*conclusion(summary, folder / "runs").splitlines())
    if missed := shortfalls(summary):
        show(*(f"missed threshold: {line}" for line in missed), error=True)
        raise SystemExit(1)


def summarise(runs: Path) -> dict[str, Any]:
    """Return losses and scores for `summary.json`, from the records of all stages.

    `losses` are [first, last] by bundle and term, on held-out crops (fine-tuning: on training crops). `scores` are mean
    held-out Dice by bundle and region, over all subjects (`dice`) and over the `n` subjects with the region
    (`present`).
    """
    bundles = [name for name, entry in read("quickstart")[1]["runs"].items() if "bundle" in entry]
    scores = {}
    for name in MIN_DICE:
        regions = read_json(runs / name / "eval" / "evaluation" / "summary.json")["regions"]
        scores[name] = {
            region: {
                "dice": figures["dice"]["mean"],
                "present": figures["dice_present"]["mean"],
                "n": figures["dice_present"]["n"],
            }
            for region, figures in regions.items()
        }
    return {
        "losses": {name: _losses(read_json(runs / name / "eval" / "run.json")) for name in bundles},
        "scores": scores,
    }


def _losses(record: Mapping[str, Any]) -> dict[str, list[float]]:
    held_out, trained = record["validation"]["metrics"], record["train"]["loss"]
    curves = held_out if "total" in held_out else trained
    return {term: [curves[term][0], curves[term][-1]] for term in trained}


def shortfalls(summary: Mapping[str, Any]) -> list[str]:
    """Return the missed thresholds, one line each.

    Pretraining is judged by the sum of its loss terms. The contrastive term is left out, because it has only two
    negatives, on crops of four held-out subjects.
    """
    lines = [
        f"{bundle}: mean Dice of {region} is {score['dice']:.3f}, expected at least {MIN_DICE[bundle]:.2f}"
        for bundle, scores in summary["scores"].items()
        for region, score in scores.items()
        if not score["dice"] >= MIN_DICE[bundle]
    ]
    for bundle, losses in summary["losses"].items():
        terms = [term for term in losses if term not in ("total", "contrastive")] or ["total"]
        first, last = (sum(losses[term][index] for term in terms) for index in (0, 1))
        if not last < MAX_LOSS_RATIO * first:
            change = f"{' + '.join(terms)} went from {first:.3f} to {last:.3f}"
            lines.append(f"{bundle}: {change}, expected below {MAX_LOSS_RATIO} of the first")
    return lines


def conclusion(summary: Mapping[str, Any], runs: Path) -> str:
    """Return the final text of the quick start; `summary` is the content of summary.json."""
    lines = [
        f"\nquick start: {summary['seconds'] / 60:.1f} min; mean Dice on held-out subjects of the embedded cohort,",
        "all subjects (only those that have the region, and their number):",
    ]
    for bundle, scores in summary["scores"].items():
        shown = "  ".join(
            f"{region} {score['dice']:.3f} " + (f"({score['present']:.3f}, {score['n']})" if score["n"] else "(none)")
            for region, score in scores.items()
        )
        lines.append(f"  {bundle:<16} {shown}")
    lines.append("This proves that the software works; it proves nothing about patients.")
    pages = [runs / bundle / "eval" / "evaluation" / "evaluation.html" for bundle in summary["scores"]]
    lines += [f"Look at {page}" for page in (runs.parent / "report.html", *pages)]
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(quickstart, "quickstart")
