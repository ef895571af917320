"""Compare our code's speed with plain implementations, measured side by side: `python -m scripts.benchmark NAME`."""

import atexit
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from json import dumps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from tqdm import tqdm

from common import cli
from common.errors import InputError, check_number
from common.files import atomic_write, check_writable_file

__all__ = ["benchmark", "draw_boxes", "draw_case", "metrics_variants", "reading_batches", "score_plainly"]

ROOT = Path(__file__).resolve().parents[2]
CROPS = 4  # of a batch whose reading is timed

STEP = """
import time, torch
from monai.losses import DiceFocalLoss
from monai.networks.nets import SwinUNETR
from common.ssl.networks import settings
size = settings("micro")
network = SwinUNETR(4, 3, depths=size.depths, feature_size=size.feature_size, window_size=size.window_size)
image, label = torch.randn(2, 4, 64, 64, 64), (torch.rand(2, 3, 64, 64, 64) > 0.9).float()
loss = DiceFocalLoss(sigmoid=True, gamma=0.0)
optimizer = torch.optim.AdamW(network.parameters())
for step in range(6):
    start = time.process_time() if step == 2 else start if step > 2 else 0
    optimizer.zero_grad()
    loss(network(image), label).backward()
    optimizer.step()
seconds = (time.process_time() - start) / 4
"""
ATTENTION = """
import sys, time, torch
from common.ssl import SSLHead, set_attention
network = set_attention(SSLHead(2, "small"), sys.argv[1])
image = torch.randn(1, 2, 96, 96, 96)
optimizer = torch.optim.AdamW(network.parameters())
for step in range(3):
    start = time.process_time() if step == 1 else start if step > 1 else 0
    optimizer.zero_grad()
    sum(output.square().mean() for output in network(image).values()).backward()
    optimizer.step()
seconds = (time.process_time() - start) / 2
"""
REPORT = """
from common.memory import peak_resident
print(seconds, peak_resident())
"""
PLAIN = {"THP_MEM_ALLOC_ENABLE": "0"}  # leaves memory as PyTorch and glibc have it


class Measured(NamedTuple):
    """Seconds, and the most memory that a process had in GiB (resident set); None if it ran with others in one."""

    seconds: float
    peak: float | None = None


def benchmark(name: str, repeats: int = 5, json: str | None = None) -> None:  # the option's name is fixed
    """Time variants in turn (A B A B ...), and print the median of each and its median ratio to the first.

    Args:
        name: views (corruption of a batch: boxes and noise drawn together, or each box on its own), step (a fine-tuning
            step of the quick start, with huge pages and memory kept as in every command, or plain), attention (a
            pretraining step, scores recomputed or stored as in MONAI), precision (training steps of both networks in
            float32 or bfloat16), metrics (lesion-wise scores of a case, ours or on whole volumes for each lesion),
            reading (a batch of stage 1 from disk, from a store or not, one or several crops of each volume), or crops
            (of the fine-tuning on ATLAS, half of them turned; sampled from the volume, or cut out first). All run on
            one thread.
        repeats: number of timings of each variant.
        json: file for the figures.
    """
    if name not in BENCHMARKS:
        raise InputError(f"benchmark {name}: expected one of {', '.join(BENCHMARKS)}")
    check_number("repeats", repeats, int, 1)
    if json:
        check_writable_file(json, f"--json={json}")
    variants = BENCHMARKS[name]()
    taken: dict[str, list[Measured]] = {variant: [] for variant in variants}
    for _ in tqdm(range(repeats), desc=name):
        for variant, run in variants.items():
            found = run()
            taken[variant].append(found if isinstance(found, Measured) else Measured(found))
    first = next(iter(taken.values()))
    rows = {variant: _row(values, first) for variant, values in taken.items()}
    for variant, row in rows.items():
        spread = f" ({row['lowest']:.2f} to {row['highest']:.2f})"
        peak = f"   {row['peak']:.2f} GiB" if "peak" in row else ""
        print(f"{variant:<28} {row['seconds']:9.4f} s   x {row['ratio']:.2f}{spread}{peak}")
    if json:
        with atomic_write(json) as file:
            file.write_text(dumps({"benchmark": name, "repeats": repeats, "variants": rows}, indent=1) + "\n")


def _row(values: list[Measured], first: list[Measured]) -> dict[str, float]:
    """The medians of a variant, its ratio to the first one with lowest and highest, and its peak if it was measured."""
    ratios = [mine.seconds / base.seconds for mine, base in zip(values, first, strict=True)]
    row = {"seconds": statistics.median(each.seconds for each in values), "ratio": statistics.median(ratios)}
    row |= {"lowest": min(ratios), "highest": max(ratios)}
    peaks = [each.peak for each in values if each.peak is not None]
    return row | {"peak": statistics.median(peaks)} if peaks else row


