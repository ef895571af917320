"""Compare our code's speed with stock implementations, measured side by side: `python -m scripts.benchmark NAME`."""

import statistics
from collections.abc import Callable, Mapping
from datetime import date
from json import dumps
from typing import Any

from common import cli
from common.bars import tqdm
from common.errors import InputError, check_number, show
from common.files import atomic_write, check_writable_file
from scripts.benchmark import corruption, gpu, growth, lesions, reading, starting, timing, training, whole_case
from scripts.benchmark.page import dice_text, update
from scripts.benchmark.timing import ROOT, Measured

__all__ = ["benchmark"]

PAGE, PICTURE = ROOT / "docs/benchmarks.md", ROOT / "docs/images/growth.png"
GROWTH, GPU = "growth", "gpu"
Variants = Mapping[str, Callable[[], float | Measured]]
BENCHMARKS: dict[str, Callable[..., Mapping[str, Variants]]] = {
    "step": training.step,
    "attention": training.attention,
    "precision": training.precision,
    "views": corruption.views,
    "reader": reading.reader,
    "crops": reading.crops,
    "window": whole_case.window,
    "inference": whole_case.inference,
    "metrics": lesions.metrics,
    "scan": starting.scan,
    "start": starting.start,
}
LONG = {"step": 2, "inference": 1}  # at most so many repeats in `all`, which takes less than an hour


def benchmark(
    name: str, repeats: int = 5, json: str | None = None, before: str = starting.BEFORE, peak: float | None = None
) -> None:
    """Time variants in turn (A B A B ...), and print the median of each and its median ratio to the first.

    Seconds are of processor time. docs/benchmarks.md says what each variant does.

    Args:
        name: step (optimiser steps of pretraining and fine-tuning), attention, precision (float32, bfloat16), views
            (corruption), reader (crops from disk), crops (of ATLAS), window (of inference), inference (a whole case,
            from the command to the file), metrics (lesion-wise scores of a case), scan (check of a cohort), start
            (from the command to the first step), growth (curves against crop, cohort, lesions and processes in
            docs/images/growth.png), gpu (all bundles on a GPU, then steps, a window and a whole case, seconds by the
            clock, memory of the GPU), or all but gpu, which also writes the tables of docs/benchmarks.md.
        repeats: number of timings of each variant; all takes 2 of step and 1 of inference, growth one of each point.
        json: file for the figures and the points of the curves, with date, versions and processor.
        before: for start, an earlier commit whose code is timed, too, by its name or full hash; none to leave it out.
        peak: for gpu, its TFLOP/s in bfloat16 on dense matrices; those of some well-known GPUs are known.
    """
    if name not in (*BENCHMARKS, GROWTH, GPU, "all"):
        raise InputError(f"benchmark {name}: expected one of {', '.join(BENCHMARKS)}, {GROWTH}, {GPU} or all")
    check_number("repeats", repeats, int, 1)
    if json:
        check_writable_file(json, f"--json={json}")
    if peak is not None:
        check_number("peak", peak, float, 1e-3)
    options: dict[str, dict[str, Any]] = {"start": {"before": str(before)}, GPU: {"peak": peak}}
    if name in ("start", "all"):
        starting.check_commit(str(before))
    curves: dict[str, growth.Points] = {}
    if name in (GROWTH, "all"):
        curves = growth.measure()
        growth.draw(curves, PICTURE)
        show(f"curves drawn in {PICTURE}")
    chosen = {each: min(repeats, LONG.get(each, repeats)) for each in BENCHMARKS} if name == "all" else {name: repeats}
    chosen.pop(GROWTH, None)
    figures, day, setting = {}, date.today(), timing.setting()
    show(", ".join(f"{key} {value}" for key, value in setting.items()))
    for each, count in chosen.items():
        figures[each] = _measured(each, count, **options.get(each, {}))
        if name == "all":
            update(PAGE, {each: figures[each]}, chosen, day, setting)
            show(f"{each}: table written to {PAGE}")
    if json:
        with atomic_write(json) as file:
            found = {"date": f"{day}", "setting": setting, "figures": _listed(figures, chosen), "growth": curves}
            file.write_text(dumps(found, indent=1) + "\n")


def _measured(name: str, repeats: int, **options: Any) -> dict[str, dict[str, Any]]:
    """The rows of each comparison of a benchmark, printed as they come."""
    found = {}
    for work, variants in (gpu.gpu if name == GPU else BENCHMARKS[name])(**options).items():
        taken: dict[str, list[Measured]] = {variant: [] for variant in variants}
        for _ in tqdm(range(repeats), desc=f"{name}: {work}"):
            for variant, run in variants.items():
                each = run()
                taken[variant].append(each if isinstance(each, Measured) else Measured(each))
        first = next(iter(taken.values()))
        found[work] = {variant: _row(values, first) for variant, values in taken.items()}
        for variant, row in found[work].items():
            spread = f" ({row['lowest']:.2f} to {row['highest']:.2f})"
            clock = f"   by the clock {row['clock']:.2f} s   x {row['clock_ratio']:.2f}" if "clock" in row else ""
            peak = f"   {row['peak']:.2f} GiB" if "peak" in row else ""
            peak += f"   {row['rate']:.3g} TFLOP/s" if "rate" in row else ""
            peak += f", {row['share']:.1%} of the peak" if "share" in row else ""
            clock += f"   Dice {dice_text(row['dice'])}" if "dice" in row else ""
            show(f"{work}: {variant:<34} {row['seconds']:9.4f} s   x {row['ratio']:.2f}{spread}{clock}{peak}")
    return found


def _listed(figures: Mapping[str, Any], repeats: Mapping[str, int]) -> list[dict[str, Any]]:
    """The figures as JSON has them: a list with an entry for each variant."""
    return [
        {"benchmark": name, "work": work, "variant": variant, "repeats": repeats[name]}
        | {key: row[key] for key in ("seconds", "ratio", "lowest", "highest")}
        | {f"clock_{key}": row.get(f"clock_{key}") for key in ("ratio", "lowest", "highest")}
        | {"clock_seconds": row.get("clock"), "peak_gib": row.get("peak"), "dice": row.get("dice")}
        | {"teraflops_per_second": row.get("rate"), "share_of_peak": row.get("share")}
        for name, works in figures.items()
        for work, rows in works.items()
        for variant, row in rows.items()
    ]


def _row(values: list[Measured], first: list[Measured]) -> dict[str, Any]:
    """The medians of a variant, its ratio to the first one with lowest and highest, and its peak if it was measured.

    Dice is that of the last repeat, as each writes the same label maps.
    """
    seconds = [each.seconds for each in values]
    row: dict[str, Any] = {"seconds": statistics.median(seconds)} | _ratios(seconds, [each.seconds for each in first])
    clocks, first_clocks = ([each.clock for each in some if each.clock is not None] for some in (values, first))
    if clocks and first_clocks:
        ratios = {f"clock_{name}": ratio for name, ratio in _ratios(clocks, first_clocks).items()}
        row |= {"clock": statistics.median(clocks)} | ratios
    if values[-1].dice is not None:
        row["dice"] = dict(values[-1].dice)
    for key in ("peak", "rate", "share"):
        if found := [getattr(each, key) for each in values if getattr(each, key) is not None]:
            row[key] = statistics.median(found)
    return row


def _ratios(values: list[float], first: list[float]) -> dict[str, float]:
    """The median of the ratios of each repeat, the lowest and the highest."""
    ratios = [mine / base for mine, base in zip(values, first, strict=True)]
    return {"ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


if __name__ == "__main__":
    cli.run(benchmark, "benchmark")
