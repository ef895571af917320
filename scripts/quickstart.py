"""Run the complete workflow at a small scale on the embedded cohort: `make quickstart`."""

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.errors import show
from common.files import move_aside, read_json, write_json
from scripts import cli
from scripts.cli import run_step
from scripts.report import report

COHORTS = {"brats": (24, 2, 6), "ukb": (12, 2, 0), "atlas": (24, 3, 6)}  # subjects; of them validation, testing
MIN_DICE = {"brats_finetune": 0.75, "atlas_finetune": 0.65}  # mean over held-out subjects, of every region
ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore"}  # waiting threads yield their cores


def quickstart(*, output: str = "runs/quickstart") -> None:
    """Run all stages on the embedded cohort; status 1 if a command fails, or if a Dice misses its threshold.

    Args:
        output: folder for all files; an existing folder is renamed, not overwritten.
    """
    start, folder = time.time(), Path(output).expanduser().resolve()
    move_aside(folder)
    cores = os.cpu_count() or 1
    half = max(1, cores // 2)  # two commands at a time, as the threads of a process wait for each other
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda cohort: make(folder, cohort, half), COHORTS))
        data = (f"{folder}/datalists/brats.json", f"{folder}/cohorts/brats")
        run(folder, "check", cores, "scripts.datalists", "check", *data)
        train(folder, "ukb_ssl_pretrain", None, cores)
        list(pool.map(lambda cohort: fine_tune(folder, cohort, half), ("brats", "atlas")))
    scores, seconds = summarise(folder / "runs"), round(time.time() - start, 1)
    write_json(folder / "summary.json", {"seconds": seconds, "scores": scores})
    report(str(folder))
    show("", f"quick start: {seconds / 60:.1f} min; mean Dice on held-out subjects of the embedded cohort:")
    for bundle, regions in scores.items():
        show(f"  {bundle:<16} " + "  ".join(f"{region} {dice:.3f}" for region, dice in regions.items()))
    show("This proves that the software works; it proves nothing about patients.", f"Look at {folder / 'report.html'}")
    if missed := shortfalls(scores):
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


def train(folder: Path, bundle: str, pretrained: str | None, threads: int) -> None:
    """Train a stage, and score a fine-tuned network."""
    cohort, stage = bundle.partition("_")[0], folder / "runs" / bundle
    data = (f"--dataset_dir={folder}/cohorts/{cohort}", f"--datalist={folder}/datalists/{cohort}.json")
    words = [*data, f"--output_dir={stage}/eval", f"--ckpt_dir={stage}/models"]
    words += [f"--pretrained={folder}/runs/{pretrained}/models/model.pt"] if pretrained else []
    run(folder, bundle, threads, "scripts.run", bundle, "train", "quickstart", *words)
    if bundle in MIN_DICE:  # in float32, so that scores are the same on every processor
        words = [*data, f"--checkpoint={stage}/models/model.pt", f"--output_dir={stage}/eval/evaluation", "--amp=false"]
        run(folder, bundle, threads, "scripts.run", bundle, "evaluate", "--num_workers=0", *words)


def fine_tune(folder: Path, cohort: str, threads: int) -> None:
    """Train stages 2 and 3 of a cohort."""
    train(folder, f"{cohort}_stage2", "ukb_ssl_pretrain", threads)
    train(folder, f"{cohort}_finetune", f"{cohort}_stage2", threads)


def summarise(runs: Path) -> dict[str, dict[str, float]]:
    """Return the mean held-out Dice by bundle and region."""
    regions = {bundle: read_json(runs / bundle / "eval/evaluation/summary.json")["regions"] for bundle in MIN_DICE}
    return {bundle: {name: row["dice"]["mean"] for name, row in rows.items()} for bundle, rows in regions.items()}


def shortfalls(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the missed thresholds, one line each."""
    return [
        f"{bundle}: mean Dice of {region} {dice:.3f}"
        for bundle, regions in scores.items()
        for region, dice in regions.items()
        if not dice >= MIN_DICE[bundle]
    ]


if __name__ == "__main__":
    cli.run(quickstart, "quickstart")