def _views() -> dict[str, Callable[[], float]]:
    import torch

    from common.ssl.views import corrupt

    torch.set_num_threads(1)
    crops = torch.randn(4, 2, 96, 96, 96)
    ours, plain = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    return {
        "drawn together (ours)": lambda: _timed(lambda: corrupt(crops, ours)),
        "each box on its own": lambda: _timed(lambda: _corrupt_box_by_box(crops, plain)),
    }


def _timed(run: Callable[[], Any]) -> float:
    """Seconds of processor time, which excludes other work on the machine."""
    start = time.process_time()
    run()
    return time.process_time() - start


def _corrupt_box_by_box(crops: Any, generator: Any) -> Any:
    """The plain implementation: noise into one box after the other, then boxes of a partner."""
    import torch

    result = crops.clone()
    darkest, brightest = crops.amin(dim=(2, 3, 4), keepdim=True), crops.amax(dim=(2, 3, 4), keepdim=True)
    for index, sample in enumerate(result):
        for box in draw_boxes(sample.shape[1:], generator):
            place = sample[(slice(None), *box)]
            noise = torch.randn(place.shape, generator=generator)
            noise = (noise - noise.min()) / (noise.max() - noise.min())
            place.copy_(torch.lerp(darkest[index], brightest[index], noise))
    for index, sample in enumerate(result):
        partner = int(torch.randint(len(result), (1,), generator=generator))
        if partner != index:
            for box in draw_boxes(sample.shape[1:], generator):
                sample[(slice(None), *box)] = result[partner][(slice(None), *box)]
    return result


def draw_boxes(shape: Any, generator: Any) -> Any:
    """Random boxes as slices of the axes, until they cover a random share, up to 30 %, of a volume."""
    import torch

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    target = float(torch.rand(1, generator=generator)) * 0.3 * shape.numel()
    covered = 0
    while covered < target:
        box = []
        for side in shape:
            start = draw(0, side - int(0.05 * side))
            box.append(slice(start, min(side, start + draw(int(0.05 * side), int(0.25 * side)))))
        covered += (box[0].stop - box[0].start) * (box[1].stop - box[1].start) * (box[2].stop - box[2].start)
        yield box


def _step() -> dict[str, Callable[[], Measured]]:
    return {
        "huge pages (ours)": lambda: _in_process(STEP, {}),
        "plain": lambda: _in_process(STEP, PLAIN),
    }


def _attention() -> dict[str, Callable[[], Measured]]:
    return {
        "recomputed (ours)": lambda: _in_process(ATTENTION, {}, "recomputed"),
        "recomputed, plain memory": lambda: _in_process(ATTENTION, PLAIN, "recomputed"),
        "stored": lambda: _in_process(ATTENTION, {}, "stored"),
        "stored, plain memory (MONAI)": lambda: _in_process(ATTENTION, PLAIN, "stored"),
    }


