"""Compare the speed of our code with stock implementations: `python -m scripts.benchmark NAME`."""

import statistics
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from common import ROOT, cli
from common.bars import tqdm
from common.errors import InputError, check_number, choice, show
from common.files import atomic_write, check_writable_file, write_json
from scripts.benchmark import inference, metrics, reader, step, timing
from scripts.benchmark.timing import Measured, Works

PAGE = ROOT / "docs/reference/benchmarks.md"
BENCHMARKS: dict[str, Callable[[], Works]] = {
    "step": step.step,
    "reader": reader.reader,
    "inference": inference.inference,
    "metrics": metrics.metrics,
}
GPU, KERNELS = "gpu", "kernels"
FIGURES = ("seconds", "ratio", "peak_gib")


def benchmark(name: str, repeats: int = 3, json: str | None = None) -> None:
    """Time variants of a task, ours and stock, in turn (A B A B ...); print median times and ratios to the first.

    Each timing runs in its own process. Seconds are processor time, or wall-clock time on a GPU.
    docs/reference/benchmarks.md describes the variants.

    Args:
        name: kernels (number of kernels in a step, without a GPU), step (optimiser steps of pretraining and
            fine-tuning), reader (crops from disk), inference (a whole case, with start-up), metrics (lesion-wise scores
            of a case), gpu (steps, profiles, cases and training on a GPU; stops after nine minutes, run it again to
            continue), or all (everything except gpu; takes an hour and updates docs/reference/benchmarks.md).
        repeats: number of timings per variant; kernels and gpu ignore it.
        json: file for the results: a list of {work, variant, seconds, ratio, peak_gib}, or for kernels of {work,
            variant, kernels, waits}; for gpu, gpu.json by default.
    """
    choice("name", name, dict.fromkeys([KERNELS, *BENCHMARKS, GPU, "all"]))
    check_number("repeats", repeats, int, 1)
    if json:
        check_writable_file(json, f"--json={json}")
    setting, figures = timing.setting(), []
    show(setting)
    if name == GPU:
        _gpu(Path(json or "gpu.json"))
        return
    for task in [KERNELS, *BENCHMARKS] if name == "all" else [name]:
        rows, table = _kernels() if task == KERNELS else _timed(task, repeats)
        if name == "all":
            update(PAGE, task, table, setting)
            show(f"{task}: table written to {PAGE}")
        figures += rows
    if json:
        write_json(json, figures)


def _gpu(file: Path) -> None:
    import torch

    from scripts.benchmark import gpu

    if not torch.cuda.is_available():
        raise InputError("benchmark gpu: PyTorch finds no GPU")
    name = torch.cuda.get_device_name()
    show(name, *gpu.table(gpu.gpu(file, name)))


def _kernels() -> tuple[list[dict[str, Any]], list[str]]:
    """Print the kernel counts; return rows for the JSON file and lines of a Markdown table."""
    from scripts.benchmark import kernels

    works = kernels.kernels()
    table = kernels.table(works)
    show(*table)
    figures = [
        {"work": work, "variant": code, "kernels": counted.kernels.total(), "waits": counted.waits.total()}
        for work, variants in works.items()
        for code, counted in variants.items()
    ]
    return figures, table


def _timed(name: str, repeats: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Run a timed benchmark; return rows for the JSON file and lines of a Markdown table."""
    works = {work: _rows(work, variants, repeats) for work, variants in BENCHMARKS[name]().items()}
    figures, table = [], [f"{repeats} repeat{'' if repeats == 1 else 's'}.", ""]
    table += ["| variant | seconds | ratio | peak memory |", "|---|---|---|---|"]
    for work, rows in works.items():
        for variant, row in rows.items():
            title = f"{work.replace('_', '-')}: {variant}" if len(works) > 1 else variant
            table.append(f"| {title} | {row_text(row)} |")
            figures.append({"work": work, "variant": variant} | {key: row[key] for key in FIGURES})
    return figures, table


def _rows(work: str, variants: Any, repeats: int) -> dict[str, dict[str, float]]:
    """Time the variants; print and return their medians, and the range of their ratios to the first variant."""
    timings: dict[str, list[Measured]] = {variant: [] for variant in variants}
    for _ in tqdm(range(repeats), desc=work):
        for variant, run in variants.items():
            timings[variant].append(run())
    first, rows = next(iter(timings.values())), {}
    for variant, values in timings.items():
        ratios = [mine.seconds / base.seconds for mine, base in zip(values, first, strict=True)]
        rows[variant] = {
            "seconds": statistics.median(value.seconds for value in values),
            "peak_gib": statistics.median(value.peak_gib for value in values),
            "ratio": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
        }
        show(f"{work}: {variant:<40} {row_text(rows[variant])}")
    return rows


def update(page: Path, name: str, table: list[str], setting: str) -> None:
    """Replace the table of the benchmark `name` in a page; raise an InputError if the page lacks the table's markers.

    `setting` describes the versions and the processor.
    """
    day = f"Measured on {date.today():%Y-%m-%d}. {setting}."
    before, mark, rest = page.read_text(encoding="utf-8").partition(f"<!-- table: {name} -->\n")
    _, end, after = rest.partition("\n<!-- end -->")
    if not end:
        raise InputError(f"{page}: no table of {name}; expected '<!-- table: {name} -->' followed by '<!-- end -->'")
    with atomic_write(page) as file:
        file.write_text("\n".join([before + mark, day, "", *table, end + after]), encoding="utf-8")


def row_text(row: Mapping[str, float]) -> str:
    """Return a variant's table cells as text: seconds, ratio (with the range, if repeats differ), peak memory."""
    lowest, highest = row["lowest"], row["highest"]
    spread = f" ({lowest:.2f} to {highest:.2f})" if highest > lowest else ""
    return f"{row['seconds']:.3g} | {row['ratio']:.2f}{spread} | {row['peak_gib']:.1f} GiB"


if __name__ == "__main__":
    cli.run(benchmark, "benchmark")
