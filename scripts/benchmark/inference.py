"""Segmentation of a whole case: our command, and stock code built from MONAI's components."""

import atexit
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common import ROOT
from common.errors import show
from common.options import cpu_has_bfloat16
from scripts.benchmark.timing import PLAIN_MEMORY, Works, measure

SIZE, EDGE, OVERLAP = "small", 96, 0.5
FINE_TUNING = ROOT / "bundles/brats_finetune"


def inference() -> Works:
    """Return the variants that segment a BraTS case [240, 240, 155] with random weights, which suffice for timing."""
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    ours, stock = commands("cpu", Path(folder.name))
    stock = partial(stock, environment=PLAIN_MEMORY)
    variants = {
        "ours": partial(ours, "--amp=false"),
        "ours, bfloat16": partial(ours, "--amp=bf16"),
        "stock": stock,
        "stock, cropped to the brain": partial(stock, "cropped"),
    }
    if not cpu_has_bfloat16():  # an hour or more
        del variants["ours, bfloat16"]
        show("inference: bfloat16 is left out, as this processor does not compute in it")
    return {"inference": variants}


def commands(
    device: str, folder: Path, size: str = SIZE, edge: int = EDGE, spacing: float = 1.0
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return two functions that measure our command and the stock command on a phantom in `folder`.

    Make the phantom and a checkpoint unless `folder` has a checkpoint.
    """
    from scripts.phantoms.cohort import make

    if not (folder / "model.pt").exists():
        make("brats", 1, str(folder / "scans"), spacing=spacing, workers=1)
        write_checkpoint(folder / "model.pt", size, edge)
    checkpoint = str(folder / "model.pt")
    ours = ["monai.bundle", "run", "--config_file=configs/inference.yaml", f"--dataset_dir={folder / 'scans'}"]
    ours += [f"--checkpoint={checkpoint}", "--existing=replace", "--num_workers=0", f"--device={device}"]
    ours += [f"--output_dir={folder / 'ours'}"]
    stock = [device, checkpoint, str(folder / "scans"), str(folder / "stock")]
    return partial(measure, *ours, folder=FINE_TUNING), partial(measure, "scripts.benchmark.inference", *stock)


def write_checkpoint(file: Path, size: str, edge: int) -> None:
    """Write a brats_finetune checkpoint with random weights; `edge` is the edge of a sliding window in voxels."""
    from common.weights import write

    metadata: dict[str, Any] = {"bundle": "brats_finetune", "network": "SwinUNETR", "model_size": size}
    metadata |= {"modalities": ["FLAIR", "T1ce", "T1", "T2"], "patch_size": [edge] * 3, "label_convention": "brats2021"}
    write({"network": _network(size).state_dict(), "metadata": metadata}, file)


def _network(size: str) -> Any:
    import torch

    from common.ssl.networks import swin_unetr

    torch.manual_seed(0)
    return swin_unetr(4, 3, size).eval()


def segment(device: str, checkpoint: str, source: str, output: str, extent: str = "whole") -> None:
    """Segment BraTS cases with MONAI's network, transforms and sliding windows, as its tutorials do.

    Write a file per case with a channel for each region. On a GPU, the network runs under bfloat16 autocast, on as many
    windows at a time as ours. `extent` is whole, or cropped: MONAI's `CropForegroundd` crops the volumes first.
    """
    import torch
    from monai.data import DataLoader, Dataset, decollate_batch
    from monai.inferers import sliding_window_inference
    from monai.transforms import (
        Activationsd,
        AsDiscreted,
        Compose,
        CropForegroundd,
        EnsureChannelFirstd,
        Invertd,
        LoadImaged,
        NormalizeIntensityd,
        Orientationd,
        SaveImaged,
    )

    from common.inference.windows import BATCH

    names = ("flair", "t1ce", "t1", "t2")
    first = sorted(str(file) for file in Path(source).rglob("*_flair.nii.gz"))
    cases = [{"image": [file.replace("_flair.nii.gz", f"_{name}.nii.gz") for name in names]} for file in first]
    before = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS", labels=None),
            *([CropForegroundd("image", source_key="image", allow_smaller=True)] if extent == "cropped" else []),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        ]
    )
    after = Compose(
        [
            Activationsd("pred", sigmoid=True),
            Invertd("pred", transform=before, orig_keys="image", nearest_interp=False),
            AsDiscreted("pred", threshold=0.5),
            SaveImaged("pred", output_dir=output, print_log=False, separate_folder=False),
        ]
    )
    saved = torch.load(checkpoint, weights_only=True)
    network = _network(saved["metadata"]["model_size"])
    network.load_state_dict(saved["network"])
    network.to(device)
    autocast = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=device != "cpu")
    for batch in DataLoader(Dataset(cases, before), batch_size=1):
        with torch.no_grad(), autocast:
            windows = {
                "roi_size": saved["metadata"]["patch_size"],
                "sw_batch_size": BATCH[torch.device(device).type],
                "overlap": OVERLAP,
                "mode": "gaussian",
            }
            logits = sliding_window_inference(batch["image"].to(device), predictor=network, **windows)
            batch["pred"] = logits.float().cpu()
        for case in decollate_batch(batch):
            after(case)


if __name__ == "__main__":
    segment(*sys.argv[1:])
