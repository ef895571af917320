"""Benchmark optimiser steps, inference on a case and training on a GPU: several variants of our code and of stock code.

Each measurement runs in its own process, `python -m scripts.benchmark.gpu`, the most important first. Results are
written after each measurement, so that a later call continues where an earlier call stopped.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from common.environment import child_environment
from common.errors import show
from common.files import read_json, write_json
from scripts.benchmark import inference, reader
from scripts.benchmark.step import CROPS, WORKS, edge_in, one_step

MODULE = "scripts.benchmark.gpu"
LIMIT = 540  # seconds per call
HEAVIEST = 10  # kernels listed per profile
READERS = 4  # worker processes of the training loader
CASE, BRAIN = (240, 240, 155), (151, 186, 155)  # voxels of a BraTS case, and of its brain box, to which our code crops


class Setting(NamedTuple):
    """Device, data type, model size, crop edge and volume shapes of a benchmark; defaults as in published tables."""

    device: str = "cuda"
    dtype: str = "bfloat16"
    size: str = "small"
    edge: int = 96
    warm_up: int = 3  # untimed steps
    steps: int = 10  # timed steps
    case: tuple[int, ...] = CASE
    brain: tuple[int, ...] = BRAIN
    spacing: float = 1.0  # mm; voxel size of the phantoms


FULL = Setting()
OURS = ["ours fused", "ours recomputed", "ours stored", "ours flex", "ours fused channels_last"]
COMPILED = ["ours fused compiled", "ours stored compiled"]  # compiled, `recomputed` is `fused`
STOCK = ["stock", "stock channels_last", "stock compiled", "stock channels_last compiled"]
LARGE = ("ours fused 128", "stock 128")  # crops of 128^3 voxels: does model size `small` fit into 11 GiB?


def jobs() -> Iterator[tuple[str, str, str]]:
    """Yield the name, stage (pretraining, fine_tuning) and variant of each measurement, the most important first."""
    yield from (("step", work, codes[0]) for work in WORKS for codes in (OURS, STOCK))
    yield from (("case", "case", code) for code in ("ours", "stock", "stock cropped", "stock cropped compiled"))
    yield from (("profile", work, code) for work in WORKS for code in ("ours fused", "stock"))
    yield from (("disk", "case from disk", code) for code in ("ours", "stock", "stock cropped"))
    yield from (("training", "training", kind) for kind in ("store", "files"))
    yield from (("step", "fine_tuning", code) for code in LARGE)
    yield from (("step", work, code) for work in WORKS for code in (*OURS[1:], STOCK[1]))
    yield from (("step", work, code) for work in WORKS for code in (*COMPILED, *STOCK[2:]))


def gpu(file: Path, machine: str, setting: Setting = FULL, limit: float = LIMIT) -> list[dict[str, Any]]:
    """Take the measurements that `file` lacks for `machine`, for at most `limit` seconds; return the machine's rows.

    A row has the machine, job, work and variant, and figures or an error. A measurement that `limit` cuts off has no
    row; the next call repeats the measurement.
    """
    end, rows = time.monotonic() + limit, read_json(file) if file.exists() else []
    done = {(row["job"], row["work"], row["variant"]) for row in rows if row["machine"] == machine}
    with TemporaryDirectory() as folder:
        for job, work, variant in jobs():
            left = end - time.monotonic()
            if (job, work, variant) in done:
                continue
            if left < 1:
                show(f"{work}: {variant}: not measured yet; run the command again to continue")
                break
            command = [sys.executable, "-W", "ignore", "-m", MODULE, job, work, variant, folder, json.dumps(setting)]
            try:
                process = subprocess.run(
                    command, env=child_environment(), capture_output=True, text=True, timeout=left, check=False
                )
            except subprocess.TimeoutExpired:
                show(f"{work}: {variant}: cut off after {left:.0f} s")
                break
            lines = (process.stderr if process.returncode else process.stdout).strip().splitlines() or [""]
            figures = {"error": lines[-1]} if process.returncode else json.loads(lines[-1])
            rows.append({"machine": machine, "job": job, "work": work, "variant": variant} | figures)
            write_json(file, rows)
            show(f"{work}: {variant}: {describe(rows[-1])}")
    return [row for row in rows if row["machine"] == machine]


def describe(row: Mapping[str, Any]) -> str:
    """Return the measured values of a row as text, without the kernels of a profile."""
    hidden = ("machine", "job", "work", "variant", "heaviest")
    return ", ".join(f"{name} {value}" for name, value in row.items() if name not in hidden)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines of Markdown tables of the times and the profiles."""
    first = {_compared(row): row for row in reversed(rows) if "seconds" in row}
    lines = ["| variant | seconds | ratio to ours | peak memory | busy | waits for data |", "|---|---|---|---|---|---|"]
    for row in rows:
        name = f"| {row['job']}, {row['work'].replace('_', '-')}: {row['variant']} |"
        if "error" in row:
            lines.append(f"{name} {row['error'][:80]} | | | | |")
            continue
        ratio = row["seconds"] / first[_compared(row)]["seconds"]
        busy, waits = (f"{100 * row[key]:.0f} %" if key in row else "" for key in ("busy", "waits"))
        lines.append(f"{name} {row['seconds']:.3g} | {ratio:.2f} | {row['peak_gib']:.1f} GiB | {busy} | {waits} |")
    for row in rows:
        if "heaviest" in row:
            lines += ["", f"Heaviest kernels of {row['work'].replace('_', '-')}, {row['variant']}:", ""]
            lines += ["| kernel | share | calls per step |", "|---|---|---|"]
            lines += [f"| {name[:90]} | {100 * share:.1f} % | {calls:g} |" for name, share, calls in row["heaviest"]]
    return lines