def _in_process(program: str, environment: dict[str, str], *arguments: str) -> Measured:
    """What a program, which leaves `seconds`, takes in a process of its own with one thread."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("THP_", "MALLOC_"))}
    command = [sys.executable, "-W", "ignore", "-c", program + REPORT, *arguments]
    variables = inherited | {"OMP_NUM_THREADS": "1"} | environment
    ended = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    return Measured(*map(float, ended.stdout.split()))


def _precision() -> dict[str, Callable[[], float]]:
    import torch
    from monai.losses import DiceLoss
    from monai.networks.nets import SwinUNETR

    from common.ssl.losses import SSLLoss
    from common.ssl.networks import SSLHead, settings
    from common.ssl.views import TwoViews

    torch.set_num_threads(1)
    size = settings("micro")
    shape = {"depths": size.depths, "feature_size": size.feature_size, "window_size": size.window_size}
    crops = {"image": torch.randn(2, 4, 64, 64, 64), "label": (torch.rand(2, 3, 64, 64, 64) > 0.9).float()}
    pretraining = SSLHead(4, "micro"), SSLLoss(), TwoViews()
    fine_tuning = SwinUNETR(4, 3, **shape), DiceLoss(sigmoid=True), lambda batch, *_: (batch["image"], batch["label"])
    return {
        f"{name}, {kind}": _training_step(parts, crops, dtype)
        for name, parts in (("fine-tuning", fine_tuning), ("pretraining", pretraining))
        for kind, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    }


def _training_step(parts: tuple[Any, Any, Any], crops: Any, dtype: Any) -> Callable[[], float]:
    """One optimiser step as in the bundles, on a copy of the network; `parts`: network, loss, prepare_batch."""
    from copy import deepcopy

    import torch
    from monai.engines import SupervisedTrainer

    from common.data.datasets import Batches
    from common.training.step import Step

    network, loss, prepare = deepcopy(parts)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[],
        network=network,
        optimizer=torch.optim.AdamW(network.parameters()),
        loss_function=loss,
        prepare_batch=prepare,
    )
    step = Step(dtype)
    step(trainer, Batches(iter([crops]), 1))  # allocates the optimiser's moments
    return lambda: _timed(lambda: step(trainer, Batches(iter([crops]), 1)))


def metrics_variants() -> dict[str, Callable[[], float]]:
    """The variants of the benchmark metrics; each checks the plain figures against ours and returns its seconds."""
    from common.metrics.protocols import brats

    prediction, reference = draw_case()
    expected = brats(prediction, reference).values

    def run_plainly(in_boxes: bool) -> None:
        figures = score_plainly(prediction, reference, in_boxes)
        for name, figure in figures.items():
            if abs(figure - expected[name]) > 1e-6:
                raise AssertionError(f"{name} is {figure} by the plain implementation; ours is {expected[name]}")

    return {
        "boxes (ours)": lambda: _timed(lambda: brats(prediction, reference)),
        "boxes only for distances": lambda: _timed(lambda: run_plainly(True)),
        "whole volumes": lambda: _timed(lambda: run_plainly(False)),
    }


def draw_case() -> tuple[Any, Any]:
    """A prediction and a reference [240, 240, 155] at 1 mm: ten lesions in an ellipsoid, one missed; a false one."""
    import numpy as np
    from scipy import ndimage

    draw = np.random.default_rng(0)
    shape, middle, brain = (240, 240, 155), np.array([120, 120, 78]), np.array([65, 80, 58])  # mm
    lesions: list[tuple[Any, float]] = []
    for radius in (24, 16, 11, 8, 6, 5, 4, 3, 2.5, 2, 4):  # mm; the last one is false
        while True:
            centre = middle + draw.uniform(-1, 1, 3) * brain
            inside = (((centre - middle) / (brain - radius)) ** 2).sum() < 1
            if inside and all(np.linalg.norm(centre - c) > 1.3 * (radius + r) + 8 for c, r in lesions):
                break
        lesions.append((centre, radius))
    grid = np.ogrid[tuple(slice(side) for side in shape)]

    def drawn(some: list[tuple[Any, float]], roughness: Any) -> Any:
        mask = np.zeros(shape, dtype=bool)
        for centre, radius in some:
            mask |= sum((axis - at) ** 2 for axis, at in zip(grid, centre, strict=True)) < (radius * roughness) ** 2
        return mask

    rough, error = (ndimage.zoom(draw.normal(size=(40, 40, 31)), (6, 6, 5), order=1) for _ in range(2))
    reference = drawn(lesions[:-1], 1 + 0.1 * rough)
    return drawn([*lesions[:6], *lesions[7:]], 1 + 0.1 * rough + 0.1 * error), reference


def score_plainly(prediction: Any, reference: Any, in_boxes: bool) -> dict[str, float]:
    """The plain implementation of BraTS's scores at 1 mm, on whole volumes for each lesion.

    With `in_boxes`, distances are measured in the bounding box of both masks, as in the challenge's code.
    """
    import cc3d
    import numpy as np
    from scipy import ndimage

    def scored(found: Any, lesion: Any) -> tuple[float, float]:
        dice = 2 * (found & lesion).sum() / (found.sum() + lesion.sum())
        return float(dice), _hd95_by_transforms(found, lesion, in_boxes) if found.any() else 374.0

    neighbours = ndimage.generate_binary_structure(3, 2)
    components = cc3d.connected_components(prediction.view(np.uint8), connectivity=26)
    extents = ndimage.binary_dilation(reference, neighbours, iterations=3)
    lesions = cc3d.connected_components(extents.view(np.uint8), connectivity=26) * reference
    matched, scores = {0}, []
    for label in range(1, int(lesions.max()) + 1):
        lesion = lesions == label
        hits = np.unique(components * ndimage.binary_dilation(lesion, neighbours, iterations=3))
        matched.update(hits.tolist())
        if lesion.sum() > 50:  # mm3
            scores.append(scored(np.isin(components, hits[hits > 0]), lesion))
    scores += [(0.0, 374.0)] * len(set(np.unique(components).tolist()) - matched)
    dice, hd95 = scored(prediction, reference)
    means = [statistics.fmean(figures) for figures in zip(*scores, strict=True)]
    return {"lesionwise_dice": means[0], "lesionwise_hd95": means[1], "dice": dice, "hd95": hd95}


def _hd95_by_transforms(first: Any, second: Any, in_box: bool) -> float:
    """DeepMind's robust Hausdorff distance at 1 mm."""
    import numpy as np
    from scipy import ndimage
    from surface_distance.lookup_tables import create_table_neighbour_code_to_surface_area

    (box,) = ndimage.find_objects((first | second).view(np.uint8)) if in_box else [...]
    bits = np.array([[[128, 64], [32, 16]], [[8, 4], [2, 1]]])
    codes = [ndimage.correlate(np.pad(mask[box], 1).view(np.uint8), bits, mode="constant") for mask in (first, second)]
    surfaces = [(code > 0) & (code < 255) for code in codes]
    area = create_table_neighbour_code_to_surface_area((1, 1, 1))
    ways = []
    for code, here, there in zip(codes, surfaces, surfaces[::-1], strict=True):
        distances, areas = ndimage.distance_transform_edt(~there)[here], area[code[here]]
        order = np.lexsort((areas, distances))
        place = int(np.searchsorted(np.cumsum(areas[order]) / np.sum(areas[order]), 0.95))
        ways.append(float(distances[order[min(place, len(order) - 1)]]))
    return max(ways)


