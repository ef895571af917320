"""What only a GPU can show: that all bundles run on it, steps, a window and a whole case, and the share of its peak."""

import atexit
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from common.errors import InputError, show
from scripts.benchmark import training, whole_case
from scripts.benchmark.timing import ROOT, Measured, run_alone, run_process

__all__ = ["gpu", "peak_of", "run_bundles", "teraflops_of", "works_on"]

PEAKS = {  # TFLOP/s in bfloat16 on dense matrices, from NVIDIA's data sheets; patterns of PyTorch's whole names
    r"H200": 989.0,
    r"H100 80GB HBM3": 989.0,
    r"H100 PCIe": 756.0,
    r"A100-(SXM4|PCIE)-(40|80)GB": 312.0,
    r"A100 80GB PCIe": 312.0,
    r"L40S": 362.0,
    r"L4": 121.0,
    r"A10": 125.0,
    r"GeForce RTX 4090": 165.0,
}
SUBJECTS = 6  # of a cohort that a bundle is tried on


def gpu(peak: float | None = None) -> dict[str, dict[str, Callable[[], Measured]]]:
    """Run all bundles on the GPU, then compare ours with stock, in bfloat16 autocast on both sides.

    Args:
        peak: TFLOP/s that the GPU has in bfloat16; None for what is known of it.

    Raises:
        InputError: there is no GPU.
    """
    import torch

    if not torch.cuda.is_available():
        raise InputError("benchmark gpu: PyTorch finds no GPU; expected one that it supports")
    name = torch.cuda.get_device_name()
    peak = peak or peak_of(name)
    show(f"{name}: peak {f'{peak:g} TFLOP/s in bfloat16' if peak else 'not known, so that no share of it is stated'}")
    run_bundles("cuda")
    return works_on("cuda", training.SIZE, training.EDGE, peak)


def peak_of(name: str) -> float | None:
    """What is known of a GPU with PyTorch's name for it; None if nothing is."""
    return next((peak for pattern, peak in PEAKS.items() if re.fullmatch(rf"(NVIDIA )?{pattern}", name)), None)


def run_bundles(device: str, bundles: tuple[str, ...] = ()) -> None:
    """Train each bundle, or those named, for two tiny steps on a device.

    Raises:
        RuntimeError: one fails.
    """
    from scripts.phantoms.cohort import make
    from scripts.quickstart import STAGES, TRAINING

    with TemporaryDirectory() as folder:
        for bundle in bundles or tuple(STAGES):
            layout, output = STAGES[bundle].cohort, Path(folder) / bundle
            scans, datalist = Path(folder) / layout, Path(folder) / f"{layout}.json"
            if not datalist.exists():
                make(layout, SUBJECTS, str(scans), spacing=4.0, skull_stripped=True, workers=1)
                splits = ["--validation=2", "--testing=0"]
                run_process(["-m", "scripts.datalists", layout, f"--root={scans}", f"--output={datalist}", *splits])
            words = ["-m", "monai.bundle", "run", f"--config_file={TRAINING}", f"--device={device}"]
            words += [f"--dataset_dir={scans}", f"--datalist={datalist}", f"--output_dir={output / 'out'}"]
            words += [f"--ckpt_dir={output / 'models'}", "--iterations=2", "--val_interval=2", "--warmup_iterations=0"]
            measured = run_process(words, ROOT / "bundles" / bundle)
            show(f"{bundle}: two steps and a validation on {device}, {measured.clock:.0f} s by the clock")


def works_on(device: str, size: str, edge: int, peak: float | None) -> dict[str, dict[str, Callable[[], Measured]]]:
    """Steps, a window and a whole case on a device.

    Args:
        device: as PyTorch names it.
        size: of the networks.
        edge: of the crops, in voxels.
        peak: TFLOP/s of the device, or None.
    """
    works: dict[str, dict[str, Callable[[], Measured]]] = {}
    place = (device, size, str(edge))
    for work in ("pretraining", "fine_tuning"):
        step = partial(_step, f"scripts.benchmark.training:{work}_step", place, teraflops_of(work, size, edge), peak)
        works[work] = {"ours": partial(step, "bfloat16"), "stock": partial(step, "stock")}
    function = "scripts.benchmark.whole_case:window_pass"
    works["window"] = {
        name: partial(run_alone, function, attention, "bfloat16", *place, threads=0)
        for name, attention in (("ours", "fused"), ("stock", "stored"))
    }
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    variants = whole_case.random_case(Path(folder.name), size, edge, device)
    works["whole_case"] = {name: partial(_by_clock, variants[name]) for name in ("ours, bfloat16", "stock")}
    return works


def _step(function: str, place: tuple[str, ...], teraflops: float, peak: float | None, kind: str) -> Measured:
    """A step with the rate of its operations, and the share of the peak that this is."""
    measured = run_alone(function, kind, *place, threads=0)
    rate = teraflops / measured.seconds
    return measured._replace(rate=rate, share=rate / peak if peak else None)


def _by_clock(run: Callable[[], Measured]) -> Measured:
    """A process by the clock, as processor time leaves out the GPU's; its memory is not the GPU's."""
    return Measured(cast("float", run().clock))  # a process has one


def teraflops_of(work: str, size: str, edge: int) -> float:
    """10^12 floating-point operations of the network's passes in a step of `pretraining` or `fine_tuning`.

    Matrix products and convolutions, forward and backward, with attention as MONAI stores it: what ours recomputes is
    not counted. Nothing is computed (PyTorch's device `meta`).
    """
    import torch
    from monai.networks.nets import SwinUNETR
    from torch.utils.flop_counter import FlopCounterMode

    from common.ssl.networks import SSLHead, settings

    edges = [edge] * 3
    network: Any
    if work == "pretraining":
        network, image = SSLHead(2, size), torch.empty(2 * training.CROPS, 2, *edges, device="meta")  # two views
    else:
        network = SwinUNETR(4, 3, **settings(size)._asdict())
        image = torch.empty(training.CROPS, 4, *edges, device="meta")
    network.to("meta")
    with FlopCounterMode(display=False) as counter:
        outputs = network(image)
        sum(each.sum() for each in (outputs.values() if isinstance(outputs, dict) else [outputs])).backward()
    return counter.get_total_flops() / 1e12