def _compared(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return a row's group, in which times are compared: job, work, and the edge of larger crops."""
    return row["job"], row["work"], edge_in(row["variant"])


# Measurements, each in its own process


def step(work: str, code: str, folder: str, setting: Setting) -> dict[str, Any]:
    """Measure the wall-clock seconds and the peak memory of an optimiser step; `work` and `code` as in `one_step`."""
    return timed(one_step(work, code, setting.device, setting.dtype, setting.size, setting.edge), setting)


def profile(work: str, code: str, folder: str, setting: Setting) -> dict[str, Any]:
    """Time optimiser steps, then profile them: the slowest kernels, and the share of the time that any kernel runs."""
    from torch.autograd import DeviceType
    from torch.profiler import profile as profiled

    run = one_step(work, code, setting.device, setting.dtype, setting.size, setting.edge)
    figures = timed(run, setting)
    with profiled() as profiler:
        repeat(run, setting)
    on_gpu = setting.device == "cuda"
    kind, name = (DeviceType.CUDA if on_gpu else DeviceType.CPU), f"self_{'device' if on_gpu else 'cpu'}_time_total"
    kernels = [event for event in profiler.key_averages() if event.device_type == kind and not event.is_user_annotation]
    total = sum(getattr(event, name) for event in kernels)
    kernels = sorted(kernels, key=lambda event: -getattr(event, name))[:HEAVIEST]
    heaviest = [(event.key, round(getattr(event, name) / total, 4), event.count / setting.steps) for event in kernels]
    share = total / 1e6 / setting.steps / figures["seconds"]  # of the time without the profiler, which slows the host
    return figures | {"busy": round(min(1.0, share), 4), "heaviest": heaviest}


def case(work: str, code: str, folder: str, setting: Setting) -> dict[str, Any]:
    """Measure sliding-window inference on a BraTS case: the whole volume for `stock`, else the brain's bounding box."""
    import torch
    from monai.inferers import sliding_window_inference

    from common.inference import WindowInferer
    from common.inference.windows import BATCH
    from common.ssl import set_attention
    from common.ssl.networks import swin_unetr

    words, dtype = code.split(), getattr(torch, setting.dtype)
    network = swin_unetr(4, 3, setting.size).to(setting.device).eval()
    if "channels_last" in words:
        network.to(memory_format=torch.channels_last_3d)
    if "compiled" in words:
        network.compile(dynamic=False)
    brain = (..., *map(slice, setting.brain))
    volume = torch.zeros(1, 4, *setting.case)
    volume[brain] = 1
    window = {"roi_size": [setting.edge] * 3, "overlap": 0.5, "mode": "gaussian"}
    window["sw_batch_size"] = BATCH[torch.device(setting.device).type]
    if "ours" in words or "cropped" in words:
        volume = volume[brain]
    if "ours" in words:
        set_attention(network)
        inferer = WindowInferer(**window, dtype=dtype, sw_device=setting.device)

    @torch.no_grad()
    def run() -> None:
        image = volume.to(setting.device)
        if "ours" in words:
            inferer(image, network).cpu()
            return
        with torch.autocast(setting.device, dtype, enabled=setting.dtype != "float32"):
            sliding_window_inference(image, predictor=network, **window).float().cpu()

    return timed(run, setting._replace(steps=max(1, setting.steps // 5)))


def disk(work: str, code: str, folder: str, setting: Setting) -> dict[str, Any]:
    """Measure the command that segments a case, from files to label map: wall-clock seconds, peak host memory."""
    ours, stock = inference.commands(setting.device, Path(folder), setting.size, setting.edge, setting.spacing)
    amp = {"bfloat16": "bf16", "float32": "false"}[setting.dtype]
    run = partial(ours, f"--amp={amp}") if code == "ours" else partial(stock, *code.split()[1:])
    measured = run(by_clock=True)
    return {"seconds": round(measured.seconds, 2), "peak_gib": round(measured.peak_gib, 3)}


def training(work: str, kind: str, folder: str, setting: Setting) -> dict[str, Any]:
    """Measure a pretraining step and its share of waiting for data, read from .nii.gz `files` or a `store`."""
    from common.data.datasets import Steps

    entries, store = reader.entries_of(f"{folder}/ukb", setting.spacing), f"{folder}/store" if kind == "store" else None
    steps = Steps(reader.loader(entries, store, CROPS, READERS, setting.edge), device=setting.device)
    batches = (batch for batches in steps for batch in batches)
    run = one_step("pretraining", "ours", setting.device, setting.dtype, setting.size, setting.edge, batches)
    repeat(run, setting)
    before, figures = steps.waited, timed(run, setting._replace(warm_up=0))
    return figures | {"waits": round((steps.waited - before) / (figures["seconds"] * setting.steps), 4)}


def timed(run: Callable[[], Any], setting: Setting) -> dict[str, Any]:
    """Return the mean seconds of a call after a warm-up, and the peak memory in GiB, of the GPU or else the host."""
    import torch

    from common.memory import peak_resident

    repeat(run, setting._replace(steps=setting.warm_up))
    if setting.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    repeat(run, setting)
    seconds = (time.perf_counter() - start) / setting.steps
    peak = torch.cuda.max_memory_allocated() / 2**30 if setting.device == "cuda" else peak_resident()
    return {"seconds": round(seconds, 5), "peak_gib": round(peak, 3)}


def repeat(run: Callable[[], Any], setting: Setting) -> None:
    """Call `run` `setting.steps` times, and wait for the device."""
    import torch

    for _ in range(setting.steps):
        run()
    if setting.device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    job, work, variant, folder, setting = sys.argv[1:]
    measured = globals()[job](work, variant, folder, Setting(*json.loads(setting)))
    show(json.dumps(measured))