def _reading() -> dict[str, Callable[[], float]]:
    import torch

    from scripts.phantoms.cohort import make
    from scripts.phantoms.layouts import LAYOUTS

    torch.set_num_threads(1)
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    make("ukb", 2, folder.name, workers=1)
    cases = [LAYOUTS["ukb"].case(number) for number in range(2)]
    entries = [
        {"subject": case.subject, "image": [f"{folder.name}/{case.images[name]}" for name in ("T1", "FLAIR")]}
        for case in cases
    ]

    def variant(crops_per_volume: int, store: str | None = None) -> Callable[[], float]:
        batches = reading_batches(entries, crops_per_volume, store)
        next(batches)  # a store verifies a file when it is read for the first time
        return lambda: _timed(lambda: next(batches))

    return {
        "4 volumes, 1 crop of each, from a store": variant(1, f"{folder.name}/store"),
        "4 volumes, 1 crop of each": variant(1),
        "2 volumes, 2 of each": variant(2),
        "1 volume, 4 of it": variant(4),
    }


def reading_batches(
    entries: list[dict[str, Any]], crops_per_volume: int, store: str | None = None
) -> Iterator[dict[str, Any]]:
    """Endless training batches of four crops, by stage 1's transforms.

    Args:
        entries: as `Datalist.load` returns them.
        crops_per_volume: number of crops from each volume that is read.
        store: folder for a store of the volumes, which is filled; None to read the scans' own files.
    """
    from monai.bundle import ConfigParser
    from monai.data import DataLoader
    from monai.transforms import Compose

    from common.data.datasets import CaseDataset, CaseSampler
    from common.data.store import Store

    config = ConfigParser()
    config.read_config(ROOT / "bundles/ukb_ssl_pretrain/configs/train.yaml")
    config["crops_per_volume"], config["batch_size"] = crops_per_volume, CROPS
    names = ("deterministic_transforms", "train::random_transforms")
    transforms = [transform for name in names for transform in config.get_parsed_content(name)]
    composed = Compose(transforms)
    if store is not None:
        for entry in entries:
            Store(store, composed).add(entry)
    dataset = CaseDataset(entries, composed, store=store)
    return iter(DataLoader(dataset, batch_size=CROPS // crops_per_volume, sampler=CaseSampler(entries)))


def _crops() -> dict[str, Callable[[], float]]:
    import torch
    from monai.bundle import ConfigParser
    from monai.data import MetaTensor
    from monai.transforms import Compose

    torch.set_num_threads(1)
    config = ConfigParser()
    config.read_config(ROOT / "bundles/atlas_finetune/configs/train.yaml")
    config["deterministic_transforms"] = []
    ours = config.get_parsed_content("train::preprocessing")
    plain = Compose(ours.transforms)  # without `lazy`: one transform after the other
    draw = torch.Generator().manual_seed(0)
    image = MetaTensor(torch.randn(1, 197, 233, 189, generator=draw))
    case = {"image": image, "label": MetaTensor((image > 3).float())}

    def run(transforms: Any) -> float:
        transforms.set_random_state(seed=0)
        return _timed(lambda: [transforms(case) for _ in range(20)]) / 20

    return {"from the volume (ours)": lambda: run(ours), "cut out, then turned": lambda: run(plain)}


BENCHMARKS: dict[str, Callable[[], Mapping[str, Callable[[], float | Measured]]]] = {
    "views": _views,
    "step": _step,
    "attention": _attention,
    "precision": _precision,
    "metrics": metrics_variants,
    "reading": _reading,
    "crops": _crops,
}

if __name__ == "__main__":
    cli.run(benchmark, "benchmark")
