"""Run the complete workflow at a small scale on the embedded cohort: `make quickstart`."""

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common.errors import show
from common.files import move_aside, read_json, write_json
from scripts import cli
from scripts.report import report
from scripts.steps import run_step

COHORTS = {"brats": (36, 4, 8), "ukb": (20, 4, 0), "atlas": (40, 6, 8)}  # subjects; of them validation, testing
STAGES = ("ukb_ssl_pretrain", "brats_stage2", "atlas_stage2", "brats_finetune", "atlas_finetune")
MIN_DICE = {"brats_finetune": 0.75, "atlas_finetune": 0.65}  # mean over held-out subjects, of every region
MAX_LOSS_RATIO = 0.95  # last to first loss, on held-out crops (fine-tuning: training crops)
ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore"}  # waiting threads yield their cores


def quickstart(*, output: str = "runs/quickstart") -> None:
    """Run all stages on the embedded cohort; status 1 if a command fails, or if a Dice or a loss misses its threshold.

    Args:
        output: folder for all files; an existing folder is renamed, not overwritten.
    """
    start = time.time()
    folder = Path(output).expanduser().resolve()
    move_aside(folder)
    folder.mkdir(parents=True)
    cores = os.cpu_count() or 1
    half = max(1, cores // 2)  # two commands at a time, as the threads of a process wait for each other
    make(folder, "brats", cores)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda cohort: make(folder, cohort, half), ("ukb", "atlas")))
        data = (f"{folder}/datalists/brats.json", f"{folder}/cohorts/brats")
        run(folder, "check", cores, "scripts.datalists", "check", *data)
        train(folder, "ukb", "ukb_ssl_pretrain", None, cores)
        list(pool.map(lambda cohort: fine_tune(folder, cohort, half), ("brats", "atlas")))
    summary = {"seconds": round(time.time() - start, 1)} | summarise(folder / "runs")
    write_json(folder / "summary.json", summary)
    report(str(folder))
    show("", f"quick start: {summary['seconds'] / 60:.1f} min; mean Dice on held-out subjects of the embedded cohort:")
    for bundle, scores in summary["scores"].items():
        show(f"  {bundle:<16} " + "  ".join(f"{region} {dice:.3f}" for region, dice in scores.items()))
    show("This proves that the software works; it proves nothing about patients.", f"Look at {folder / 'report.html'}")
    if missed := shortfalls(summary):
        show(*(f"missed threshold: {line}" for line in missed), error=True)
        raise SystemExit(1)


def run(folder: Path, name: str, threads: int, *command: object) -> None:
    """Run a command with its output in FOLDER/logs/NAME.log."""
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, **ENVIRONMENT}
    run_step(command, log=folder / f"logs/{name}.log", environment=environment)


def make(folder: Path, cohort: str, threads: int) -> None:
    """Compute a cohort and its datalist."""
    (subjects, validation, testing), data = COHORTS[cohort], folder / "cohorts" / cohort
    made = (f"--subjects={subjects}", "--spacing=2", "--skull_stripped=true", "--seed=0", f"--output={data}")
    run(folder, cohort, threads, "scripts.phantoms", "make", f"--layout={cohort}", *made)
    splits = (f"--validation={validation}", f"--testing={testing}", "--seed=0")
    datalist = f"--output={folder}/datalists/{cohort}.json"
    run(folder, cohort, threads, "scripts.datalists", cohort, f"--root={data}", *splits, datalist)


def train(folder: Path, cohort: str, bundle: str, pretrained: str | None, threads: int) -> None:
    """Train a stage, and score a fine-tuned network."""
    data = (f"--dataset_dir={folder}/cohorts/{cohort}", f"--datalist={folder}/datalists/{cohort}.json")
    models, results = f"{folder}/runs/{bundle}/models", f"{folder}/runs/{bundle}/eval"
    words = [*data, f"--output_dir={results}", f"--ckpt_dir={models}"]
    words += [f"--pretrained={folder}/runs/{pretrained}/models/model.pt"] if pretrained else []
    run(folder, bundle, threads, "scripts.run", bundle, "train", "quickstart", *words)
    if bundle in MIN_DICE:  # in float32, so that scores are the same on every processor
        words = [*data, f"--checkpoint={models}/model.pt", f"--output_dir={results}/evaluation", "--amp=false"]
        run(folder, bundle, threads, "scripts.run", bundle, "evaluate", "--num_workers=0", *words)


def fine_tune(folder: Path, cohort: str, threads: int) -> None:
    """Train stages 2 and 3 of a cohort."""
    train(folder, cohort, f"{cohort}_stage2", "ukb_ssl_pretrain", threads)
    train(folder, cohort, f"{cohort}_finetune", f"{cohort}_stage2", threads)


def summarise(runs: Path) -> dict[str, Any]:
    """Return the first and last losses by bundle and term, and the mean held-out Dice by bundle and region."""
    losses, scores = {}, {}
    for bundle in STAGES:
        record = read_json(runs / bundle / "eval/run.json")
        held_out, trained = record["validation"]["metrics"], record["train"]["loss"]
        curves = held_out if "total" in held_out else trained
        losses[bundle] = {term: [curves[term][0], curves[term][-1]] for term in trained}
    for bundle in MIN_DICE:
        regions = read_json(runs / bundle / "eval/evaluation/summary.json")["regions"]
        scores[bundle] = {region: figures["dice"]["mean"] for region, figures in regions.items()}
    return {"losses": losses, "scores": scores}


def shortfalls(summary: Mapping[str, Any]) -> list[str]:
    """Return the missed thresholds, one line each; the contrastive loss has only two negatives, and does not count."""
    lines = []
    for bundle, scores in summary["scores"].items():
        missed = [f"{region} {dice:.3f}" for region, dice in scores.items() if not dice >= MIN_DICE[bundle]]
        lines += [f"{bundle}: mean Dice of {score}" for score in missed]
    for bundle, losses in summary["losses"].items():
        terms = [term for term in losses if term not in ("total", "contrastive")] or ["total"]
        first, last = (sum(losses[term][index] for term in terms) for index in (0, 1))
        if not last < MAX_LOSS_RATIO * first:
            lines.append(f"{bundle}: {' + '.join(terms)} went from {first:.3f} to {last:.3f}")
    return lines


if __name__ == "__main__":
    cli.run(quickstart, "quickstart")
