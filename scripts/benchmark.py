"""What our code costs beside the plain way, as ratios measured side by side: `python -m scripts.benchmark NAME`."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from json import dumps
from typing import Any

from tqdm import tqdm

from common.files import whole
from common.preflight import InputError
from scripts import cli
from scripts.quickstart import ENVIRONMENT

__all__ = ["benchmark"]

STEP = """
import time, torch
from monai.losses import DiceFocalLoss
from monai.networks.nets import SwinUNETR
from common.networks import settings
size = settings("micro")
network = SwinUNETR(4, 3, depths=size.depths, feature_size=size.feature_size, window_size=size.window_size)
image, label = torch.randn(2, 4, 64, 64, 64), (torch.rand(2, 3, 64, 64, 64) > 0.9).float()
loss = DiceFocalLoss(sigmoid=True, gamma=0.0)
optimizer = torch.optim.AdamW(network.parameters())
for step in range(6):
    start = time.perf_counter() if step == 2 else start if step > 2 else 0
    optimizer.zero_grad()
    loss(network(image), label).backward()
    optimizer.step()
print((time.perf_counter() - start) / 4)
"""


def benchmark(name: str, repeats: int = 5, json: str | None = None) -> None:  # the option's name is fixed
    """Time variants in turn, A B A B ..., and print each one's median and its median ratio to the first.

    Args:
        name: views (corruption of a batch on one thread: all boxes at once, beside box by box), step (a fine-tuning
            step of the quick start on one thread: with its environment, beside without), or precision (steps of both
            networks on one thread: in float32, beside bfloat16).
        repeats: how often each variant is timed.
        json: a file that gets the figures too.
    """
    if name not in BENCHMARKS:
        raise InputError(f"benchmark {name}: expected one of {', '.join(BENCHMARKS)}")
    if not isinstance(repeats, int) or repeats < 1:
        raise InputError(f"--repeats={repeats}: expected a whole number from 1")
    variants = BENCHMARKS[name]()
    times: dict[str, list[float]] = {variant: [] for variant in variants}
    for _ in tqdm(range(repeats), desc=name):
        for variant, run in variants.items():
            times[variant].append(run())
    first = next(iter(times.values()))
    rows = {
        variant: {
            "seconds": statistics.median(values),
            "ratio": statistics.median(mine / base for mine, base in zip(values, first, strict=True)),
        }
        for variant, values in times.items()
    }
    for variant, row in rows.items():
        print(f"{variant:<28} {row['seconds']:9.4f} s   x {row['ratio']:.2f}")
    if json:
        with whole(json) as file:
            file.write_text(dumps({"benchmark": name, "repeats": repeats, "variants": rows}, indent=1) + "\n")


def _views() -> dict[str, Callable[[], float]]:
    import torch

    from common.views import corrupt

    torch.set_num_threads(1)
    crops = torch.randn(4, 2, 96, 96, 96)
    ours, plain = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    return {
        "all boxes at once (ours)": lambda: _timed(lambda: corrupt(crops, ours)),
        "box by box": lambda: _timed(lambda: _corrupt_box_by_box(crops, plain)),
    }


def _timed(run: Callable[[], Any]) -> float:
    """Seconds of processor time: other work on the machine does not count."""
    start = time.process_time()
    run()
    return time.process_time() - start


def _corrupt_box_by_box(crops: Any, generator: Any) -> Any:
    """The plain way: noise into one box after the other, then boxes of a partner."""
    import torch

    result = crops.clone()
    darkest, brightest = crops.amin(dim=(2, 3, 4), keepdim=True), crops.amax(dim=(2, 3, 4), keepdim=True)
    for index, sample in enumerate(result):
        for box in _draw_boxes(sample.shape[1:], generator):
            place = sample[(slice(None), *box)]
            noise = torch.randn(place.shape, generator=generator)
            noise = (noise - noise.min()) / (noise.max() - noise.min())
            place.copy_(torch.lerp(darkest[index], brightest[index], noise))
    for index, sample in enumerate(result):
        partner = int(torch.randint(len(result), (1,), generator=generator))
        if partner != index:
            for box in _draw_boxes(sample.shape[1:], generator):
                sample[(slice(None), *box)] = result[partner][(slice(None), *box)]
    return result


def _draw_boxes(shape: Any, generator: Any) -> Any:
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


def _step() -> dict[str, Callable[[], float]]:
    def run(environment: dict[str, str]) -> float:
        variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
        command = [sys.executable, "-W", "ignore", "-c", STEP]
        return float(subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout)

    return {"quick start's environment": lambda: run(ENVIRONMENT), "plain": lambda: run({})}


def _precision() -> dict[str, Callable[[], float]]:
    import torch
    from monai.losses import DiceLoss
    from monai.networks.nets import SwinUNETR

    from common.losses import SSLLoss
    from common.networks import SSLHead, settings
    from common.views import TwoViews

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
    """One optimiser step as the bundles make it, on a copy of the network; `parts`: network, loss, prepare_batch."""
    from copy import deepcopy

    import torch
    from monai.engines import SupervisedTrainer

    from common.datasets import Batches
    from common.training import Step

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


BENCHMARKS = {"views": _views, "step": _step, "precision": _precision}

if __name__ == "__main__":
    cli.run(benchmark, "benchmark")
