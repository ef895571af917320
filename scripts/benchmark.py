"""Compare the speed of our code with stock code, built from MONAI's components: `python -m scripts.benchmark NAME`."""

import os
import statistics
import time
import timeit
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import product, repeat
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer, default_prepare_batch
from monai.inferers import sliding_window_inference
from monai.losses import DiceLoss
from monai.transforms import Compose
from scipy import ndimage
from torch.utils import _foreach_utils, _python_dispatch, _pytree

from common import ROOT
from common.data.datasets import CaseDataset, Store
from common.environment import use_huge_pages
from common.errors import choice, show
from common.files import write_json
from common.inference import WindowInferer
from common.metrics import protocol
from common.ssl import SSLHead, SSLLoss, TwoViews, layers, set_attention, swin_unetr
from common.training.order import Batches, CaseSampler
from common.training.records import peak_resident
from common.training.step import Step
from scripts import cli
from scripts.cohorts import COHORTS
from scripts.phantoms.cohort import files_of, make

ATEN = torch.ops.aten
SIZE, EDGE, CROPS = "small", 96, 2  # edge of crops and windows in voxels
ON_CPU = 64  # edge of the single crop of a step, in voxels: a training step of the paper's size takes a minute
CASE, BRAIN = (240, 240, 155), (151, 186, 155)  # voxels of a BraTS case, and of the box of its brain
WORKS = ("pretraining", "fine_tuning")


def benchmark(name: str, repeats: int = 3, json: str | None = None) -> None:
    """Time a task, by our code and by stock code; print median seconds, the ratio to ours, and peak memory.

    Each variant runs in a process of its own, first without being timed. Seconds are processor time, or by the clock on
    a GPU. docs/reference/benchmarks.md has results.

    Args:
        name: step (optimiser steps), inference (windows of a case), reader (crops from disk), metrics (lesion-wise
            scores of a case), kernels (number of kernels in a step) or gpu (steps on a GPU).
        repeats: number of timings per variant.
        json: file for the results, a list of rows.
    """
    steps = {work: partial(one_step, work=work) for work in WORKS}
    is_count, rows, ours = name == "kernels", [], 0.0
    codes = ("ours", "ours fused", "stock") if is_count else ("ours", "stock")
    columns = ("kernels", "waits") if is_count else ("seconds", "peak_gib")
    with TemporaryDirectory() as folder, ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        tasks = {
            "step": steps,
            "inference": {"case": case},
            "reader": {"crops": partial(crops, folder=folder)},
            "metrics": {"scores": scores},
            "kernels": {work: partial(step, device="meta") for work, step in steps.items()},
            "gpu": {work: partial(step, device="cuda", dtype="bfloat16") for work, step in steps.items()},
        }
        for (work, task), code in product(choice("name", name, tasks).items(), codes):
            figures = count(task(code)) if is_count else pool.submit(measure, code, task, repeats).result()
            ours = figures[0] if code == "ours" else ours
            row = {"work": work, "variant": code, **dict(zip(columns, figures, strict=True))}
            rows.append(row | {"ratio": round(figures[0] / ours, 3)})
    show(*(", ".join(f"{key} {figure}" for key, figure in row.items()) for row in rows))
    if json:
        write_json(json, rows)


def measure(code: str, task: Callable[[str], Callable[[], Any]], repeats: int) -> tuple[float, float]:
    """Return the median seconds of all but the first call, and the peak memory of this process in GiB."""
    if code == "ours":
        use_huge_pages()
    torch.set_num_threads(os.cpu_count() or 1)
    names = {"run": task(code), "synchronize": torch.cuda.synchronize}
    on_gpu = torch.cuda.is_initialized()
    statement, clock = ("run(); synchronize()", time.perf_counter) if on_gpu else ("run()", time.process_time)
    _, *times = timeit.repeat(statement, timer=clock, repeat=1 + repeats, number=1, globals=names)
    memory = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else peak_resident()
    return round(statistics.median(times), 4), round(memory, 4)


def one_step(code: str, work: str, device: str = "cpu", dtype: str = "float32") -> Callable[[], Any]:
    """Return a function that takes an optimiser step on a random batch; `ours` may name a value of `attention`."""
    network: Any = (SSLHead(2, SIZE) if work == "pretraining" else swin_unetr(4, 3, SIZE)).to(device)
    loss: Any = SSLLoss() if work == "pretraining" else DiceLoss(sigmoid=True)
    prepare: Any = TwoViews() if work == "pretraining" else default_prepare_batch
    number, edge = (1, ON_CPU) if device == "cpu" else (CROPS, EDGE)
    batch = {"image": torch.randn(number, 2 if work == "pretraining" else 4, edge, edge, edge)}
    batch["label"], kind = (torch.rand(number, 3, edge, edge, edge) > 0.9).float(), getattr(torch, dtype)
    optimizer = torch.optim.AdamW(network.parameters(), fused=device != "meta", foreach=device == "meta")
    if code != "stock":
        set_attention(network, *code.split()[1:])
        settings: Any = {"prepare_batch": prepare, "non_blocking": True}
        trainer = SupervisedTrainer(torch.device(device), 1, [], network, optimizer, loss, **settings)
        update = Step(kind)
        return lambda: update(trainer, Batches(repeat(batch), 1))

    def run() -> None:
        optimizer.zero_grad()
        inputs, target = prepare(batch, torch.device(device), non_blocking=True)
        with torch.autocast(device, kind, enabled=dtype != "float32"):
            outputs = [network(view) for view in inputs.split(number)]
        if work == "pretraining":
            both = {name: torch.cat([output[name].float() for output in outputs]) for name in outputs[0]}
            loss(both, target)["total"].backward()
        else:
            loss(outputs[0].float(), target).backward()
        optimizer.step()

    return run


