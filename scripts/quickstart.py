"""`make quickstart`: the whole programme small, on the embedded cohort, with the commands that a user would type.

Three training stages on each of two branches, evaluation on held-out subjects, `summary.json` and `report.html`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from common.files import whole
from common.records import command_line
from scripts import cli

__all__ = ["quickstart", "shortfalls", "summarise"]

ROOT = Path(__file__).resolve().parent.parent


class Cohort(NamedTuple):
    """How many subjects of a layout are made, all without skull, and how many of them are held out."""

    subjects: int
    validation: int
    testing: int


class Stage(NamedTuple):
    """A bundle, the cohort that it trains on, the stage whose weights it starts from, and how it is evaluated."""

    cohort: str
    source: str | None
    protocol: str | None = None  # of the evaluation, where there is one


COHORTS = {"ukb": Cohort(20, 4, 0), "brats": Cohort(36, 4, 8), "atlas": Cohort(40, 6, 8)}
STAGES = {
    "ukb_ssl_pretrain": Stage("ukb", None),
    "brats_stage2": Stage("brats", "ukb_ssl_pretrain"),
    "brats_finetune": Stage("brats", "brats_stage2", protocol="brats"),
    "atlas_stage2": Stage("atlas", "ukb_ssl_pretrain"),
    "atlas_finetune": Stage("atlas", "atlas_stage2", protocol="atlas"),
}
BRANCHES = (("brats_stage2", "brats_finetune"), ("atlas_stage2", "atlas_finetune"))  # each needs stage 1 alone
TRAINING = "['configs/train.yaml','configs/quickstart.yaml']"
ENVIRONMENT = {  # of the processes, on a Linux CPU
    "OMP_WAIT_POLICY": "PASSIVE",  # a thread that waits gives its core to other work
    "THP_MEM_ALLOC_ENABLE": "1",  # big pages, and (below) memory that is kept from step to step; docs/benchmarks.md
    "MALLOC_MMAP_THRESHOLD_": str(2**32),  # bytes
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "PYTHONWARNINGS": "ignore",
}
LEAST_DICE = {"brats_finetune": 0.80, "atlas_finetune": 0.65}  # of every region, on held-out subjects
MOST_SECONDS = 15 * 60


def quickstart(output: str = "runs/quickstart", spacing: float = 2.0, seed: int = 0) -> None:
    """Run all stages small on the embedded cohort, evaluate them and write OUTPUT/report.html.

    Args:
        output: the folder that gets everything; one that is there already is renamed, not overwritten.
        spacing: voxel size of the cohort in mm, 1 to 4.
        seed: of the cohort and its splits.
    """
    start = time.monotonic()
    folder = Path(output).resolve()
    _move_aside(folder)
    for name, cohort in COHORTS.items():
        _make(folder, name, cohort, spacing, seed)
    cores = os.cpu_count() or 1
    _train_and_evaluate(folder, ["ukb_ssl_pretrain"], threads=cores)
    # One thread a process leaves no core waiting for another: two branches side by side, each on half of the cores
    with ThreadPoolExecutor(len(BRANCHES)) as executor:
        branches = [executor.submit(_train_and_evaluate, folder, names, max(1, cores // 2)) for names in BRANCHES]
    for branch in branches:
        branch.result()
    summary = {"seconds": round(time.monotonic() - start, 1)} | summarise(folder)
    with whole(folder / "summary.json") as file:
        file.write_text(json.dumps(summary, indent=1) + "\n")
    _run(["-m", "scripts.report", str(folder)], ROOT)
    print(_conclusion(summary, folder))
    if missed := shortfalls(summary):
        print("\n".join(f"short of what is expected: {line}" for line in missed), file=sys.stderr)
        raise SystemExit(1)


def _move_aside(folder: Path) -> None:
    if folder.exists():
        changed = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        folder.rename(folder.with_name(f"{folder.name}-{changed:%Y%m%dT%H%M%S}"))


def _make(folder: Path, name: str, cohort: Cohort, spacing: float, seed: int) -> None:
    root = folder / "data" / name
    options = [f"--subjects={cohort.subjects}", f"--spacing={spacing:g}", "--skull_stripped=true", f"--seed={seed}"]
    _run(["-m", "scripts.phantoms", "make", f"--layout={name}", f"--output={root}", *options], ROOT)
    splits = [f"--validation={cohort.validation}", f"--testing={cohort.testing}", f"--seed={seed}"]
    _run(["-m", "scripts.datalists", name, f"--root={root}", f"--output={root}.json", *splits], ROOT)


def _train_and_evaluate(folder: Path, bundles: Sequence[str], threads: int) -> None:
    for bundle in bundles:
        stage = STAGES[bundle]
        runs = os.path.relpath(folder, ROOT / "bundles" / bundle)  # as a user would type it
        data = [f"--dataset_dir={runs}/data/{stage.cohort}", f"--datalist={runs}/data/{stage.cohort}.json"]
        source = [f"--pretrained={runs}/{stage.source}/models/model.pt"] if stage.source else []
        places = [f"--output_dir={runs}/{bundle}", f"--ckpt_dir={runs}/{bundle}/models"]
        _run_bundle(bundle, [f"--config_file={TRAINING}", *data, *source, *places], threads)
        if stage.protocol:
            network = [f"--checkpoint={runs}/{bundle}/models/model.pt", "--model_size=micro"]
            options = ["--patch_size=[64,64,64]", "--num_workers=0", "--cohort=embedded"]
            places = [f"--output_dir={runs}/{bundle}/evaluation"]
            _run_bundle(bundle, ["--config_file=configs/evaluate.yaml", *data, *network, *options, *places], threads)
            _draw_page(folder, bundle, stage.cohort, stage.protocol)


def _draw_page(folder: Path, bundle: str, cohort: str, protocol: str) -> None:
    """The page of an evaluation, for the predictions and the scores that the bundle has left."""
    data, evaluation = folder / "data", folder / bundle / "evaluation"
    files = [f"--predictions={evaluation / 'predictions'}", f"--references={data / cohort}.json"]
    places = [f"--dataset_dir={data / cohort}", f"--output={evaluation}"]
    _run(["-m", "scripts.evaluate", *files, *places, f"--protocol={protocol}", "--workers=1"], ROOT)


def _run_bundle(bundle: str, options: Sequence[str], threads: int) -> None:
    _run(["-m", "monai.bundle", "run", *options], ROOT / "bundles" / bundle, threads, label=f"{bundle:<16} | ")


def _run(arguments: Sequence[str], place: Path, threads: int | None = None, label: str = "") -> None:
    """Print a command, run it with `label` before each line that it prints, and end with its status if it fails."""
    shown = command_line(["python", *arguments])
    print(f"\n$ {shown}" if place == ROOT else f"\n$ cd {place.relative_to(ROOT)} && {shown}", flush=True)
    environment = os.environ | ENVIRONMENT | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    command = [sys.executable, *arguments]
    out, err = (subprocess.PIPE, subprocess.STDOUT) if label else (None, None)
    with subprocess.Popen(command, cwd=place, env=environment, stdout=out, stderr=err, text=True) as process:
        for line in process.stdout or ():  # a progress bar's carriage returns end lines too
            if line.strip():
                print(f"{label}{line.rstrip()}\n", end="", flush=True)  # in one write: two branches print at a time
    if process.returncode:
        raise SystemExit(process.returncode)


def summarise(folder: Path) -> dict[str, Any]:
    """What the stages recorded, in the form of `summary.json`.

    Args:
        folder: with a folder for each bundle.

    Returns:
        {"stages": {bundle: {"seconds", "peak_memory_gib", "loss": {term: [first, last]} on held-out crops (of
        fine-tuning: on the training's), "weights": counts}}, "scores": {bundle: {region: mean held-out Dice}},
        "metrics": {bundle: {region: {metric: mean}}} of all figures of the protocols}.
    """
    trainings = {bundle: _record(folder / bundle) for bundle in STAGES}
    evaluated = [name for name, stage in STAGES.items() if stage.protocol]
    evaluations = {name: _record(folder / name / "evaluation") for name in evaluated}
    summaries = {name: json.loads((folder / name / "evaluation" / "summary.json").read_text()) for name in evaluated}
    return {
        "stages": {bundle: _summarise_training(record) for bundle, record in trainings.items()},
        "scores": {bundle: _by_region(record["scores"]["mean"]) for bundle, record in evaluations.items()},
        "metrics": {
            bundle: {
                region: {metric: figures["mean"] for metric, figures in metrics.items()}
                for region, metrics in summary["regions"].items()
            }
            for bundle, summary in summaries.items()
        },
    }


def _by_region(means: Mapping[str, float]) -> dict[str, float]:
    return {region: means[region] for region in ("WT", "TC", "ET", "lesion") if region in means}


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
    """What of a quick start's summary is worse than this software should do, a line each."""
    lines = [
        f"{bundle}: mean Dice of {region} is {score:.3f}, expected at least {LEAST_DICE[bundle]:.2f}"
        for bundle, scores in summary["scores"].items()
        for region, score in scores.items()
        if not score >= LEAST_DICE[bundle]
    ]
    for bundle, stage in summary["stages"].items():
        first, last = map(sum, zip(*_learnt(stage["loss"]).values(), strict=True))
        if not last < 0.95 * first:
            terms = " + ".join(_learnt(stage["loss"]))
            lines.append(f"{bundle}: {terms} went from {first:.3f} to {last:.3f}, expected clearly lower")
    if summary["seconds"] > MOST_SECONDS:
        lines.append(f"it took {summary['seconds']:.0f} s, expected at most {MOST_SECONDS} s on two cores")
    return lines


def _learnt(loss: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """The terms that so short a training has to lower.

    The contrastive one need not fall: it is measured against two negatives, on crops of four held-out subjects.
    """
    return {term: loss[term] for term in ("reconstruction", "rotation") if term in loss} or {"total": loss["total"]}


def _conclusion(summary: Mapping[str, Any], folder: Path) -> str:
    lines = [
        f"\nquick start: {summary['seconds'] / 60:.1f} min; mean Dice on held-out subjects of the embedded cohort:"
    ]
    for bundle, scores in summary["scores"].items():
        lines.append(f"  {bundle:<16} " + "  ".join(f"{region} {score:.3f}" for region, score in scores.items()))
    lines.append("That proves that the software works; it proves nothing about patients.")
    pages = [folder / bundle / "evaluation" / "evaluation.html" for bundle in summary["scores"]]
    lines += [f"Look at {page}" for page in (folder / "report.html", *pages)]
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(quickstart, "quickstart")
