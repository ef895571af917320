"""The complete workflow at a small scale, on the embedded cohort, with a user's own commands: `make quickstart`.

Two branches of three training stages, evaluation on held-out subjects, `summary.json` and `report.html`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from common import cli
from common.data.regions import display_order
from common.errors import check_number, show
from common.files import check_writable_folder, expand_home, move_aside, reporting_path_errors, write_json

__all__ = ["conclusion", "quickstart", "shortfalls", "summarise"]

ROOT = Path(__file__).resolve().parent.parent


class Cohort(NamedTuple):
    """The number of skull-stripped subjects to make in a layout, and of those to hold out."""

    subjects: int
    validation: int
    testing: int


class Stage(NamedTuple):
    """The cohort that a bundle trains on, the bundle whose weights it starts from, and whether it is evaluated."""

    cohort: str
    source: str | None
    is_evaluated: bool = False


COHORTS = {"ukb": Cohort(20, 4, 0), "brats": Cohort(36, 4, 8), "atlas": Cohort(40, 6, 8)}
STAGES = {
    "ukb_ssl_pretrain": Stage("ukb", None),
    "brats_stage2": Stage("brats", "ukb_ssl_pretrain"),
    "brats_finetune": Stage("brats", "brats_stage2", is_evaluated=True),
    "atlas_stage2": Stage("atlas", "ukb_ssl_pretrain"),
    "atlas_finetune": Stage("atlas", "atlas_stage2", is_evaluated=True),
}
BRANCHES = (("brats_stage2", "brats_finetune"), ("atlas_stage2", "atlas_finetune"))  # both start from stage 1
TRAINING = "['configs/train.yaml','configs/quickstart.yaml']"
ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore"}  # waiting threads yield their cores
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
    start = time.monotonic()
    check_number("spacing", spacing, float, 1, 4)
    check_number("seed", seed, int, 0, 2**32 - 1)
    folder = expand_home(output, f"--output={output}").resolve()
    check_writable_folder(folder, f"--output={output}")
    with reporting_path_errors(f"--output={output}"):
        move_aside(folder)
        folder.mkdir(parents=True)
    _make(folder, "brats", spacing, seed)
    with ThreadPoolExecutor() as executor:
        others = [executor.submit(_make, folder, name, spacing, seed, f"{name:<16} | ") for name in ("ukb", "atlas")]
        _check(folder, "brats")
        first_picture = time.monotonic() - start
    for other in others:
        other.result()
    cores = os.cpu_count() or 1
    _train_and_evaluate(folder, ["ukb_ssl_pretrain"], threads=cores)
    # Threads of one process wait for each other: two branches in parallel use the cores better, half of them each
    with ThreadPoolExecutor(len(BRANCHES)) as executor:
        branches = [executor.submit(_train_and_evaluate, folder, names, max(1, cores // 2)) for names in BRANCHES]
    for branch in branches:
        branch.result()
    times = {"seconds": round(time.monotonic() - start, 1), "seconds_to_first_picture": round(first_picture, 1)}
    summary = times | summarise(folder)
    write_json(folder / "summary.json", summary)
    _run(["-m", "scripts.report", str(folder)], ROOT)
    show(*conclusion(summary, folder).splitlines())
    if missed := shortfalls(summary):
        show(*(f"missed threshold: {line}" for line in missed), error=True)
        raise SystemExit(1)


def _make(folder: Path, name: str, spacing: float, seed: int, label: str = "") -> None:
    root, cohort = folder / "data" / name, COHORTS[name]
    options = [f"--subjects={cohort.subjects}", f"--spacing={spacing:g}", "--skull_stripped=true", f"--seed={seed}"]
    make = ["-m", "scripts.phantoms", "make", f"--layout={name}", f"--output={root}", *options]
    _run(make, ROOT, label=label)
    splits = [f"--validation={cohort.validation}", f"--testing={cohort.testing}", f"--seed={seed}"]
    datalist = ["-m", "scripts.datalists", name, f"--root={root}", f"--output={root}.json", *splits]
    _run(datalist, ROOT, label=label)


def _check(folder: Path, name: str) -> None:
    root = folder / "data" / name
    _run(["-m", "scripts.datalists", "check", f"{root}.json", str(root), f"--output={root}_check"], ROOT)
    show(f"Look at {root}_check/findings.html while the networks train")


def _train_and_evaluate(folder: Path, bundles: Sequence[str], threads: int) -> None:
    for bundle in bundles:
        stage = STAGES[bundle]
        runs = os.path.relpath(folder, ROOT / "bundles" / bundle)  # relative, as a user would type it
        data = [f"--dataset_dir={runs}/data/{stage.cohort}", f"--datalist={runs}/data/{stage.cohort}.json"]
        source = [f"--pretrained={runs}/{stage.source}/models/model.pt"] if stage.source else []
        places = [f"--output_dir={runs}/{bundle}", f"--ckpt_dir={runs}/{bundle}/models"]
        _run_bundle(bundle, [f"--config_file={TRAINING}", *data, *source, *places], threads)
        if stage.is_evaluated:
            options = [f"--checkpoint={runs}/{bundle}/models/model.pt", "--num_workers=0", "--cohort=embedded"]
            places = [f"--output_dir={runs}/{bundle}/evaluation"]
            _run_bundle(bundle, ["--config_file=configs/evaluate.yaml", *data, *options, *places], threads)


def _run_bundle(bundle: str, options: Sequence[str], threads: int) -> None:
    _run(["-m", "monai.bundle", "run", *options], ROOT / "bundles" / bundle, threads, label=f"{bundle:<16} | ")


def _run(arguments: Sequence[str], place: Path, threads: int | None = None, label: str = "") -> None:
    """Print and run a command, with `label` before each line of its output; exit with its status if it fails."""
    shown = cli.command_line(["python", *arguments])
    show("", f"$ {shown}" if place == ROOT else f"$ cd {place.relative_to(ROOT)} && {shown}")
    environment = os.environ | ENVIRONMENT | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    command = [sys.executable, *arguments]
    out, err = (subprocess.PIPE, subprocess.STDOUT) if label else (None, None)
    with subprocess.Popen(command, cwd=place, env=environment, stdout=out, stderr=err, text=True) as process:
        for line in process.stdout or ():  # carriage returns of a progress bar end lines too
            if line.strip():
                show(label + line.rstrip())
    if process.returncode:
        raise SystemExit(process.returncode)


def summarise(folder: Path) -> dict[str, Any]:
    """Summarise the records of all stages, as `summary.json` holds them.

    Args:
        folder: the output folder, which has a folder for each bundle.

    Returns:
        {"stages": {bundle: {"seconds", "peak_memory_gib", "loss": {term: [first, last]} on held-out crops (fine-tuning:
        on training crops), "weights": counts}}, "scores": {bundle: {region: mean held-out Dice}},
        "present": {bundle: {region: {"mean", "n"}}} of the subjects that have the region, "metrics": {bundle: {region:
        {metric: mean}}} for all metrics of the protocols}.
    """
    trainings = {bundle: _record(folder / bundle) for bundle in STAGES}
    evaluated = [name for name, stage in STAGES.items() if stage.is_evaluated]
    evaluations = {name: _record(folder / name / "evaluation") for name in evaluated}
    summaries = {name: json.loads((folder / name / "evaluation" / "summary.json").read_text()) for name in evaluated}
    return {
        "stages": {bundle: _summarise_training(record) for bundle, record in trainings.items()},
        "scores": {bundle: _by_region(record["scores"]["mean"]) for bundle, record in evaluations.items()},
        "present": {
            bundle: {
                region: {"mean": mean, "n": record["scores"]["n_present"][region]}
                for region, mean in _by_region(record["scores"]["mean_present"]).items()
            }
            for bundle, record in evaluations.items()
        },
        "metrics": {
            bundle: {
                region: {metric: figures["mean"] for metric, figures in metrics.items()}
                for region, metrics in summary["regions"].items()
            }
            for bundle, summary in summaries.items()
        },
    }


def _by_region(means: Mapping[str, Any]) -> dict[str, Any]:
    return {region: means[region] for region in display_order(means)}


def _record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


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
    """The thresholds that a quick start missed, one line each.

    Args:
        summary: as `summarise` returns it.
    """
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
    """The loss terms that such a short training must lower.

    The contrastive term need not fall: it is measured against two negatives, on crops of four held-out subjects.
    """
    return {term: loss[term] for term in loss if term not in ("total", "contrastive")} or {"total": loss["total"]}


def conclusion(summary: Mapping[str, Any], folder: Path) -> str:
    """What the quick start prints at its end.

    Args:
        summary: as `summarise` returns it, with the `seconds` that the quick start took.
        folder: the output folder.
    """
    lines = [
        f"\nquick start: {summary['seconds'] / 60:.1f} min; mean Dice on held-out subjects of the embedded cohort,"
    ]
    lines.append("all subjects (only those that have the region, and their number):")
    for bundle, scores in summary["scores"].items():
        present = {region: _present(**found) for region, found in summary["present"][bundle].items()}
        shown = "  ".join(f"{region} {score:.3f} ({present[region]})" for region, score in scores.items())
        lines.append(f"  {bundle:<16} {shown}")
    lines.append("This proves that the software works; it proves nothing about patients.")
    pages = [folder / bundle / "evaluation" / "evaluation.html" for bundle in summary["scores"]]
    lines += [f"Look at {page}" for page in (folder / "report.html", *pages)]
    return "\n".join(lines)


def _present(mean: float | None, n: int) -> str:
    return f"{mean:.3f}, {n}" if n else "none"


if __name__ == "__main__":
    cli.run(quickstart, "quickstart")