def case(code: str) -> Callable[[], Any]:
    """Return a function that segments a case by sliding windows; ours crops it to the brain's box."""
    network = swin_unetr(4, 3, SIZE).eval()
    window: Any = {"roi_size": [EDGE] * 3, "overlap": 0.5, "mode": "gaussian", "sw_batch_size": 2}
    if code == "stock":
        return torch.no_grad()(partial(sliding_window_inference, torch.ones(1, 4, *CASE), predictor=network, **window))
    set_attention(network)
    return torch.no_grad()(partial(WindowInferer(**window), torch.ones(1, 4, *BRAIN), network))


def crops(code: str, folder: str) -> Callable[[], Any]:
    """Return a function that reads a batch of four pretraining crops of two phantoms: ours from a store, else files."""
    torch.set_num_threads(1)
    if not any(Path(folder).iterdir()):
        make("ukb", 2, folder, workers=1)
    files = [files_of(COHORTS["ukb"], number)[0].values() for number in (0, 1)]
    cases = [{"subject": str(n), "image": [f"{folder}/{file}" for file in files[n]]} for n in (0, 1)]
    config = ConfigParser(ConfigParser.load_config_file(ROOT / "bundles/ukb_ssl_pretrain/configs/train.yaml"))
    config.update({"crops_per_volume": 1, "batch_size": 4, "patch_size": [EDGE] * 3})
    names = ("deterministic_transforms", "train::random_transforms")
    composed = Compose([part for name in names for part in config.get_parsed_content(name)])
    if code == "stock":
        return lambda: next(iter(DataLoader(Dataset(cases * 2, composed), batch_size=4)))
    store = Store(f"{folder}/store", cases, composed)
    for index in store.missing():
        store.add(index)
    dataset = CaseDataset(cases, composed, store=f"{folder}/store")
    return partial(next, iter(DataLoader(dataset, sampler=CaseSampler(cases), batch_size=4)))


def scores(code: str) -> Callable[[], Any]:
    """Return a function that scores a case of six lesions at 1 mm as BraTS does; stock measures in the whole volume."""
    from surface_distance import compute_robust_hausdorff, compute_surface_distances  # only tests require it, too

    torch.set_num_threads(1)
    x, y, z = np.ogrid[:240, :240, :155]
    reference, prediction = np.zeros((2, 240, 240, 155), bool)
    for number, radius in enumerate((16, 11, 8, 6, 4, 3)):  # mm
        distance = np.sqrt((x - 60 - 24 * number) ** 2 + (y - 80 - 16 * number) ** 2 + (z - 40 - 14 * number) ** 2)
        reference |= distance < radius
        prediction |= distance < radius - 1
    if code == "ours":
        return lambda: protocol("brats").measure(prediction, reference)
    dilate = partial(ndimage.binary_dilation, structure=ndimage.generate_binary_structure(3, 2), iterations=3)

    def run() -> None:
        parts, lesions = (ndimage.label(mask, np.ones((3, 3, 3)))[0] for mask in (prediction, dilate(reference)))
        for label in range(1, int(lesions.max()) + 1):
            lesion = (lesions == label) & reference
            predicted = np.isin(parts, [part for part in np.unique(parts * dilate(lesion)) if part])
            compute_robust_hausdorff(compute_surface_distances(lesion, predicted, (1, 1, 1)), 95)

    return run


def count(run: Callable[[], Any]) -> tuple[int, int]:
    """Count the kernels of the second `run` on PyTorch's `meta` device, and its waits of the host."""
    counter, foreach = _Count(), [*_foreach_utils._get_foreach_kernels_supported_devices(), "meta"]
    with (
        patch.object(_foreach_utils, "_get_foreach_kernels_supported_devices", lambda: foreach),
        patch.object(torch, "Generator", lambda *_, make=torch.Generator, **__: make()),
        patch.object(torch, "autocast", lambda *_, **__: nullcontext()),  # `meta` has none
        patch.object(layers, "scaled_dot_product_attention", _fused),
        counter,
    ):
        run()  # fills caches
        counter.kernels = counter.waits = 0
        run()
    return counter.kernels, counter.waits


class _Count(_python_dispatch.TorchDispatchMode):
    kernels = waits = 0  # as on a GPU, each ATen operation is a kernel, but for views and empty tensors

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, reads, is_copy = kwargs or {}, _is_on_device(args), operation is ATEN._to_copy.default
        if reads and is_copy and "cpu" in str(kwargs.get("device")):
            result = torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        else:
            result = operation(*args, **kwargs)
        writes, name = _is_on_device(result), operation.name()
        self.kernels += (reads or writes) and not operation.is_view and not ("empty" in name or "_unsafe_view" in name)
        self.waits += is_copy and reads != writes and not kwargs.get("non_blocking")
        return result


def _fused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attn_mask: Any = None, **_: Any) -> torch.Tensor:
    """Run attention as a single kernel, as on a GPU; on `meta`, PyTorch would split it."""
    bias = None if attn_mask is None else attn_mask.expand(*q.shape[:-1], k.shape[-2])
    return ATEN._scaled_dot_product_efficient_attention(q, k, v, bias, q.requires_grad)[0]


def _is_on_device(*values: Any) -> bool:
    return any(isinstance(leaf, torch.Tensor) and leaf.device.type == "meta" for leaf in _pytree.tree_leaves(values))


if __name__ == "__main__":
    cli.run(benchmark, "benchmark")
